// Keeps: an episode is played once; the report is of all rows asked for, those of earlier starts included; agents share every task.
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Evaluation;

/// <summary>What the command line asks for.</summary>
internal sealed record EvaluationOptions
{
    /// <summary>built-in, a checkpoint's folder, or a run's.</summary>
    public string Model { get; init; } = "built-in";

    /// <summary>A server to ask instead; the model's folder then gives tokenizer and shape alone.</summary>
    public EndpointOptions? Endpoint { get; init; }

    public string? Corpus { get; init; }

    public string? Tasks { get; init; }

    public string? Assembly { get; init; }

    /// <summary>Settings over the config, as key=value.</summary>
    public IReadOnlyList<string> Settings { get; init; } = [];

    public IReadOnlyList<int> Objectives { get; init; } = [1, 2, 4, 8, 16];

    public IReadOnlyList<IContextPolicy> Agents { get; init; } = ContextPolicies.Parse("mem1,full");

    public int Episodes { get; init; } = 32;

    public ulong Seed { get; init; } = 1;

    public double Temperature { get; init; }

    /// <summary>Longest sequence in tokens; null for the model's own.</summary>
    public int? Context { get; init; }

    public required string Out { get; init; }

    public bool Resume { get; init; }

    public bool Legacy { get; init; }

    public int Threads { get; init; } = 1;

    /// <summary>With the environment.</summary>
    public EnvironmentPatience Patience { get; init; } = EnvironmentPatience.Standard;

    /// <summary>Whether to play episodes again that the environment ended; resuming only.</summary>
    public bool RetryFailed { get; init; }

    /// <summary>Makes an environment's factory another one; for tests.</summary>
    internal Func<IEnvironmentFactory, IEnvironmentFactory> Around { get; init; } = static f => f;

    /// <summary>Episodes at once.</summary>
    public int Batch { get; init; } = 32;
}

/// <summary>Plays the episodes of an evaluation and reports on them.</summary>
internal static class EvaluationRun
{
    // A dead service fails every episode; the report counts them.
    private const int MostFailuresTold = 5;

    // Above it, weights are told apart by name, length and time: reading them only for that would take minutes.
    private const long MaxHashed = 1L << 30;

    /// <summary>Runs or goes on.</summary>
    /// <param name="options">What to do.</param>
    /// <param name="progress">Told of episodes done, and of all.</param>
    /// <param name="say">Told what else the user should know, in sentences.</param>
    /// <param name="cancellationToken">Stops between two turns; finished episodes stay.</param>
    public static async Task<EvaluationReport> RunAsync(
        EvaluationOptions options, Action<int, int> progress, Action<string> say, CancellationToken cancellationToken)
    {
        var (folder, runConfig) = Find(options.Model, say);
        var shape = ModelConfigFile.Read(Path.Combine(folder, ModelConfigFile.FileName));
        var config = Config(options, folder, runConfig, shape);
        Commands.TrainCommand.Require(config);
        var tokenizer = ModelPreparation.WithChat(
            TokenizerFiles.TryLoad(folder) ?? throw new UserErrorException($"{folder} has no tokenizer.json; an evaluation counts the model's tokens."),
            config.Model);
        using var environment = EnvironmentSet.Open(config, static (_, _) => { }, cancellationToken);
        var context = Math.Min(shape.MaxPositions, options.Context ?? int.MaxValue);
        if (config.Rollout.MaxObservationTokens >= context)
            throw new UserErrorException(
                $"rollout.max_observation_tokens ({config.Rollout.MaxObservationTokens}) leaves no room in a context of {context} tokens; "
                + "set it lower (--set rollout.max_observation_tokens=N).");
        // This program's engine keeps single precision; servers hold halves unless told otherwise.
        var element = options.Endpoint is null ? sizeof(float) : 2;
        var settings = new EvaluationSettings(
            options.Model, options.Endpoint is { } e ? $"{e.Address} ({e.Model}, {e.Api.ToString().ToLowerInvariant()})" : null,
            environment.Factory.Name, options.Seed, options.Temperature, context,
            2L * shape.Layers * shape.KeyValueHeads * shape.HeadSize * element, element,
            Fingerprint(folder, config, tokenizer, options.Endpoint is null));
        using var results = ResultsFolder.Open(options.Out, settings, options.Resume);
        using var model = options.Endpoint is { } endpoint ? new EndpointModel(endpoint, tokenizer) : (IPolicyModel)Engine(folder, tokenizer, options);
        var loop = new AgentLoop(
            options.Around(environment.Factory), tokenizer, model,
            new LoopLimits(context, config.Rollout.MaxObservationTokens, (float)options.Temperature, options.Patience));
        var all = options.Agents
            .SelectMany(a => options.Objectives.SelectMany(n => Enumerable.Range(0, options.Episodes).Select(i => (Agent: a, Objectives: n, Episode: i))))
            .ToArray();
        var open = all.Where(c => results.Find(c.Agent.Name, c.Objectives, c.Episode) is not { } row
            || (options.RetryFailed && row.EnvironmentFailed)).ToArray();
        if (open.Length < all.Length) say($"{all.Length - open.Length} of {all.Length} episodes are there already");
        var done = all.Length - open.Length;
        var failed = 0;
        await Parallel.ForEachAsync(
            open, new ParallelOptions { MaxDegreeOfParallelism = options.Batch, CancellationToken = cancellationToken },
            async (c, token) =>
            {
                var (task, seed) = environment.HeldOutTask(options.Seed, c.Objectives, c.Episode);
                var row = await loop.PlayAsync(
                    c.Agent, task, seed, environment.ResponseTokens(config.Rollout, c.Objectives), c.Episode, token).ConfigureAwait(false);
                results.Add(row);
                if (row.Failure is { } failure && Interlocked.Increment(ref failed) is var n and <= MostFailuresTold)
                {
                    say($"{row.Agent}, {row.Objectives} objective{(row.Objectives == 1 ? "" : "s")}, episode {row.Episode}: {failure.TrimEnd('.')}. "
                        + $"It counts as wrong.{(n == MostFailuresTold ? " Further failures are in results.jsonl and in the report." : "")}");
                }

                progress(Interlocked.Increment(ref done), all.Length);
            }).ConfigureAwait(false);
        string[] names = [.. options.Agents.Select(a => a.Name)];
        results.Finish(names);
        var report = EvaluationReport.Of(settings, options.Agents, options.Objectives, options.Episodes, results.Rows, options.Legacy);
        ReportFiles.Write(report, results.FullPath);
        if (ReportFiles.EnvironmentNote(report) is { } failures)
            say(failures);
        if (environment.SearchNote() is { } note) say(note);
        return report;
    }

