using Google.Protobuf;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>Crashes, draining, many episodes at once, serial mode, options.</summary>
public sealed class WorkerTests
{
    [Fact]
    public async Task APolicyThatCrashesComesBackAndItsEpisodesGoOn()
    {
        await using var rig = new Rig();
        rig.Engine.BeforeStep = step =>
        {
            if (step is 3 or 12 or 25)
                throw new InvalidOperationException("device lost");
        };
        await rig.StartAsync();
        TaskLease[] leases = [.. Enumerable.Range(0, 5).Select(i => FakeLearner.NewLease($"e{i}", turns: 4))];
        rig.Learner.Lease(leases);
        await rig.UntilEnded(5);

        foreach (var lease in leases)
            Assert.Equal(rig.Expected(lease), rig.Learner.Of(lease.EpisodeId).Select(Rig.WithoutTiming));
        Assert.Empty(rig.Learner.Returned);
        Assert.Equal(3, rig.Worker.Counters.PolicyCrashes);
        var policy = Assert.Single(rig.Worker.Actors, a => a.Kind == "policy");
        Assert.Equal((3, "restarted"), (policy.Restarts, policy.State));
        Assert.Contains("InvalidOperationException: device lost", policy.LastFailure, StringComparison.Ordinal);
        await rig.DrainAsync();
        Assert.Equal(4, rig.Engine.MadeEngines);
    }

    [Theory]
    [InlineData("policy", 0)]
    [InlineData("uplink", 0)]
    [InlineData("episode-0", 1)]
    [InlineData("nobody", 0)]
    public async Task AnActorThatTheLearnerWantsRestartedBeginsAnewAndNothingIsLost(string actor, int returned)
    {
        using var gate = new ManualResetEventSlim();
        await using var rig = new Rig();
        rig.Engine.BeforeStep = step =>
        {
            if (step == 3)
                gate.Wait(TimeSpan.FromSeconds(20)); // so that the episode is not over before the command comes
        };
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        rig.Learner.Lease(lease);
        await rig.Until(() => rig.Worker.Counters.EpisodesRunning == 1 && rig.Worker.Counters.DecodeSteps >= 2, "it plays");
        rig.Learner.RestartActor(actor);
        await rig.Until(
            () => actor switch
            {
                "episode-0" => rig.Worker.Counters.EpisodesReturned == 1,
                "uplink" => rig.Worker.Counters.UplinkCrashes == 1,
                _ => true,
            },
            "the command is heard");
        gate.Set();
        if (actor == "policy")
            await rig.Until(() => rig.Worker.Counters.PolicyCrashes == 1, "the policy begins anew");
        await rig.Until(() => rig.Learner.Returned.Count == returned, "what is handed back");
        if (returned == 0)
        {
            await rig.UntilEnded(1);
            Assert.Equal(rig.Expected(lease), rig.Learner.Of("e").Select(Rig.WithoutTiming));
        }

        if (actor is "policy" or "uplink")
        {
            var shown = Assert.Single(rig.Worker.Actors, a => a.Kind == actor);
            Assert.Equal((1, "RestartRequestedException: somebody asked for it"), (shown.Restarts, shown.LastFailure));
        }

        await rig.DrainAsync();
    }

