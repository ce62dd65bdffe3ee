// The learner's service over real HTTP/2 on loopback, spoken to by a hand-written worker. Waits are generous bounds, never measurements.
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Grpc.Core;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class LearnerHostTests : IAsyncDisposable
{
    private const long Fingerprint = 77;

    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights, segmentBytes: 10_007));
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;
    private LearnerHost? _host;

    [Fact]
    public async Task A_worker_says_hello_takes_leases_plays_them_and_is_acknowledged()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 2, _limit);
        Assert.Equal((0, Fingerprint), (worker.Welcome.PolicyVersion, worker.Welcome.ModelFingerprint));
        var run = host.Ledger.RunAsync(Requests(3), null, _limit);
        await worker.ReadyAsync(version: 0, credit: 100); // more than it said it can play: the learner does not believe it
        var first = await worker.LeaseAsync();
        var second = await worker.LeaseAsync();
        Assert.Equal(1, host.Ledger.Counts.Pending);
        Assert.Equal([("t0", "w", 1), ("t1", "w", 1)], host.Ledger.Leases.Select(l => (l.EpisodeId, l.WorkerId, l.Attempt)).Order());
        var known = Assert.Single(host.Workers);
        Assert.Equal(("w", 0, 0), (known.WorkerId, known.AppliedVersion, known.Credit));
        Assert.Equal(["what?"], first.Task.Objectives.Select(o => o.Question));
        await worker.PlayAsync(first);
        await worker.ReadyAsync(version: 0, credit: 1);
        var third = await worker.LeaseAsync();
        await worker.PlayAsync(second);
        await worker.PlayAsync(third);
        Assert.Equal(["t0", "t1", "t2"], (await run).Select(t => t.TaskId));
        await worker.LeaveAsync();
    }

    [Fact]
    public async Task A_batch_is_shared_between_workers_and_survives_one_that_leaves()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var a = await Peer.JoinAsync(host, "a", maxEpisodes: 4, _limit);
        using var b = await Peer.JoinAsync(host, "b", maxEpisodes: 4, _limit);
        var run = host.Ledger.RunAsync(Requests(6), null, _limit);
        await a.ReadyAsync(version: 0, credit: 3);
        await b.ReadyAsync(version: 0, credit: 3);
        var ofA = new[] { await a.LeaseAsync(), await a.LeaseAsync(), await a.LeaseAsync() };
        var ofB = new[] { await b.LeaseAsync(), await b.LeaseAsync(), await b.LeaseAsync() };
        Assert.Equal(6, ofA.Concat(ofB).Select(l => l.TaskId).Distinct().Count());
        await a.PlayAsync(ofA[0]);
        await a.LeaveAsync();
        foreach (var lease in ofB) await b.PlayAsync(lease);
        await b.ReadyAsync(version: 0, credit: 4);
        foreach (var again in new[] { await b.LeaseAsync(), await b.LeaseAsync() })
        {
            Assert.Equal(2, again.Attempt);
            await b.PlayAsync(again);
        }

        Assert.Equal(6, (await run).Count);
    }

    [Fact]
    public async Task Leases_wait_for_the_newest_weights_which_are_announced_and_pulled_whole()
    {
        var host = await StartAsync();
        var shape = TestData.Shape(true, 0) with { VocabularySize = 2000 }; // several chunks
        for (var version = 3; version <= 4; version++) _publisher.Publish(TestData.Weights(shape, version), version);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        Assert.Equal(4, worker.Welcome.PolicyVersion);
        var run = host.Ledger.RunAsync(Requests(1), null, _limit);
        await worker.ReadyAsync(version: 4, credit: 1);
        var lease = await worker.LeaseAsync();
        var weights = TestData.Weights(shape, 5);
        _publisher.Publish(weights, 5);
        Assert.Equal(5, (await worker.NextAsync(LearnerMessage.BodyOneofCase.Weights)).Weights.PolicyVersion);

        var (bytes, chunks, hash) = await worker.PullAsync(5);
        Assert.True(chunks > 1);
        Assert.Equal(SHA256.HashData(bytes), hash);
        Assert.Equal(Safetensors.ToBytes(weights), bytes);
        Assert.Equal(Safetensors.ToBytes(TestData.Weights(shape, 4)), (await worker.PullAsync(4)).Bytes); // a pull under way can finish
        foreach (var gone in new long[] { 3, 6, -1 })
            Assert.Equal(StatusCode.NotFound, (await Assert.ThrowsAsync<RpcException>(() => worker.PullAsync(gone))).StatusCode);
        await worker.PlayAsync(lease);
        Assert.Equal("t0", Assert.Single(await run).TaskId);
    }

    [Fact]
    public async Task A_worker_that_comes_back_while_others_are_sent_home_is_sent_home_too()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var there = await Peer.JoinAsync(host, "there", maxEpisodes: 1, _limit);
        var drained = host.DrainAsync("The run is finished.");
        Assert.Equal("The run is finished.", (await there.NextAsync(LearnerMessage.BodyOneofCase.Drain)).Drain.Reason);
        using var late = await Peer.JoinAsync(host, "late", maxEpisodes: 1, _limit);
        Assert.Equal("The run is finished.", (await late.NextAsync(LearnerMessage.BodyOneofCase.Drain)).Drain.Reason);
        await there.LeaveAsync();
        await late.LeaveAsync();
        await drained;
    }

    [Fact]
    public async Task Weights_travel_as_a_difference_and_from_any_byte_on()
    {
        var host = await StartAsync();
        var shape = TestData.Shape(true, 0) with { VocabularySize = 2000 };
        var before = TestData.Weights(shape, 1);
        // One update moves every weight a little.
        var after = new ModelWeights(before.Tensors.ToDictionary(
            t => t.Key, t => t.Value with { Data = Array.ConvertAll(t.Value.Data, x => x * (1 + 1e-5f)) }));
        _publisher.Publish(before, 0);
        _publisher.Publish(after, 1);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        var whole = await worker.PullAsync(1);
        var delta = await worker.PullAsync(1, have: 0, encoding: WeightEncoding.Delta);
        Assert.Equal(whole.Sha256, delta.Sha256);
        var applied = WeightDelta.Apply(ByteBlob.Of((await worker.PullAsync(0)).Bytes), ByteBlob.Of(delta.Bytes));
        Assert.Equal(whole.Bytes, applied.Part(0, whole.Bytes.Length).ToArray());
        Assert.InRange(delta.Bytes.Length, 1, whole.Bytes.Length * 2 / 3);

        foreach (var have in new long[] { 1, 7 }) Assert.Equal(whole.Bytes, (await worker.PullAsync(1, have)).Bytes); // nothing to gain
        var rest = await worker.PullAsync(1, offset: 100_001);
        Assert.Equal(whole.Bytes[100_001..], rest.Bytes);
        Assert.Equal(whole.Sha256, rest.Sha256);
        foreach (var beyond in new long[] { -1, whole.Bytes.Length })
        {
            Assert.Equal(
                StatusCode.OutOfRange, (await Assert.ThrowsAsync<RpcException>(() => worker.PullAsync(1, offset: beyond))).StatusCode);
        }
    }

    public static TheoryData<string, WorkerMessage, StatusCode, string> BadBeginnings => new()
    {
        { "no hello", new WorkerMessage { Heartbeat = new Heartbeat() }, StatusCode.FailedPrecondition, "must be Hello" },
        { "nothing", new WorkerMessage(), StatusCode.FailedPrecondition, "must be Hello" },
        {
            "another protocol", new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = 2, MaxEpisodes = 1 } },
            StatusCode.FailedPrecondition, "protocol version 2; this learner speaks 1"
        },
        {
            "another model",
            new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = 1, MaxEpisodes = 1, ModelFingerprint = 8 } },
            StatusCode.FailedPrecondition, "Worker w has a model of another shape (8; the run's is 4d)"
        },
        {
            "another run",
            new WorkerMessage
            {
                Hello = new Hello { WorkerId = "w", ProtocolVersion = 1, MaxEpisodes = 1, ModelFingerprint = Fingerprint, RunFingerprint = 9 },
            },
            StatusCode.FailedPrecondition, "another tokenizer or environment (9; the run's is 0)"
        },
        {
            "no name", new WorkerMessage { Hello = new Hello { ProtocolVersion = 1, MaxEpisodes = 1 } },
            StatusCode.InvalidArgument, "worker_id"
        },
        {
            "no room", new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = 1, MaxEpisodes = -1 } },
            StatusCode.InvalidArgument, "max_episodes"
        },
    };

    [Theory, MemberData(nameof(BadBeginnings))]
    public async Task A_stream_that_begins_badly_is_refused_with_a_sentence(string what, WorkerMessage first, StatusCode code, string sentence)
    {
        Assert.NotEmpty(what);
        var host = await StartAsync();
        using var worker = new Peer(host, _limit);
        var refusal = await worker.RefusedAsync(first);
        Assert.Equal(code, refusal.StatusCode);
        Assert.Contains(sentence, refusal.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_second_hello_ends_the_stream()
    {
        var host = await StartAsync();
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        var refusal = await worker.RefusedAsync(new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = 1, MaxEpisodes = 1 } });
        Assert.Equal(StatusCode.InvalidArgument, refusal.StatusCode);
    }

    [Fact]
    public async Task Rubbish_is_acknowledged_and_costs_an_attempt_and_the_reasons_are_kept()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 10, _limit);
        var run = host.Ledger.RunAsync(Requests(2), null, _limit);
        await worker.ReadyAsync(version: 0, credit: 10);
        var lies = new Action<SubTrajectory>[]
        {
            s => s.Segments[^1].Tokens[0] = 31, s => s.Outcome.Reward = double.NaN, s => s.Outcome.ExactMatch.Add(1),
        };
        var good = new List<TaskLease>();
        var told = 0;
        while (told < lies.Length)
        {
            var lease = await worker.LeaseAsync();
            if (lease.TaskId == "t0") await worker.PlayAsync(lease, lies[told++]);
            else good.Add(lease);
        }

        // Of an episode nobody leased, and from nowhere: acknowledged, so that whoever sent it forgets it.
        var stray = new SubTrajectory { EpisodeId = "no such episode", Turn = -5, Attempt = int.MinValue };
        await worker.SendAsync(new WorkerMessage { SubTrajectory = stray });
        Assert.Equal(-5, (await worker.NextAsync(LearnerMessage.BodyOneofCase.Ack)).Ack.Turn);
        await worker.SendAsync(new WorkerMessage { Credit = new LeaseCredit { Episodes = int.MaxValue } });
        await worker.SendAsync(new WorkerMessage { Credit = new LeaseCredit { Episodes = int.MinValue } });
        await worker.SendAsync(new WorkerMessage { LeaseReturned = new LeaseReturned { EpisodeId = "nor this one" } });

        await worker.PlayAsync(Assert.Single(good));
        Assert.Equal(["t1"], (await run).Select(t => t.TaskId));
        var reasons = Assert.Single(host.Ledger.Quarantined).Reasons;
        Assert.Contains("vocabulary of 31", reasons[0], StringComparison.Ordinal);
        Assert.Contains("reward of NaN", reasons[1], StringComparison.Ordinal);
        Assert.Contains("scores 2 objectives of a task that has 1", reasons[2], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_the_holder_of_a_lease_can_finish_or_return_it()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var holder = await Peer.JoinAsync(host, "holder", maxEpisodes: 1, _limit);
        using var other = await Peer.JoinAsync(host, "other", maxEpisodes: 1, _limit);
        var run = host.Ledger.RunAsync(Requests(1), null, _limit);
        await holder.ReadyAsync(version: 0, credit: 1);
        var lease = await holder.LeaseAsync();
        await other.SendAsync(new WorkerMessage { LeaseReturned = new LeaseReturned { EpisodeId = lease.EpisodeId, Attempt = lease.Attempt } });
        await other.PlayAsync(lease);
        Assert.Equal(1, host.Ledger.Counts.Leased);
        await holder.PlayAsync(lease);
        Assert.Single(await run);
    }

    [Fact]
    public async Task A_silent_worker_is_cut_off()
    {
        var host = await StartAsync(TimeSpan.FromMilliseconds(200));
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        Assert.Equal(StatusCode.Cancelled, (await worker.EndAsync()).StatusCode);
    }

    [Fact]
    public async Task A_worker_that_does_not_read_is_cut_off_and_others_go_on()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var deaf = await Peer.JoinAsync(host, "deaf", maxEpisodes: 1, _limit);
        using var good = await Peer.JoinAsync(host, "good", maxEpisodes: 1, _limit);
        // Every turn is acknowledged by its name, so long names fill the windows of HTTP/2 and then the learner's queue.
        var name = new string('x', 1000);
        // What the deaf worker hears of its end depends on how much of it still fits the window it never empties.
        await Assert.ThrowsAsync<RpcException>(async () =>
        {
            for (var turn = 0; turn < 20_000; turn++)
                await deaf.SendAsync(new WorkerMessage { SubTrajectory = new SubTrajectory { EpisodeId = name, Turn = turn } });
            throw new InvalidOperationException("The learner kept 20,000 messages for a worker that reads none.");
        });
        var run = host.Ledger.RunAsync(Requests(1), null, _limit);
        await good.ReadyAsync(version: 0, credit: 1);
        await good.PlayAsync(await good.LeaseAsync());
        Assert.Single(await run);
    }

    [Fact]
    public async Task Workers_that_come_go_and_err_while_weights_are_published_lose_and_duplicate_nothing()
    {
        var host = await StartAsync();
        var weights = TestData.Weights(TestData.Shape(true, 0), 1);
        _publisher.Publish(weights, 0);
        using var done = CancellationTokenSource.CreateLinkedTokenSource(_limit);
        var lives = 0;
        var workers = Enumerable.Range(0, 3).Select(w => Task.Run(async () =>
        {
            var random = new Random(w);
            while (!done.IsCancellationRequested)
            {
                Interlocked.Increment(ref lives);
                // Most lives end with a broken stream; what a worker held is leased again when it is back without it.
                using var peer = await Peer.JoinAsync(host, $"w{w}", maxEpisodes: 4, _limit);
                var obeying = peer.ObeyAsync(random);
                await Task.WhenAny(obeying, Task.Delay(random.Next(5, 40), CancellationToken.None));
                if (random.Next(3) == 0) await peer.HangUpAsync();
                peer.Dispose();
                var end = await Record.ExceptionAsync(() => obeying);
                Assert.True(end is null or RpcException or OperationCanceledException or InvalidOperationException, end?.ToString());
            }
        })).ToList();
        var publishing = Task.Run(async () =>
        {
            for (var version = 1; !done.IsCancellationRequested; version++)
            {
                _publisher.Publish(weights, version); // must never throw, whoever is leaving
                await Task.Delay(2, CancellationToken.None);
            }
        });

        for (var round = 0; round < 5 || Volatile.Read(ref lives) < 30; round++)
        {
            var batch = await host.Ledger.RunAsync(Requests(40, $"{round}-"), null, _limit);
            Assert.Equal(batch.Count, batch.Select(t => t.TaskId).Distinct().Count());
            var counts = host.Ledger.Counts;
            Assert.Equal((0, 0, 0, 40 * (round + 1)), (counts.Pending, counts.Leased, counts.Buffered, counts.Total));
        }

        await done.CancelAsync();
        await Task.WhenAll([publishing, .. workers]);
    }

    [Fact]
    public async Task A_message_beyond_the_bound_ends_its_stream_alone()
    {
        var host = await StartAsync();
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        using var other = await Peer.JoinAsync(host, "other", maxEpisodes: 1, _limit);
        var huge = new SubTrajectory { EpisodeId = new string('x', 17 << 20) };
        Assert.Equal(StatusCode.ResourceExhausted, (await worker.RefusedAsync(new WorkerMessage { SubTrajectory = huge })).StatusCode);
        await other.LeaveAsync();
    }

    [Fact]
    public void A_session_that_ended_takes_no_message_and_never_throws()
    {
        var session = new WorkerSession("w", maxEpisodes: 1);
        session.Dispose();
        Assert.False(session.TryWrite(new LearnerMessage())); // the trainer publishes while a worker leaves
        session.Abort();
    }

    [Fact]
    public async Task A_port_in_use_and_an_address_that_is_none_are_one_sentence_each()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        var options = new LearnerHostOptions { Limits = TestData.Limits, Port = port };
        var inUse = await Assert.ThrowsAsync<LearnerException>(() => LearnerHost.StartAsync(options, _publisher, Fingerprint, null, _limit));
        Assert.Contains($"cannot listen on 127.0.0.1:{port}", inUse.Message, StringComparison.Ordinal);
        Assert.Contains("learner.port", inUse.Message, StringComparison.Ordinal);
        foreach (var address in new[] { "nowhere", "192.0.2.1" }) // the second is reserved for documentation: no machine has it
        {
            var bad = options with { Address = address, Port = 0 };
            var refused = await Assert.ThrowsAsync<LearnerException>(() => LearnerHost.StartAsync(bad, _publisher, Fingerprint, null, _limit));
            Assert.Contains(address, refused.Message, StringComparison.Ordinal);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null) await _host.DisposeAsync();
    }

    private async Task<LearnerHost> StartAsync(TimeSpan? silence = null) => _host = await LearnerHost.StartAsync(
        new LearnerHostOptions { Limits = TestData.Limits, SilenceLimit = silence ?? TimeSpan.FromMinutes(1) }, _publisher, Fingerprint, null, _limit);

    private static List<TaskRequest> Requests(int count, string prefix = "t") =>
        [.. Enumerable.Range(0, count).Select(i => new TaskRequest(
            new EnvironmentTask($"{prefix}{i}", [new Objective("o", "what?", ["that"])]), (ulong)(100 + i), 1, 1, 8, false))];
}
