using Google.Protobuf;
using Mem1.Environments;
using Mem1.Environments.Worlds;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>The worker around the real decoder, tokenizer and environment, with random weights: what it types is noise, but exact noise.</summary>
public sealed class RealPartsTests
{
    [Fact]
    public async Task BatchingAndThreadsDoNotChangeAByte()
    {
        var alone = await PlayAsync(serial: true, episodes: 1);
        var serial = await PlayAsync(serial: true, episodes: 8);
        var parallel = await PlayAsync(serial: false, episodes: 8);
        Assert.Equal(24, serial.Select(t => (t.EpisodeId, t.Turn)).Distinct().Count(t => t.Turn == 0));
        Assert.Contains(serial, t => t.Segments.Count > 1 && t.LogProbs.Distinct().Count() > 1);
        Assert.Equal(Bytes(alone), Bytes(serial));
        Assert.Equal(Bytes(alone), Bytes(parallel));

        static List<string> Bytes(IEnumerable<SubTrajectory> turns) =>
            [.. turns.Select(t => Convert.ToHexString(Rig.WithoutTiming(t).ToByteArray())).Order(StringComparer.Ordinal)];
    }

    private static async Task<List<SubTrajectory>> PlayAsync(bool serial, int episodes)
    {
        const int leases = 24;
        var config = new DecoderConfig
        {
            VocabularySize = WorldsVocabulary.Words.Count,
            HiddenSize = 32,
            IntermediateSize = 48,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 2,
            HeadSize = 8,
            MaxPositions = 256,
        };
        var weights = RandomWeights(config);
        var tokenizer = new WordLevelTokenizer(WorldsVocabulary.Words);
        var tasks = new WorldsTaskSource(new WorldsOptions());

        await using var learner = new FakeLearner();
        await learner.StartAsync();
        await using var worker = await RolloutWorker.StartAsync(
            new RolloutWorkerOptions
            {
                LearnerAddress = learner.Address,
                MaxEpisodes = episodes,
                MaxNewTokens = 12,
                MaxObservationTokens = 64,
                MaxContextTokens = 256,
                Serial = serial,
            },
            new WorldsEnvironmentFactory(new WorldsOptions()),
            tokenizer,
            (_, version) => new CpuGenerationEngine(config, weights, version, tokenizer),
            _ => weights);
        learner.Lease(Enumerable.Range(0, leases).Select(i => Lease(tasks.Get(i, 1 + (i % 3), seed: 3), i)));

        var deadline = DateTime.UtcNow + TimeSpan.FromSeconds(20);
        while (learner.Received.Count(t => t.Outcome is not null) < leases)
        {
            Assert.True(DateTime.UtcNow < deadline, $"{worker.Counters}");
            Assert.False(worker.Completion.IsCompleted, $"{worker.Completion.Exception}");
            await Task.Delay(5);
        }
        await worker.StopAsync();
        Assert.Empty(learner.Returned);
        return [.. learner.Received];
    }

    private static TaskLease Lease(EnvironmentTask task, int index) => new()
    {
        TaskId = task.Id,
        EpisodeId = $"e{index:00}",
        Attempt = 1,
        Seed = (ulong)index,
        Task = new TaskBody
        {
            Objectives =
            {
                task.Objectives.Select(o => new ObjectiveBody { Id = o.Id, Question = o.Question, GoldenAnswers = { o.GoldenAnswers } }),
            },
        },
        Sampling = new SamplingParameters { Temperature = 1, TopP = 1, MaxNewTokens = 12 },
    };

    private static ModelWeights RandomWeights(DecoderConfig config)
    {
        var random = new Random(11);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (var (name, shape) in WeightLayout.Expected(config))
        {
            var isNorm = name.EndsWith("norm.weight", StringComparison.Ordinal);
            var data = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (var i = 0; i < data.Length; i++)
                data[i] = isNorm ? 1 : (float)(random.NextDouble() - 0.5) / 2;
            tensors[name] = new WeightTensor(shape, data);
        }
        return new ModelWeights(tensors);
    }
}
