using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>Streams that break, learners that go away, weights, credit.</summary>
public sealed class UplinkTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(7)]
    public async Task AStreamThatBreaksLosesAndReordersNothing(int every)
    {
        await using var rig = new Rig();
        rig.Learner.BreakOn = (count, _) => count % every == 0 && count < 20;
        await rig.StartAsync();
        TaskLease[] leases = [.. Enumerable.Range(0, 6).Select(i => FakeLearner.NewLease($"e{i}", turns: 4, seed: (ulong)i))];
        rig.Learner.Lease(leases);
        await rig.UntilEnded(6);

        foreach (var lease in leases)
            Assert.Equal(rig.Expected(lease), rig.Learner.Of(lease.EpisodeId).Select(Rig.WithoutTiming));
        // The same turn sent twice is the same message.
        Assert.All(rig.Learner.Received.GroupBy(TurnKey.Of), copies => Assert.Single(copies.Distinct()));
        Assert.True(rig.Learner.Hellos.Count > 1);
        Assert.Single(rig.Learner.Hellos.Select(h => h.WorkerId).Distinct());
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ALearnerThatIsAwayForAWhileHearsEverythingInOrder()
    {
        await using var rig = new Rig();
        using var gate = new SemaphoreSlim(0);
        rig.Environments.BeforeStep = (_, call, token) => call == 1 ? gate.WaitAsync(token) : Task.CompletedTask;
        await rig.StartAsync();
        TaskLease[] leases = [.. Enumerable.Range(0, 4).Select(i => FakeLearner.NewLease($"e{i}", turns: 5))];
        rig.Learner.Lease(leases);
        await rig.Until(() => rig.Environments.Responses.Count == 4, "every episode has played a turn");

        await rig.Learner.StopAsync();
        gate.Release(4);
        await rig.Until(() => rig.Worker.Counters.EpisodesFinished == 4, "the episodes end without the learner");
        await Task.Delay(250);
        Assert.True(rig.Worker.Counters.Unacknowledged >= 16);
        Assert.False(rig.Worker.Completion.IsCompleted);

        await rig.Learner.StartAsync();
        await rig.UntilEnded(4);
        // The hello says what the worker still has: episodes that have ended here, but of which the learner has not heard.
        Assert.Empty(rig.Learner.Hellos.First().Held);
        Assert.Equal(["e0/1", "e1/1", "e2/1", "e3/1"], rig.Learner.Hellos.Last().Held.Select(h => $"{h.EpisodeId}/{h.Attempt}").Order());
        foreach (var lease in leases)
            Assert.Equal(rig.Expected(lease), rig.Learner.Of(lease.EpisodeId).Select(Rig.WithoutTiming));
        rig.Environments.BeforeStep = null;
        rig.Learner.Lease(FakeLearner.NewLease("after", turns: 2));
        await rig.UntilEnded(5);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AWorkerMayStartBeforeItsLearner()
    {
        await using var rig = new Rig();
        await rig.Learner.StartAsync();
        await rig.Learner.StopAsync();
        rig.Options = rig.Options with { LearnerAddress = rig.Learner.Address };
        await rig.StartAsync(learner: false);
        await Task.Delay(150);
        Assert.Equal(0, rig.Worker.Counters.Connections);
        await rig.Learner.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.UntilEnded(1);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AtTheBoundEpisodesPauseAndGoOnWhenTheLearnerAcknowledges()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { MaxUnacknowledged = 5 };
        rig.Learner.HoldAcknowledgements = true;
        await rig.StartAsync();
        rig.Learner.Lease(Enumerable.Range(0, 20).Select(i => FakeLearner.NewLease($"e{i}", turns: 3)));
        await rig.Until(() => rig.Worker.Counters.Unacknowledged == 5, "the bound is reached");
        await Task.Delay(200);

        // Held: 5. Played beyond that: one turn of each running episode at most, which waits with it.
        Assert.Equal(5, rig.Worker.Counters.Unacknowledged);
        Assert.Equal(5, rig.Learner.Received.Count);
        Assert.True(rig.Worker.Counters.Turns <= 5 + rig.Options.MaxEpisodes);
        Assert.Empty(rig.Learner.Violations);

        rig.Learner.AcknowledgeAll();
        await rig.UntilEnded(20);
        Assert.Equal(60, rig.Learner.Distinct.Count);
        Assert.Equal(60, rig.Learner.Received.Count);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task WeightsAreSwappedBetweenTwoTokensAndEveryTokenSaysWhichMadeIt()
    {
        await using var rig = new Rig();
        rig.Engine.BeforeStep = step =>
        {
            // In the middle of a response: the notice goes out, and steps wait (a little) for the swap.
            if (step == 5)
                rig.Learner.Publish(2);
            if (step >= 5)
                Thread.Sleep(10);
        };
        rig.Script = _ => $"<think>{new string('x', 60)}</think><answer>y</answer>";
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);

        var versions = rig.Learner.Received.Single().PolicyVersions;
        Assert.Equal([1, 2], versions.Distinct());
        Assert.Equal(versions.Order(), versions);
        Assert.Equal([1, 2], rig.Learner.Applied);
        Assert.Equal(1, rig.Engine.MadeEngines);
        await rig.Until(() => rig.Learner.Heartbeats.Any(h => h is { PolicyVersion: 2, GeneratedTokens: > 0 }), "a heartbeat says so");
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ALearnerThatGoesBackToAnOlderVersionIsFollowed()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        rig.Learner.Publish(9);
        await rig.Until(() => rig.Learner.Applied.Contains(9), "version 9 is in place");
        rig.Learner.Publish(4);
        await rig.Until(() => rig.Learner.Applied.Contains(4), "version 4 is in place");
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        Assert.Equal([4], rig.Learner.Received.Single().PolicyVersions.Distinct());
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ANewLearnerWithAnOlderVersionIsNotToldOfTheNewerOne()
    {
        await using var rig = new Rig();
        rig.Learner.Version = 9;
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Applied.Contains(9), "version 9 is in place");
        await rig.Learner.StopAsync();
        rig.Learner.Applied.Clear();
        rig.Learner.Version = 4;
        await rig.Learner.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        Assert.Equal([4], rig.Learner.Applied);
        Assert.Equal([4], rig.Learner.Received.Single().PolicyVersions.Distinct());
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ALearnerThatHasPublishedNothingIsWaitedFor()
    {
        await using var rig = new Rig();
        rig.Learner.Version = -1;
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Heartbeats.Count > 1, "the worker is connected");
        Assert.Equal(0, rig.Learner.Pulls);
        rig.Learner.Publish(0);
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        Assert.Equal([0], rig.Learner.Received.Single().PolicyVersions.Distinct());
        await rig.DrainAsync();
    }

    [Theory]
    [InlineData("hash")]
    [InlineData("short")]
    [InlineData("long")]
    [InlineData("huge")]
    [InlineData("version")]
    public async Task DamagedWeightsAreNeverUsed(string damage)
    {
        await using var rig = new Rig();
        var damaged = 0;
        rig.Options = rig.Options with { MaxWeightsBytes = 1000 };
        rig.Learner.Tamper = chunk =>
        {
            if (Volatile.Read(ref rig.Learner.Pulls) > 2)
                return chunk;
            Interlocked.Increment(ref damaged);
            var copy = chunk.Clone();
            if (damage == "hash" && chunk.Sha256.Length > 0)
                copy.Sha256 = ByteString.CopyFrom(new byte[32]);
            if (damage == "short")
                copy.Data = ByteString.CopyFrom(chunk.Data.Span[1..]);
            if (damage == "long")
                copy.Data = ByteString.CopyFrom([.. chunk.Data.Span, 0]);
            if (damage == "huge")
                copy.TotalBytes = 1001;
            if (damage == "version")
                copy.PolicyVersion++;
            return copy;
        };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        Assert.Equal(3, rig.Learner.Pulls);
        Assert.True(damaged > 0);
        Assert.Equal([1], rig.Learner.Applied);
        Assert.Equal(2, rig.Worker.Counters.WeightsFailures);
        await rig.DrainAsync();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task WeightsThatBreakOffOnTheWayGoOnWhereTheyWere(bool delta)
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { WeightsDelta = delta };
        var broken = new HashSet<long> { 0 };
        rig.Learner.Tamper = chunk =>
            broken.Add(chunk.Offset)
                ? throw new RpcException(new Status(StatusCode.Unavailable, "The network broke."))
                : chunk;
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Applied.Contains(1), "the first weights are in place");
        Assert.Equal(0, rig.Worker.Counters.WeightsFailures);
        Assert.Equal([0L, 300L, 600L, 900L], rig.Learner.Requests.Select(r => r.Offset));
        await rig.DrainAsync();
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public async Task ADifferenceToTheVersionInPlaceWillDoAndAWrongOneIsNoHarm(bool served, bool wrong)
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { WeightsDelta = true };
        rig.Learner.Deltas = served;
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Applied.Contains(1), "the first weights are in place");
        Assert.False(rig.Learner.Requests.Single().HasHaveVersion);
        if (wrong) rig.Learner.WrongBase = 0;
        rig.Learner.Publish(2);
        await rig.Until(() => rig.Learner.Applied.Contains(2), "the second weights are in place");
        Assert.Equal(1, rig.Learner.Requests.ElementAt(1).HaveVersion);
        Assert.Equal(wrong ? 1 : 0, rig.Worker.Counters.WeightsFailures);
        if (wrong) Assert.False(rig.Learner.Requests.ElementAt(2).HasHaveVersion); // a base that may be to blame is not used again
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AVersionThatIsNoLongerHeldIsAskedForAgainAndThenTheLearnerForItsNewest()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { WeightsRetries = 1 };
        rig.Learner.Gone.Add(1);
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Hellos.Count >= 2, "the stream is opened anew");
        rig.Learner.Publish(2);
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        Assert.DoesNotContain(1L, rig.Learner.Applied);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ARefusedHelloEndsTheWorkerWithTheLearnersSentence()
    {
        await using var rig = new Rig();
        rig.Learner.RefuseWith = "This learner speaks protocol version 2.";
        await rig.StartAsync();
        var failure = await Assert.ThrowsAsync<RolloutWorkerException>(() => rig.Worker.Completion.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.EndsWith("refused this worker: This learner speaks protocol version 2.", failure.Message);
        Assert.Single(rig.Learner.Hellos);
    }

    [Fact]
    public async Task AModelOfAnotherShapeEndsTheWorker()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { ModelFingerprint = 8 };
        await rig.StartAsync();
        var failure = await Assert.ThrowsAsync<RolloutWorkerException>(() => rig.Worker.Completion.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.Contains("another shape", failure.Message);
    }

    [Fact]
    public async Task AWelcomeThatDoesNotComeIsNotWaitedForForever()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { ConnectTimeout = TimeSpan.FromMilliseconds(100) };
        rig.Learner.HoldWelcome = true;
        await rig.StartAsync();
        await rig.Until(() => rig.Learner.Hellos.Count >= 2, "the worker tries again");
        rig.Learner.HoldWelcome = false;
        rig.Options = rig.Options with { ConnectTimeout = TimeSpan.FromSeconds(5) };
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ALeaseThatIsStillPlayedIsNotPlayedTwice()
    {
        await using var rig = new Rig();
        using var gate = new SemaphoreSlim(0);
        rig.Environments.BeforeStep = (_, _, token) => gate.WaitAsync(token);
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 1);
        rig.Learner.Lease(lease, lease, FakeLearner.NewLease("f", turns: 1));
        await rig.Until(() => rig.Environments.Made == 2, "both episodes run");
        gate.Release(2);
        await rig.UntilEnded(2);
        Assert.Equal(2, rig.Environments.Made);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ANewerAttemptTakesThePlaceOfTheOlderOne()
    {
        await using var rig = new Rig();
        rig.Environments.BeforeStep = (_, _, token) =>
            rig.Environments.Made == 1 ? Task.Delay(Timeout.Infinite, token) : Task.CompletedTask;
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1, attempt: 1));
        await rig.Until(() => rig.Environments.Made == 1 && rig.Worker.Counters.GeneratedTokens > 0, "the first attempt runs");
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1, attempt: 2));
        await rig.UntilEnded(1);
        Assert.Equal(2, rig.Learner.Received.Single().Attempt);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the first attempt comes back");
        Assert.Equal((1, "Attempt 2 has taken its place."), (rig.Learner.Returned.Single().Attempt, rig.Learner.Returned.Single().Reason));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnUplinkThatCrashesKeepsWhatIsUnacknowledged()
    {
        await using var rig = new Rig();
        rig.Jitter = new FaultyRandom(failures: 2);
        rig.Learner.BreakOn = (count, _) => rig.Learner.Hellos.Count == 2 || (rig.Learner.Hellos.Count == 1 && count >= 3);
        await rig.StartAsync();
        TaskLease[] leases = [.. Enumerable.Range(0, 4).Select(i => FakeLearner.NewLease($"e{i}", turns: 4))];
        rig.Learner.Lease(leases);
        await rig.UntilEnded(4);

        foreach (var lease in leases)
            Assert.Equal(rig.Expected(lease), rig.Learner.Of(lease.EpisodeId).Select(Rig.WithoutTiming));
        Assert.Equal(2, rig.Worker.Counters.UplinkCrashes);
        Assert.Equal(3, rig.Worker.Counters.Connections);
        await rig.DrainAsync();
    }

    /// <summary>Throws where the uplink draws its first waits: in the middle of handling a lost stream.</summary>
    private sealed class FaultyRandom(int failures) : Random(1)
    {
        private int _left = failures;

        public override double NextDouble() => _left-- > 0 ? throw new InvalidOperationException("no entropy") : base.NextDouble();
    }
}
