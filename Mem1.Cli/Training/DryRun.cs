// Plans a run's memory without the run. Keeps: nothing is written anywhere; the model's weights are neither read nor made; what the program
// takes by itself is measured here, in this process, by one update of a model of a few thousand parameters.
using System.Globalization;
using System.Text.Json;
using Mem1.Actors;
using Mem1.Cli.Bench;
using Mem1.Cli.Configuration;
using Mem1.Environments.Worlds;
using Mem1.Learner;
using Mem1.Learner.Planning;
using Mem1.Model;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>The body of <c>mem1 train --dry-run</c>.</summary>
internal static class DryRun
{
    // Times the weights that copies of them lie in the managed heap at once: the loaded checkpoint; of every update, till they are
    // collected, the tensors read one by one and their bytes (TrainingLoop collects once an update); with the worker in this process the
    // whole, the tensors read from it, and those of the version before.
    private const int HeldCopies = 1, PublishedCopies = 2, PulledCopies = 3;

    // The allocator rounds sizes up, by an eighth on average, and keeps freed blocks for reuse: a quarter of the largest it ever gave out
    // and 64 MiB (compat/TorchSharp/native/allocator.cpp). Passes of many sizes, as in training, fill that up.
    private static long Kept(long tensors) => (tensors * 3 / 8) + Math.Min(64L << 20, tensors);

    // Of the moments on their way to a file, two parts till they are collected.
    private const long LargestPart = 2L * 4 * (1 << 26);

    private const double MiB = 1 << 20;

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Plans and prints.</summary>
    /// <param name="config">Validated.</param>
    /// <param name="given">Keys that the user gave.</param>
    /// <param name="json">One JSON object instead of a table.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>Exit code.</returns>
    public static int Run(RunConfig config, IReadOnlySet<string> given, bool json, CancellationToken cancellationToken)
    {
        torch.set_num_threads(1);
        var path = config.Model.From == "built-in" ? BuiltIn.Folder : config.Model.From;
        var worlds = config.Environment.Kind == EnvironmentKind.Worlds;
        var shape = config.Model.From == "new"
            ? config.Model.ToDecoder(
                worlds ? new WordLevelTokenizer(WorldsVocabulary.Words).VocabularySize : config.Model.VocabularySize)
            : config.Model.Over(ModelConfigFile.Read(Path.Combine(path, "config.json")), given);
        var (episodes, passes) = worlds
            ? (Played(config, shape, cancellationToken), "episodes of the scripted expert")
            : (Longest(config, shape), "turns as long as the context allows");
        var baseline = Baseline(config, shape, episodes, cancellationToken);
        var plan = Plan(config, shape, episodes, passes, baseline);
        Console.Out.Write(json
            ? JsonSerializer.Serialize(
                new { DryRun = true, Settings = Settings(config, shape), plan.Passes, plan.Parameters, plan.Memory, plan.TotalBytes },
                s_json) + "\n"
            : Table(config, shape, plan));
        return 0;
    }

