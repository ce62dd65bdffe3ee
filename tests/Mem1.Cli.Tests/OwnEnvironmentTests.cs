// The documented example is built away from this checkout, as a user builds it, and trained in; then the ways an assembly can be wrong,
// composed task files, the curriculum and mixes. What only a user can see goes through the program; each other mistake is made in this
// process, where it costs no start of a program.
using System.Diagnostics;
using System.Reflection;
using System.Reflection.Emit;
using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Environments;

namespace Mem1.Cli.Tests;

public sealed class OwnEnvironmentTests
{
    // A new model that knows next to nothing plays as well as any other here.
    private static readonly string[] s_shortest =
        ["--quick", "--set", "cloning.steps=2", "--set", "cloning.warmup_steps=1", "--set", "evaluation.episodes=2"];

    private static readonly Lazy<string> s_examples = new(() =>
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Mem1.sln"))) return Path.Combine(at.FullName, "examples");
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Mem1.sln.");
    });

    [Fact]
    public void The_example_is_built_outside_the_solution_and_trained_in_alone_and_in_a_mix()
    {
        using var folder = new TempFolder();
        var assembly = BuildExample(folder);

        Cli.Run(["train", "--env", assembly, .. s_shortest, "--runs", folder["runs"]]).Succeeded();

        var run = folder["runs", "quick"];
        Assert.Equal(3, Runs.Metrics(run).Count);
        Assert.Contains("kind: assembly", File.ReadAllText(Path.Combine(run, "config.yaml")), StringComparison.Ordinal);
        Assert.Contains("Find a number", File.ReadAllText(Path.Combine(run, "trajectories.jsonl")), StringComparison.Ordinal);

        // The run goes on from its own config, from any folder.
        Cli.Run("train", "--resume", "--updates", "4", "--runs", folder["runs"]).Succeeded();
        Assert.Equal(4, Runs.Metrics(run).Count);

        var mix = folder.Write("mix.yaml", $$"""
            environment:
              kind: mix
              max_objectives: 1
              mix:
              - {kind: assembly, share: 3, assembly: "{{assembly}}"}
              - {kind: assembly, share: 1, assembly: "{{assembly}}"}
            """);
        // The command line and the file disagree.
        Assert.Contains(
            "environment.assembly is set but environment.kind is mix",
            Refusal(ConfigFile.Load(mix, [], Presets.For(null, null, quick: true, fromScratch: false, assembly)).Config));
        Cli.Run(
        [
            "train", .. s_shortest, "--config", mix, "--runs", folder["runs"], "--name", "mixed", "--set", "model.from=new",
            "--set", "checkpoint.sampled_trajectories=8", "--set", "evaluation.objectives=[1]", "--updates", "1",
        ]).Succeeded();
        var played = File.ReadAllText(folder["runs", "mixed", "trajectories.jsonl"]);
        Assert.Contains("1-higher-lower/", played, StringComparison.Ordinal);
        Assert.Contains("2-higher-lower/", played, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_no_module_is_refused_in_one_sentence()
    {
        using var folder = new TempFolder();
        string Train(string assembly, params string[] words) =>
            Refusals.Refused(["train", "--env", assembly, "--quick", "--runs", folder["runs"], "--name", "refused"], words);

        Train(folder["none.dll"], "does not exist");
        Train(folder.Write("text.dll", "no assembly"), "is not a .NET assembly");
        Assert.False(Directory.Exists(folder["runs", "refused"]));

        string Load(string name, params Module[] modules) =>
            Assert.Throws<UserErrorException>(() => EnvironmentAssembly.Load(Emit(folder[name], modules))).Message;
        Assert.Contains(
            "does not have a public class that implements IEnvironmentModule", Load("nothing.dll", new Module("Nothing", IsModule: false)));
        Assert.Contains("has 2 classes that implement IEnvironmentModule (A, B)", Load("two.dll", new Module("A"), new Module("B")));
        var parameter = Load("parameter.dll", new Module("C", Parameter: true));
        Assert.Contains("C of", parameter);
        Assert.Contains("cannot be made", parameter);
        Assert.Contains("failed when it was made (no disk)", Load("throws.dll", new Module("D", Throws: "no disk")));
        Assert.NotNull(EnvironmentAssembly.Load(Emit(folder["sound.dll"], [new Module("E")])));
    }

    [Fact]
    public void Composed_tasks_a_curriculum_and_their_mistakes()
    {
        using var folder = new TempFolder();
        var corpus = folder.Write("c.jsonl", string.Join('\n', Enumerable.Range(0, 40).Select(
            i => $$"""{"id": "{{i}}", "contents": "\"Town {{i}}\"\nThe river of town {{i}} is called river{{i}}."}""")));
        var questions = folder.Write("q.jsonl", string.Join('\n', Enumerable.Range(0, 40).Select(
            i => $$"""{"id": "{{i}}", "question": "which river has town {{i}}", "golden_answers": ["river{{i}}"], """
                + $"\"weight\": {1 + (i % 2)}}}")));
        Cli.Run("data", "compose", "--tasks", questions, "--objectives", "2", "--out", folder["two.jsonl"]).Succeeded();
        Cli.Run("data", "compose", "--tasks", questions, "--objectives", "3", "--out", folder["three.jsonl"]).Succeeded();
        // Both numbers in one file, with ids of their own.
        var both = folder.Write("both.jsonl", File.ReadAllText(folder["two.jsonl"])
            + File.ReadAllText(folder["three.jsonl"]).Replace("{\"id\":\"q-", "{\"id\":\"three-", StringComparison.Ordinal));
        string[] train = ["train", "--corpus", corpus, "--tasks", both, .. s_shortest, "--runs", folder["runs"]];

        var outcome = Cli.Run([.. train, "--name", "stages", "--set",
            "environment.curriculum=[{from_update: 1, min_objectives: 2, max_objectives: 2}, "
            + "{from_update: 3, min_objectives: 3, max_objectives: 3}]"]).Succeeded();

        int[] counts =
        [
            .. Runs.Lines(folder["runs", "stages", "trajectories.jsonl"])
                .Select(t => t.GetRawText().Contains("-n3-", StringComparison.Ordinal) ? 3 : 2),
        ];
        Assert.Contains(2, counts);
        Assert.Contains(3, counts);
        Assert.Equal(counts.Order(), counts);
        Assert.Contains("Held-out", outcome.Out, StringComparison.Ordinal);

        string Refused(params string[] settings)
        {
            try
            {
                return Refusal(ConfigFile.Load(null, settings, Presets.For(corpus, both, quick: true, fromScratch: false)).Config);
            }
            catch (UserErrorException e)
            {
                return e.Message;
            }
        }

        Refusals.Refused(
            [.. train, "--name", "refused", "--set", "environment.max_objectives=1", "--set", "environment.min_objectives=1"],
            "a task of 1 to 1 objectives is asked for, but the training tasks have 2, 3");
        Assert.Contains("evaluation.objectives asks for 5, but the held-out tasks have 2, 3", Refused("evaluation.objectives=[2, 5]"));
        var unknown = Refused("environment.curriculum=[{from_update: 2, max: 1}]");
        Assert.Contains("environment.curriculum[0].max", unknown);
        Assert.Contains("did you mean", unknown);
        Assert.Contains("must be a list whose items hold keys and values", Refused("environment.curriculum=[3]"));
        Assert.Contains(
            "3 to 2 objectives", Refused("environment.curriculum=[{from_update: 2, min_objectives: 3, max_objectives: 2}]"));
        Assert.Contains(
            "mix environments of one tokenizer",
            Refusal(ConfigFile.Load(
                null, ["environment={kind: mix, mix: [{kind: worlds}, {kind: retrieval, corpus: c, tasks: t}]}"], new RunConfig()).Config));
        Refusals.Refused(["data", "compose", "--tasks", questions, "--objectives", "65", "--out", folder["o"]], "must be 1 to 64");
        Refusals.Refused(["data", "compose", "--tasks", questions, "--out", questions], "different files");
    }

    [Fact]
    public void Two_kinds_of_worlds_make_one_run()
    {
        using var folder = new TempFolder();
        var config = folder.Write("mix.yaml", """
            environment:
              kind: mix
              max_objectives: 2
              mix:
              - {kind: worlds, share: 1}
              - {kind: worlds, share: 1, worlds: {documents: 2}}
            """);
        Cli.Run("train", "--quick", "--config", config, "--runs", folder["runs"], "--set", "evaluation.episodes=0", "--updates", "1",
            "--set", "checkpoint.sampled_trajectories=8").Succeeded();
        var played = File.ReadAllText(folder["runs", "quick", "trajectories.jsonl"]);
        Assert.Contains("1-worlds/", played, StringComparison.Ordinal);
        Assert.Contains("2-worlds/", played, StringComparison.Ordinal);
    }

    /// <summary>The sentence by which a config is refused, or its environment when the config itself is sound.</summary>
    private static string Refusal(RunConfig config) => Assert.Throws<UserErrorException>(() =>
    {
        TrainCommand.Require(config);
        EnvironmentSet.Open(config, (_, _) => { }, TestContext.Current.CancellationToken).Dispose();
    }).Message;

    private static string BuildExample(TempFolder folder)
    {
        var project = Directory.CreateTempSubdirectory("mem1 own ").FullName;
        try
        {
            foreach (var file in (string[])["HigherLower.csproj", "HigherLower.cs"])
                File.Copy(Path.Combine(s_examples.Value, "HigherLower", file), Path.Combine(project, file));
            var output = folder["own"];
            var start = new ProcessStartInfo("dotnet") { WorkingDirectory = project };
            foreach (var argument in (string[])
            [
                "build", "-c", "Release", "-v", "q", "--nologo", "-m:1", "-nr:false", "-o", output,
                $"-p:Mem1={AppContext.BaseDirectory.TrimEnd('/')}",
            ])
            {
                start.ArgumentList.Add(argument);
            }

            start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
            Cli.Run(start).Succeeded();
            return Path.Combine(output, "HigherLower.dll");
        }
        finally
        {
            Directory.Delete(project, recursive: true);
        }
    }

    /// <summary>A class to be made without a compiler.</summary>
    private sealed record Module(string Name, bool IsModule = true, bool Parameter = false, string? Throws = null);

    /// <summary>Writes an assembly of such classes; their members return null.</summary>
    private static string Emit(string path, Module[] modules)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName(Path.GetFileNameWithoutExtension(path)), typeof(object).Assembly);
        var into = assembly.DefineDynamicModule("main");
        foreach (var module in modules)
        {
            var type = into.DefineType(module.Name, TypeAttributes.Public | TypeAttributes.Sealed, typeof(object));
            var il = type.DefineConstructor(MethodAttributes.Public, CallingConventions.Standard, module.Parameter ? [typeof(int)] : [])
                .GetILGenerator();
            il.Emit(OpCodes.Ldarg_0);
            il.Emit(OpCodes.Call, typeof(object).GetConstructor([])!);
            if (module.Throws is not null)
            {
                il.Emit(OpCodes.Ldstr, module.Throws);
                il.Emit(OpCodes.Newobj, typeof(InvalidOperationException).GetConstructor([typeof(string)])!);
                il.Emit(OpCodes.Throw);
            }

            il.Emit(OpCodes.Ret);
            if (module.IsModule)
            {
                type.AddInterfaceImplementation(typeof(IEnvironmentModule));
                foreach (var member in typeof(IEnvironmentModule).GetMethods().Where(m => m.IsAbstract))
                {
                    var body = type.DefineMethod(
                        member.Name, MethodAttributes.Public | MethodAttributes.Virtual | MethodAttributes.Final, member.ReturnType, []);
                    body.GetILGenerator().Emit(OpCodes.Ldnull);
                    body.GetILGenerator().Emit(OpCodes.Ret);
                }
            }

            type.CreateType();
        }

        assembly.Save(path);
        return path;
    }
}