    private static EngineModel Engine(string folder, ITokenizer tokenizer, EvaluationOptions options)
    {
        var checkpoint = Checkpoint.Load(folder).Merged();
        return new EngineModel(new CpuGenerationEngine(checkpoint.Config, checkpoint.Weights, 0, tokenizer, options.Threads), options.Batch);
    }

    /// <summary>The checkpoint's folder, and the config of the run it comes from when a run was named.</summary>
    private static (string Folder, RunConfig? Run) Find(string model, Action<string> say)
    {
        if (model == "built-in") return (BuiltIn.Folder, null);
        var path = Directory.Exists(model) || !Directory.Exists(Path.Combine("runs", model)) ? model : Path.Combine("runs", model);
        var config = Path.Combine(path, "config.yaml");
        if (File.Exists(Path.Combine(path, ModelConfigFile.FileName)) && OwnerOf(path) is { } owner)
            return (path, ConfigFile.Read(owner, []).Config);
        if (File.Exists(Path.Combine(path, ModelConfigFile.FileName)) || !File.Exists(config))
        {
            return Directory.Exists(path) ? (path, null)
                : throw new UserErrorException($"--model is \"{model}\"; it must be built-in, a checkpoint's folder, or a run's folder or name.");
        }

        var newest = TrainingCheckpoint.OpenNewest(Path.Combine(path, "checkpoints"), say)
            ?? throw new UserErrorException($"the run {path} has no checkpoint yet.");
        return (newest, ConfigFile.Read(config, []).Config);
    }

    /// <summary>The config of the run that a checkpoint lies in (RUN/checkpoints/step-N); null for one that lies elsewhere.</summary>
    private static string? OwnerOf(string checkpoint)
    {
        var folder = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(checkpoint)));
        if (folder is null || Path.GetFileName(folder) != "checkpoints") return null;
        var config = Path.Combine(Path.GetDirectoryName(folder)!, "config.yaml");
        return File.Exists(config) ? config : null;
    }

    private static RunConfig Config(EvaluationOptions options, string folder, RunConfig? run, DecoderConfig shape)
    {
        var own = options.Corpus is not null || options.Tasks is not null || options.Assembly is not null;
        var kind = ConfigFile.Load(null, options.Settings, new RunConfig()).Config.Environment.Kind;
        var basis = run is not null && !own ? run : Presets.For(options.Corpus, options.Tasks, false, false, options.Assembly, kind);
        var (config, _) = ConfigFile.Load(null, options.Settings, basis);
        return config with
        {
            Seed = options.Seed,
            Model = config.Model with { From = options.Model == "built-in" ? "built-in" : folder, MaxPositions = shape.MaxPositions },
            Evaluation = new EvaluationConfig { Episodes = options.Episodes, Objectives = options.Objectives },
        };
    }

    /// <summary>Tells evaluations apart that may not share a folder.</summary>
    private static string Fingerprint(string folder, RunConfig config, ITokenizer tokenizer, bool weights)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(string.Create(
            CultureInfo.InvariantCulture,
            $"{RunFiles.Fingerprint(config, tokenizer)} {config.Rollout.MaxNewTokens} {config.Rollout.MaxObservationTokens}")));
        FileInfo[] files = !weights ? [] : [.. new DirectoryInfo(folder).EnumerateFiles("*.safetensors", SearchOption.AllDirectories)
            .Where(f => f.Name.StartsWith("model", StringComparison.Ordinal) || f.Name.StartsWith("adapter", StringComparison.Ordinal))
            .OrderBy(f => f.FullName, StringComparer.Ordinal)];
        var large = files.Sum(f => f.Length) > MaxHashed;
        foreach (var file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{file.Name} {file.Length} ")));
            if (large)
            {
                hash.AppendData(BitConverter.GetBytes(file.LastWriteTimeUtc.Ticks));
                continue;
            }

            using var stream = file.OpenRead();
            hash.AppendData(SHA256.HashData(stream));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..16];
    }
}