    /// <summary>The plan of a run whose batches are these episodes.</summary>
    private static MemoryPlan Plan(RunConfig config, DecoderConfig shape, IReadOnlyList<Trajectory> episodes, string passes, long baseline)
    {
        var policy = WeightLayout.Expected(shape).Sum(t => t.Value.Aggregate(1L, (a, b) => a * b));
        long d = shape.HiddenSize, valueHead = (d * d) + (2 * d) + 1;
        var adapter = config.Model.Lora.Rank == 0 ? 0 : AdapterParameters(shape, config.Model.Lora);
        var trained = (adapter > 0 ? adapter : policy) + valueHead;
        var frozen = adapter > 0 ? policy : 0;
        long all = 4 * (policy + valueHead + adapter), blob = policy * BytesOf(config.Learner.WeightsDtype);
        var items = new List<MemoryItem>();
        void Add(string name, long bytes, string why)
        {
            if (bytes > 0) items.Add(new MemoryItem(name, bytes, why));
        }

        Add("process", baseline, "runtime, libtorch, server, worker and episodes, measured here with a model of a few thousand parameters");
        Add("parameters", 4 * (trained + frozen), "float32, whatever the precision");
        Add("gradients", 4 * trained, "float32");
        Add("moments", 8 * trained, "AdamW's two, float32");
        Add("reference", config.Ppo.NeedsReference ? 8 * policy : 0, "the policy the run began with, and its unused gradients");
        var memory = new LearnerMemory(shape, config.Learner.Compute(), config.Learner.Precision);
        var (step, score) = Passes(config, episodes, memory);
        // The optimiser's one temporary comes when the activations are gone; scoring and learning take turns too.
        var largest = Math.Max(Math.Max(step, score), 4 * trained);
        Add("learning_step", largest, largest == score
            ? "activations of the largest scoring pass, more than of a learning step"
            : "activations of the largest forward and backward pass; scoring takes less");
        Add("allocator", Kept(largest + (16 * trained)), "freed blocks kept for reuse, and sizes rounded up");
        Add("weight_blobs", 2 * blob, "the newest version and the one before it, for workers to pull");
        Add("weight_delta", config.Learner.WeightsDelta ? blob : 0, "the difference between two versions");
        var local = config.Rollout.LocalWorker;
        Add("weight_copies", (HeldCopies + PublishedCopies) * all + (local ? PulledCopies * blob : 0),
            "the loaded checkpoint, and copies of the weights on their way to files and samplers until they are collected");
        Add("checkpoint", 4 * (policy + valueHead) + Math.Min(8 * trained, LargestPart), "weights and moments on their way to a file");
        if (local)
        {
            Add("sampler_weights", 8 * policy, "packed float32; the old ones until the new ones are in place");
            Add("sampler_caches", Caches(config, shape, episodes), "keys and values of the episodes played at once");
            Add("sampler_prompts", Prompts(config, shape, episodes), "keys and values kept of prompts (rollout.prompt_cache_mib)");
        }

        return new MemoryPlan(passes, trained, items);
    }

    /// <summary>The most that any pass over a batch takes.</summary>
    private static (long Step, long Score) Passes(RunConfig config, IReadOnlyList<Trajectory> batch, LearnerMemory memory)
    {
        var layout = ILayout.Of(config.Ppo.Layout);
        IEnumerable<PassSize> Of(IEnumerable<int> members) => layout.Split(
            batch, members.SelectMany(i => Enumerable.Range(0, batch[i].Turns.Count).Select(j => new TurnReference(i, j))),
            config.Ppo.MicroBatchTokens).Select(PassSize.Of);
        var everything = Enumerable.Range(0, batch.Count).ToArray();
        return (
            everything.Chunk((batch.Count + config.Ppo.MiniBatches - 1) / config.Ppo.MiniBatches).SelectMany(Of).Max(memory.Step),
            Of(everything).Max(memory.Score));
    }

    /// <summary>Keys and values of as many episodes as are played at once, at the length of these.</summary>
    private static long Caches(RunConfig config, DecoderConfig shape, IReadOnlyList<Trajectory> episodes)
    {
        const int Granule = 64; // capacities come in these
        var longest = episodes.Average(e => e.Turns.Max(t => e.Prompt.Length + t.Context.Length)) + ResponseLimit(config, shape);
        var capacity = (((long)Math.Min(longest, shape.MaxPositions) / Granule) + 1) * Granule;
        return Math.Min(config.Rollout.MaxEpisodes, config.Rollout.EpisodesPerUpdate) * capacity * CachedToken(shape);
    }

    /// <summary>Prompts of one update's tasks, up to the bound: new weights make room again.</summary>
    private static long Prompts(RunConfig config, DecoderConfig shape, IReadOnlyList<Trajectory> episodes)
    {
        if (config.Rollout.Backend != PolicyBackend.BuiltIn || config.Rollout.Memory == RolloutMemory.Carry) return 0;
        var tasks = config.Rollout.EpisodesPerUpdate / config.Rollout.GroupSize;
        return Math.Min((long)config.Rollout.PromptCacheMib << 20, (long)(tasks * episodes.Average(e => e.Prompt.Length)) * CachedToken(shape));
    }

