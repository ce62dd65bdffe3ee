using Akka.Actor;

namespace Mem1.Actors.Tests;

/// <summary>What is known of mailboxes: counted by going through them.</summary>
public sealed class MailCountTests : IAsyncDisposable
{
    private readonly ActorBoard _board = new();
    private readonly ActorSystem _system = ActorSystem.Create("mail");
    private readonly SemaphoreSlim _go = new(0), _begun = new(0);

    public async ValueTask DisposeAsync()
    {
        _go.Release(1000);
        await _system.Terminate();
    }

    [Fact]
    public async Task WhatWaitsInAMailboxIsCountedOnceTheActorHasWorkedThroughIt()
    {
        var actor = Start("slow");
        for (var i = 0; i < 12; i++) actor.Tell("work");
        await _begun.WaitAsync(TimeSpan.FromSeconds(20));
        Look("slow"); // it is busy with the first, and a probe waits behind the others
        _go.Release(12);
        await Until(() => Look("slow").Mailbox is >= 11);

        var busy = Look("slow");
        Assert.Equal(11, busy.Mailbox);
        Assert.True(busy.Oldest > TimeSpan.Zero);
        await Until(() => Look("slow") is { Mailbox: 0, MessagesPerSecond: 0 }); // probed again, by then idle
    }

    [Fact]
    public async Task AnActorThatHangsIsSeenToHang()
    {
        var actor = Start("stuck");
        actor.Tell("work");
        await Until(() => Look("stuck") is { Mailbox: null, Oldest: { } oldest } && oldest > TimeSpan.FromSeconds(2));
    }

    [Fact]
    public async Task ThoseThatAreGoneAreNotAsked()
    {
        Start("gone");
        await Until(() => Look("gone").Mailbox == 0);
        _board.Stopped("gone", "finished");

        Assert.Equal((null, null, null), (Look("gone").Mailbox, Look("gone").Oldest, Look("gone").MessagesPerSecond));
    }

    [Fact]
    public async Task AWorkerThatPlaysShowsTheMailOfAllItsActors()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        rig.Learner.Lease([.. Enumerable.Range(0, 5).Select(i => FakeLearner.NewLease($"e{i}", turns: 4))]);
        await rig.UntilEnded(5);
        await rig.Until(
            () => new[] { "supervisor", "policy", "uplink" }.All(kind => rig.Worker.Actors.Single(a => a.Kind == kind).Mailbox is not null),
            "all are probed");
        Assert.All(rig.Worker.Actors.Where(a => a.Kind == "episode"), a => Assert.Null(a.Mailbox)); // they have ended
        await rig.DrainAsync();
    }

    private ActorStatus Look(string name) => _board.Snapshot().Single(a => a.Name == name);

    private IActorRef Start(string name)
    {
        var (board, go, begun) = (_board, _go, _begun);
        board.Started(name, "episode");
        return _system.ActorOf(Props.Create(() => new Worker(board, go, begun)), name);
    }

    private static async Task Until(Func<bool> condition)
    {
        var deadline = DateTime.UtcNow + TimeSpan.FromSeconds(20);
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < deadline, "Not within 20 seconds.");
            await Task.Delay(20);
        }
    }

    private sealed class Worker : CountedActor
    {
        public Worker(ActorBoard board, SemaphoreSlim go, SemaphoreSlim begun)
            : base(board) => Receive<string>(_ =>
            {
                begun.Release();
                go.Wait(TimeSpan.FromSeconds(30));
            });
    }
}
