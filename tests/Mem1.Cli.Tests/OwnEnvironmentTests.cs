// The documented example is built away from this checkout, as a user builds it, and trained in; then the ways an assembly can be wrong,
// composed task files, the curriculum and mixes through the program.
using System.Diagnostics;

namespace Mem1.Cli.Tests;

public sealed class OwnEnvironmentTests
{
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
        var assembly = Build(folder, File.ReadAllText(Path.Combine(s_examples.Value, "HigherLower", "HigherLower.cs")));

        Cli.Run("train", "--env", assembly, "--quick", "--runs", folder["runs"]).Succeeded();

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
        var args = new[] { "train", "--env", assembly, "--quick", "--config", mix, "--runs", folder["runs"], "--name", "mixed" };
        Refusals.Refused(args, "environment.assembly is set but environment.kind is mix"); // the command line and the file disagree
        Cli.Run(
            "train", "--quick", "--config", mix, "--runs", folder["runs"], "--name", "mixed", "--set", "model.from=new",
            "--set", "checkpoint.sampled_trajectories=8", "--set", "evaluation.objectives=[1]").Succeeded();
        var played = File.ReadAllText(folder["runs", "mixed", "trajectories.jsonl"]);
        Assert.Contains("1-higher-lower/", played, StringComparison.Ordinal);
        Assert.Contains("2-higher-lower/", played, StringComparison.Ordinal);

        NoModule(folder);
    }

    private static void NoModule(TempFolder folder)
    {
        string Train(string assembly, params string[] words) =>
            Refusals.Refused(["train", "--env", assembly, "--quick", "--runs", folder["runs"], "--name", "refused"], words);

        Train(folder["none.dll"], "does not exist");
        Train(folder.Write("text.dll", "no assembly"), "is not a .NET assembly");
        Train(Build(folder, "public sealed class Nothing;"), "does not have a public class that implements IEnvironmentModule");
        const string Members = """
            { public {0}() { {1} } public Mem1.Environments.IEnvironmentFactory Factory => null!; public Mem1.Environments.ITaskSource Training => null!;
              public Mem1.Environments.ITaskSource HeldOut => null!; }
            """;
        string Module(string name, string body, string parameter = "") =>
            $"public sealed class {name} : Mem1.Environments.IEnvironmentModule "
            + Members.Replace("{0}()", $"{name}({parameter})", StringComparison.Ordinal).Replace("{1}", body, StringComparison.Ordinal);
        Train(Build(folder, Module("A", "") + Module("B", "")), "has 2 classes that implement IEnvironmentModule (A, B)");
        Train(Build(folder, Module("C", "", "int n")), "C of", "cannot be made");
        Train(Build(folder, Module("D", "throw new System.InvalidOperationException(\"no disk\");")), "failed when it was made (no disk)");
        Assert.False(Directory.Exists(folder["runs", "refused"]));
    }

    [Fact]
    public void Composed_tasks_a_curriculum_and_their_mistakes()
    {
        using var folder = new TempFolder();
        var corpus = folder.Write("c.jsonl", string.Join('\n', Enumerable.Range(0, 40).Select(
            i => $$"""{"id": "{{i}}", "contents": "\"Town {{i}}\"\nThe river of town {{i}} is called river{{i}}."}""")));
        var questions = folder.Write("q.jsonl", string.Join('\n', Enumerable.Range(0, 40).Select(
            i => $$"""{"id": "{{i}}", "question": "which river has town {{i}}", "golden_answers": ["river{{i}}"], "weight": {{1 + (i % 2)}}}""")));
        Cli.Run("data", "compose", "--tasks", questions, "--objectives", "2", "--out", folder["two.jsonl"]).Succeeded();
        Cli.Run("data", "compose", "--tasks", questions, "--objectives", "3", "--out", folder["three.jsonl"]).Succeeded();
        // Both numbers in one file, with ids of their own.
        var both = folder.Write("both.jsonl", File.ReadAllText(folder["two.jsonl"])
            + File.ReadAllText(folder["three.jsonl"]).Replace("{\"id\":\"q-", "{\"id\":\"three-", StringComparison.Ordinal));
        string[] train = ["train", "--corpus", corpus, "--tasks", both, "--quick", "--runs", folder["runs"], "--set", "cloning.steps=2",
            "--set", "cloning.warmup_steps=1"];

        var outcome = Cli.Run([.. train, "--name", "stages", "--set", "environment.curriculum=[{from_update: 1, min_objectives: 2, max_objectives: 2}, "
            + "{from_update: 3, min_objectives: 3, max_objectives: 3}]"]).Succeeded();

        int[] counts = [.. Runs.Lines(folder["runs", "stages", "trajectories.jsonl"]).Select(t => t.GetRawText().Contains("-n3-", StringComparison.Ordinal) ? 3 : 2)];
        Assert.Contains(2, counts);
        Assert.Contains(3, counts);
        Assert.Equal(counts.Order(), counts);
        Assert.Contains("Held-out", outcome.Out, StringComparison.Ordinal);

        string[] again = [.. train, "--name", "refused"];
        Refusals.Refused([.. again, "--set", "environment.max_objectives=1", "--set", "environment.min_objectives=1"],
            "a task of 1 to 1 objectives is asked for, but the training tasks have 2, 3");
        Refusals.Refused([.. again, "--set", "evaluation.objectives=[2, 5]"], "evaluation.objectives asks for 5, but the held-out tasks have 2, 3");
        Refusals.Refused([.. again, "--set", "environment.curriculum=[{from_update: 2, max: 1}]"], "environment.curriculum[0].max", "did you mean");
        Refusals.Refused([.. again, "--set", "environment.curriculum=[3]"], "must be a list whose items hold keys and values");
        Refusals.Refused([.. again, "--set", "environment.curriculum=[{from_update: 2, min_objectives: 3, max_objectives: 2}]"], "3 to 2 objectives");
        Refusals.Refused(
            ["train", "--runs", folder["runs"], "--set", "environment={kind: mix, mix: [{kind: worlds}, {kind: retrieval, corpus: c, tasks: t}]}"],
            "mix environments of one tokenizer");
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
        Cli.Run("train", "--quick", "--config", config, "--runs", folder["runs"], "--set", "evaluation.objectives=[1]",
            "--set", "checkpoint.sampled_trajectories=8").Succeeded();
        var played = File.ReadAllText(folder["runs", "quick", "trajectories.jsonl"]);
        Assert.Contains("1-worlds/", played, StringComparison.Ordinal);
        Assert.Contains("2-worlds/", played, StringComparison.Ordinal);
    }

    private static string Build(TempFolder folder, string source)
    {
        var project = Directory.CreateTempSubdirectory("mem1 own ").FullName;
        try
        {
            File.Copy(Path.Combine(s_examples.Value, "HigherLower", "HigherLower.csproj"), Path.Combine(project, "HigherLower.csproj"));
            File.WriteAllText(Path.Combine(project, "HigherLower.cs"), source);
            var output = folder[Path.GetRandomFileName()];
            var start = new ProcessStartInfo("dotnet") { WorkingDirectory = project };
            foreach (var argument in (string[])
                ["build", "-c", "Release", "-v", "q", "--nologo", "-m:1", "-nr:false", "-o", output, $"-p:Mem1={AppContext.BaseDirectory.TrimEnd('/')}"])
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
}