    /// <summary>Bytes of one token's keys and values.</summary>
    private static long CachedToken(DecoderConfig shape)
    {
        const int PaddedHead = 32; // cached values come in these
        long valueStride = (shape.HeadSize + PaddedHead - 1) / PaddedHead * PaddedHead;
        return shape.Layers * (long)shape.KeyValueHeads * (shape.HeadSize + valueStride) * sizeof(float);
    }

    private static int ResponseLimit(RunConfig config, DecoderConfig shape) =>
        config.Rollout.MaxNewTokens > 0 ? config.Rollout.MaxNewTokens
        : config.Environment.Kind == EnvironmentKind.Worlds ? WorldsOptions.MaxResponseTokens(config.Environment.MostObjectives())
        : shape.MaxPositions / 4;

    private static List<Trajectory> Played(RunConfig config, DecoderConfig shape, CancellationToken cancellationToken)
    {
        using var environment = EnvironmentSet.Open(config, (_, _) => { }, cancellationToken);
        var expert = new ExpertTrajectories(
            environment.Factory, environment.Expert!, environment.NewTokenizer(), shape.MaxPositions, config.Rollout.MaxObservationTokens,
            forgets: config.Rollout.Memory != RolloutMemory.Full);
        var (least, most) = config.Environment.ObjectivesAt(1);
        var played = new List<Trajectory>();
        for (var i = 0; i < config.Rollout.EpisodesPerUpdate; i++)
        {
            var task = environment.Training.Get(i, least + (i % (most - least + 1)), config.Seed);
            if (expert.PlayAsync(task, (ulong)i, cancellationToken).AsTask().GetAwaiter().GetResult() is { } trajectory)
                played.Add(Sampled(trajectory));
        }

        return played.Count > 0 ? played
            : throw new UserErrorException("no expert episode fits the model's context: raise model.max_positions.");
    }

    /// <summary>Two turns each that leave no room: a bound where episodes cannot be had for nothing.</summary>
    private static List<Trajectory> Longest(RunConfig config, DecoderConfig shape)
    {
        var prompt = Math.Max(2, shape.MaxPositions / 4);
        var generated = Math.Clamp(ResponseLimit(config, shape), 1, shape.MaxPositions - prompt - 1);
        var first = new Turn([], new int[generated], 0, [], [], new int[Math.Max(1, shape.MaxPositions - prompt - (2 * generated))]);
        int[] kept = new int[Math.Clamp(shape.MaxPositions - prompt - generated, 0, generated + first.Observation.Length)];
        return
        [
            .. Enumerable.Range(0, config.Rollout.EpisodesPerUpdate).Select(i => Sampled(new Trajectory(
                $"{i}", $"{i}", new int[prompt], [first, new Turn(kept, new int[generated], 0, [], [], [])], 0,
                Environments.EpisodeEnd.Answered, [0], [0], "", Evaluation: false))),
        ];
    }

    private static Trajectory Sampled(Trajectory t) => t with
    {
        Turns = [.. t.Turns.Select(turn => turn with
        {
            LogProbs = new float[turn.Generated.Length], PolicyVersions = new long[turn.Generated.Length],
        })],
    };

    /// <summary>What this process takes without the model: server, worker and one update with a model of a few thousand parameters.</summary>
    private static long Baseline(RunConfig config, DecoderConfig shape, IReadOnlyList<Trajectory> episodes, CancellationToken cancellationToken)
    {
        var tiny = shape with
        {
            HiddenSize = 16,
            IntermediateSize = 16,
            Layers = 1,
            Heads = 1,
            KeyValueHeads = 1,
            HeadSize = 16,
            TiedEmbeddings = true,
        };
        var compute = config.Learner.Compute();
        var own = 0L;
        {
            var decoder = new TorchDecoder(
                tiny, ValueHead.Ensure(ModelInitializer.Normal(tiny, 1), tiny.HiddenSize, 1), torch.CPU, config.Learner.Precision);
            using var trainer = new PpoTrainer(
                decoder, reference: null, ILayout.Of(config.Ppo.Layout),
                config.Ppo with { KlLossCoefficient = 0, KlRewardCoefficient = 0, KlTarget = 0, Shaping = new ShapingOptions() },
                config.Rollout.Temperature, 1, compute);
            var publisher = new WeightPublisher(weights => WeightPublisher.Serialise(weights, config.Learner.WeightsDtype));
            publisher.Publish(decoder.Parameters.Policy(), 0);
            if (config.Environment.Kind == EnvironmentKind.Worlds && config.Rollout.LocalWorker)
                Rehearse(config, tiny, publisher, cancellationToken);
            trainer.Update(episodes, 1, 0);
            var memory = new LearnerMemory(tiny, compute, config.Learner.Precision);
            var (step, score) = Passes(config, episodes, memory);
            own = Math.Max(step, score) + (16 * decoder.Parameters.Values.numel());
            own += Kept(own) / 2; // one update does not fill it up
        }

        return Math.Max(0, ResidentSet.Peak() - own);
    }