    [Fact]
    public async Task APolicyThatKeepsCrashingEndsTheWorkerWithItsLastFailure()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxRestarts = 2, GenerationRetries = 100 };
        rig.Engine.BeforeStep = _ => throw new InvalidOperationException("device lost");
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 4));
        var failure = await Assert.ThrowsAsync<RolloutWorkerException>(() => rig.Worker.Completion.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.EndsWith("last with: InvalidOperationException: device lost", failure.Message);
        Assert.Equal(3, rig.Worker.Counters.PolicyCrashes);
        Assert.Equal(rig.Engine.MadeEngines, rig.Engine.DisposedEngines);
    }

    [Fact]
    public async Task AGenerationThatIsLostTooOftenHandsItsLeaseBack()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxRestarts = 10, GenerationRetries = 1 };
        rig.Engine.BeforeStep = step =>
        {
            if (step <= 2)
                throw new InvalidOperationException("device lost");
        };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");
        Assert.Equal("The policy crashed while it was generating, 2 times in this turn.", rig.Learner.Returned.Single().Reason);
        rig.Learner.Lease(FakeLearner.NewLease("next", turns: 1));
        await rig.UntilEnded(1);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task WeightsTheEngineCannotTakeEndTheWorker()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxRestarts = 1 };
        rig.MakeEngine = (_, _) => throw new InvalidDataException("model.norm.weight has shape [8]; [16] is expected.");
        await rig.StartAsync();
        var failure = await Assert.ThrowsAsync<RolloutWorkerException>(() => rig.Worker.Completion.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.EndsWith("InvalidDataException: model.norm.weight has shape [8]; [16] is expected.", failure.Message);
    }

    [Fact]
    public async Task ADrainFinishesWhatRunsAndTakesNothingNew()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxEpisodes = 3 };
        using var gate = new SemaphoreSlim(0);
        rig.Environments.BeforeStep = (_, _, token) => gate.WaitAsync(token);
        await rig.StartAsync();
        rig.Learner.Lease(Enumerable.Range(0, 10).Select(i => FakeLearner.NewLease($"e{i}", turns: 2)));
        await rig.Until(() => rig.Environments.Made == 3, "three episodes run");
        rig.Learner.Drain();
        await Task.Delay(100);
        Assert.False(rig.Worker.Completion.IsCompleted);
        gate.Release(100);
        await rig.Worker.Completion.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(3, rig.Worker.Counters.EpisodesFinished);
        Assert.Equal(6, rig.Learner.Received.Count);
        Assert.Equal(3, rig.Environments.Made);
        Assert.Equal(1, rig.Learner.CleanEnds);
        Assert.Empty(rig.Learner.Returned);
    }

    [Fact]
    public async Task AWorkerThatIsToldToStopFinishesTheTurnUnderWayAndHandsItsEpisodesBack()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxEpisodes = 2 };
        rig.Learner.HoldAcknowledgements = true;
        using var gate = new SemaphoreSlim(0);
        rig.Environments.BeforeStep = (_, _, token) => gate.WaitAsync(token);
        await rig.StartAsync();
        rig.Learner.Lease(Enumerable.Range(0, 2).Select(i => FakeLearner.NewLease($"e{i}", turns: 3)));
        await rig.Until(() => rig.Environments.Made == 2 && rig.Worker.Counters.GeneratedTokens > 0, "both play");
        var leaving = rig.Worker.HandBackAsync();
        await Task.Delay(100);
        Assert.Empty(rig.Learner.Returned);
        gate.Release(100);
        await rig.Until(() => rig.Learner.Returned.Count == 2, "both come back");
        Assert.False(leaving.IsCompleted); // what it played is not known to be safe yet
        rig.Learner.AcknowledgeAll();
        await leaving.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.All(rig.Learner.Returned, back => Assert.True(back.Leaving, back.Reason));
        foreach (var episode in new[] { "e0", "e1" }) Assert.Equal([0], rig.Learner.Of(episode).Select(t => t.Turn));
        Assert.Equal(2, rig.Worker.Counters.EpisodesReturned);
        Assert.Equal(1, rig.Learner.CleanEnds);
    }

    [Fact]
    public async Task ADrainWaitsForTheLastAcknowledgements()
    {
        await using var rig = new Rig();
        rig.Learner.HoldAcknowledgements = true;
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.UntilEnded(1);
        var stopping = rig.Worker.StopAsync(drain: true);
        await Task.Delay(100);
        Assert.False(stopping.IsCompleted);
        rig.Learner.AcknowledgeAll();
        await rig.DrainAsync();
        await stopping;
    }

    [Fact]
    public async Task ADrainThatTakesTooLongHandsTheRestBack()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { DrainTimeout = TimeSpan.FromMilliseconds(150) };
        rig.Environments.BeforeStep = (_, _, token) => Task.Delay(Timeout.Infinite, token);
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.Until(() => rig.Worker.Counters.GeneratedTokens > 0, "the episode runs");
        await rig.Worker.StopAsync(drain: true).WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal("e", Assert.Single(rig.Learner.Returned).EpisodeId);
        Assert.Equal(1, rig.Learner.CleanEnds);
    }

    [Fact]
    public async Task AStopHandsRunningEpisodesBack()
    {
        await using var rig = new Rig();
        rig.Environments.BeforeStep = (_, _, token) => Task.Delay(Timeout.Infinite, token);
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("a", turns: 2), FakeLearner.NewLease("b", turns: 2));
        await rig.Until(() => rig.Environments.Made == 2, "the episodes run");
        await rig.Worker.StopAsync(drain: false).WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(["a", "b"], rig.Learner.Returned.Select(r => r.EpisodeId).Order());
        Assert.All(rig.Learner.Returned, r => Assert.Equal("The worker leaves: it was told to stop.", r.Reason));
        await rig.Until(() => rig.Environments.Disposed == 2, "the environments are disposed");
    }

    [Fact]
    public async Task AStopWithoutALearnerDoesNotHang()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        await rig.Until(() => rig.Worker.Counters.Connections == 1, "the worker is connected");
        await rig.Learner.StopAsync();
        await rig.Worker.StopAsync(drain: true).WaitAsync(TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task TwoHundredEpisodesAtOnce()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxEpisodes = 200 };
        rig.Environments.BeforeStep = async (_, call, token) =>
        {
            // Everybody meets once, so that all of them really run at the same time.
            if (call == 0)
            {
                while (rig.Environments.Made < 200)
                    await Task.Delay(1, token);
            }
        };
        await rig.StartAsync();
        TaskLease[] leases = [.. Enumerable.Range(0, 400).Select(i => FakeLearner.NewLease($"e{i}", turns: 1 + (i % 5), seed: (ulong)i))];
        rig.Learner.Lease(leases);
        await rig.UntilEnded(400);

        Assert.Equal(leases.Sum(l => rig.Expected(l).Count), rig.Learner.Received.Count);
        var byEpisode = rig.Learner.Received.ToLookup(t => t.EpisodeId);
        foreach (var lease in leases)
            Assert.Equal(rig.Expected(lease), byEpisode[lease.EpisodeId].Select(Rig.WithoutTiming));
        Assert.Equal(400, rig.Worker.Counters.EpisodesFinished);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task SerialModeGivesTheSameBytesAgainAndTheSameAsParallelMode()
    {
        var first = await PlayAsync(serial: true);
        var second = await PlayAsync(serial: true);
        var parallel = await PlayAsync(serial: false);
        Assert.Equal(first, second);
        Assert.Equal(first, parallel);

        static async Task<List<string>> PlayAsync(bool serial)
        {
            await using var rig = new Rig();
            rig.Options = rig.Options with { Serial = serial };
            await rig.StartAsync();
            rig.Learner.Lease(
                Enumerable.Range(0, 12).Select(i => FakeLearner.NewLease($"e{i:00}", turns: 1 + (i % 4), seed: (ulong)i * 77)));
            await rig.UntilEnded(12);
            List<string> bytes =
            [
                .. rig.Learner.Received.Select(Rig.WithoutTiming).OrderBy(t => t.EpisodeId, StringComparer.Ordinal).ThenBy(t => t.Turn)
                    .Select(t => Convert.ToHexString(t.ToByteArray())),
            ];
            await rig.DrainAsync();
            return bytes;
        }
    }

    [Fact]
    public async Task EveryContradictionOfTheOptionsIsNamedAtOnce()
    {
        var rig = new Rig();
        rig.Options = rig.Options with
        {
            LearnerAddress = "ftp://somewhere",
            MaxEpisodes = 0,
            MaxObservationTokens = 1,
            HeartbeatInterval = TimeSpan.Zero,
            MaxReconnectDelay = TimeSpan.FromMilliseconds(1),
            MaxNewTokens = 400,
        };
        var failure = await Assert.ThrowsAsync<RolloutWorkerException>(() => rig.StartAsync(learner: false));
        Assert.Equal(6, failure.Message.Split('\n').Length);
        Assert.Contains("LearnerAddress is \"ftp://somewhere\"", failure.Message);
        Assert.Contains("MaxEpisodes is 0", failure.Message);
        Assert.Contains("HeartbeatInterval", failure.Message);
        Assert.Contains("MaxReconnectDelay", failure.Message);
        Assert.Contains("MaxNewTokens (400)", failure.Message);
        Assert.Contains("MaxObservationTokens is 1; the tag </information> alone takes 1 tokens", failure.Message);
    }
}
