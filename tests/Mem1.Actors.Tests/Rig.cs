using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>A learner and a worker on loopback, with scripted parts.</summary>
internal sealed class Rig : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    public FakeLearner Learner { get; } = new();
    public CountingEnvironments Environments { get; } = new();
    public ScriptedEngine.Hooks Engine { get; } = new();
    public PieceTokenizer Tokenizer { get; } = new();
    public Func<string, string> Script { get; set; } = CountingEnvironments.Respond;
    public Func<string, int[]>? TokenScript { get; set; }
    public Func<ModelWeights, long, IGenerationEngine>? MakeEngine { get; set; }
    public Random Jitter { get; set; } = new(1);
    public RolloutWorkerOptions Options { get; set; } = new()
    {
        LearnerAddress = "",
        WorkerId = "worker-1",
        MaxEpisodes = 8,
        MaxNewTokens = 100,
        MaxObservationTokens = 50,
        MaxContextTokens = 400,
        EnvironmentBackoff = TimeSpan.FromMilliseconds(5),
        ReconnectDelay = TimeSpan.FromMilliseconds(20),
        MaxReconnectDelay = TimeSpan.FromMilliseconds(100),
        HeartbeatInterval = TimeSpan.FromMilliseconds(50),
    };

    public RolloutWorker Worker { get; private set; } = null!;

    public async Task StartAsync(bool learner = true)
    {
        if (learner)
            await Learner.StartAsync();
        Options = Options with { LearnerAddress = learner ? Learner.Address : Options.LearnerAddress };
        Worker = await RolloutWorker.StartAsync(
            Options, Environments, Tokenizer,
            MakeEngine ?? ((_, version) => new ScriptedEngine(version, TokenScript ?? Typed, Engine)),
            _ => new ModelWeights(new Dictionary<string, WeightTensor>()),
            jitter: Jitter);
    }

    private int[] Typed(string context) => Tokenizer.Encode(Script(context));

    public async Task Until(Func<bool> condition, string what)
    {
        var deadline = DateTime.UtcNow + Patience;
        while (!condition())
        {
            if (DateTime.UtcNow > deadline)
            {
                Assert.Fail($"Not within {Patience}: {what}. Heard {Learner.Received.Count} sub-trajectories, {Learner.Returned.Count} " +
                    $"returned, {Learner.Hellos.Count} hellos; worker: {Worker.Counters}; completion: {Worker.Completion.Status}");
            }
            await Task.Delay(5);
        }
    }

    public Task UntilEnded(int episodes) =>
        Until(() => Learner.Distinct.Count(t => t.Outcome is not null) >= episodes, $"{episodes} episodes end");

    /// <summary>Drains the worker and checks what must hold after every test that ends well.</summary>
    public async Task DrainAsync()
    {
        await Worker.StopAsync(drain: true).WaitAsync(Patience);
        Assert.Empty(Learner.Violations);
        Assert.Equal(Environments.Made, Environments.Disposed);
        Assert.Equal(Engine.MadeEngines, Engine.DisposedEngines);
        Assert.Equal(0, Worker.Counters.EpisodesRunning);
        Assert.Equal(0, Worker.Counters.Unacknowledged);
    }

    public async ValueTask DisposeAsync()
    {
        if (Worker is not null)
            await Worker.DisposeAsync();
        await Learner.DisposeAsync();
    }

    /// <summary>The sub-trajectories of an ordinary episode, token by token, but for timing and versions.</summary>
    public List<SubTrajectory> Expected(TaskLease lease, long version = 1)
    {
        var turns = new List<SubTrajectory>();
        var prompt = Tokenizer.EncodePrompt(lease.Task.Objectives[0].Question);
        (int[] State, int[] Action, int[] Information)? last = null;
        for (var turn = 0; ; turn++)
        {
            int[] context = last is { } l ? [.. prompt, .. l.State, .. l.Action, .. l.Information] : prompt;
            var response = Script(Tokenizer.Decode(context));
            var cut = response.IndexOf("</think>", StringComparison.Ordinal) + "</think>".Length;
            var (state, action) = (Tokenizer.Encode(response[..cut]), Tokenizer.Encode(response[cut..]));
            var ends = response.Contains("<answer>", StringComparison.Ordinal);
            var information = ends ? [] : Tokenizer.Encode($"<information>step {turn + 1}</information>");
            var seed = TurnSeed.Mix(lease.Seed, turn);
            var expected = new SubTrajectory
            {
                EpisodeId = lease.EpisodeId,
                TaskId = lease.TaskId,
                Attempt = lease.Attempt,
                Turn = turn,
                Segments = { new Segment { Kind = SegmentKind.Prompt, Tokens = { prompt } } },
                Observation = { information },
                End = ends ? EndReason.Answered : EndReason.Unspecified,
                ResponseEnd = ResponseEnd.Stop,
            };
            if (last is { } kept)
            {
                expected.Segments.Add(new Segment { Kind = SegmentKind.InternalState, Tokens = { kept.State } });
                expected.Segments.Add(new Segment { Kind = SegmentKind.Action, Tokens = { kept.Action } });
                expected.Segments.Add(new Segment { Kind = SegmentKind.Information, Tokens = { kept.Information } });
            }
            expected.Segments.Add(new Segment { Kind = SegmentKind.InternalState, Tokens = { state }, Generated = true });
            expected.Segments.Add(new Segment { Kind = SegmentKind.Action, Tokens = { action }, Generated = true });
            for (var i = 0; i < state.Length + action.Length; i++)
            {
                expected.LogProbs.Add(ScriptedEngine.LogProb(seed, i));
                expected.PolicyVersions.Add(version);
            }
            if (ends)
            {
                expected.TurnReward = 1;
                expected.Outcome = new EpisodeOutcome { Reward = 1, ExactMatch = { 1 }, F1 = { 1 }, Answer = response };
            }
            turns.Add(expected);
            if (ends)
                return turns;
            last = (state, action, information);
        }
    }

    public static SubTrajectory WithoutTiming(SubTrajectory turn)
    {
        var copy = turn.Clone();
        copy.GenerationMicros = 0;
        copy.EnvironmentMicros = 0;
        return copy;
    }
}