    /// <summary>Plays a batch of tasks with server and worker on a free loopback port.</summary>
    private static void Rehearse(RunConfig config, DecoderConfig tiny, WeightPublisher publisher, CancellationToken cancellationToken)
    {
        using var environment = EnvironmentSet.Open(config, (_, _) => { }, cancellationToken);
        var alone = config with { Learner = config.Learner with { Address = "127.0.0.1", Port = 0 } };
        using var session = new RunSession(
            alone, tiny, environment.Factory, environment.NewTokenizer(), publisher, RunFiles.Fingerprint(tiny), null, cancellationToken);
        var (least, most) = config.Environment.ObjectivesAt(1);
        var tasks = Enumerable.Range(0, config.Rollout.EpisodesPerUpdate).Select(i => new TaskRequest(
            environment.Training.Get(i, least + (i % (most - least + 1)), config.Seed) with { Id = $"rehearsal {i}" }, (ulong)i, 1, 1,
            ResponseLimit(config, tiny), Evaluation: false)).ToList();
        session.Ledger.RunAsync(tasks, null, session.Ended).GetAwaiter().GetResult();
        session.ThrowIfWorkerFailed();
    }

    private static long AdapterParameters(DecoderConfig shape, LoraOptions options) =>
        WeightLayout.Expected(shape)
            .Where(t => options.TargetModules.Any(m => t.Key.EndsWith($".{m}.weight", StringComparison.Ordinal)))
            .Sum(t => options.Rank * t.Value.Sum());

    private static int BytesOf(StoredDtype dtype) => dtype == StoredDtype.Float32 ? 4 : 2;

    private static SortedDictionary<string, object> Settings(RunConfig config, DecoderConfig shape) => new(StringComparer.Ordinal)
    {
        ["environment.kind"] = config.Environment.Kind.ToString().ToLowerInvariant(),
        ["model.from"] = config.Model.From,
        ["model.vocabulary_size"] = shape.VocabularySize,
        ["model.hidden_size"] = shape.HiddenSize,
        ["model.layers"] = shape.Layers,
        ["rollout.episodes_per_update"] = config.Rollout.EpisodesPerUpdate,
        ["ppo.layout"] = config.Ppo.Layout.ToString().ToLowerInvariant(),
        ["ppo.mini_batches"] = config.Ppo.MiniBatches,
        ["ppo.micro_batch_tokens"] = config.Ppo.MicroBatchTokens,
        ["learner.precision"] = config.Learner.Precision.ToString().ToLowerInvariant(),
        ["learner.gradient_checkpointing"] = config.Learner.GradientCheckpointing,
        ["learner.vocabulary_chunk_tokens"] = config.Learner.VocabularyChunkTokens,
        ["updates"] = config.Updates,
    };

    private static string Table(RunConfig config, DecoderConfig shape, MemoryPlan plan)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        foreach (var (key, value) in Settings(config, shape)) text.WriteLine($"{key,-34}{value}");
        text.WriteLine();
        text.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"Memory of this run ({plan.Parameters:N0} trained parameters, passes from {plan.Passes}):"));
        foreach (var item in plan.Memory)
            text.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{item.Name,-18}{item.Bytes / MiB,10:N1} MiB   {item.Why}"));
        text.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{"total",-18}{plan.TotalBytes / MiB,10:N1} MiB"));
        return text.ToString();
    }
}
