namespace Mem1.Actors.Tests;

/// <summary>What is shown of a worker's actors.</summary>
public sealed class ActorBoardTests
{
    [Fact]
    public void ActorsThatAreGoneLeaveAfterAWhileAndThoseThatLiveStay()
    {
        var board = new ActorBoard();
        board.Started("policy", "policy");
        for (var i = 0; i < 1000; i++)
        {
            board.Started($"episode-{i}", "episode", $"e{i}", 1);
            board.Stopped($"episode-{i}", "finished");
        }

        var actors = board.Snapshot();
        Assert.Equal(101, actors.Count);
        Assert.Contains(actors, a => a.Name == "policy");
        Assert.Contains(actors, a => a.EpisodeId == "e999");
        Assert.DoesNotContain(actors, a => a.EpisodeId == "e899");
    }

    [Fact]
    public void AnEpisodeOfManyTurnsKeepsItsLastSpans()
    {
        var board = new ActorBoard();
        board.Started("episode-0", "episode", "e", 1);
        for (var turn = 0; turn < 500; turn++)
        {
            board.Enter("episode-0", "generating", turn);
            board.Generated("episode-0", turn);
        }

        var spans = Assert.Single(board.Snapshot()).Spans;
        Assert.InRange(spans.Count, 100, 200);
        Assert.Equal((499, 499L), (spans[^1].Turn, spans[^1].PolicyVersion));
        Assert.All(spans.Zip(spans.Skip(1)), p => Assert.True(p.First.Ago - p.First.Length >= p.Second.Ago - TimeSpan.FromMilliseconds(1)));
    }

    [Fact]
    public void AFailureIsShownWithItsCausesAndOutlivesTheStop()
    {
        var board = new ActorBoard();
        board.Started("episode-0", "episode", "e", 1);
        board.Failed("episode-0", new InvalidOperationException("outer", new IOException("inner")), restarts: false);
        board.Stopped("episode-0", "returned");
        for (var i = 1; i < 1000; i++)
        {
            board.Started($"episode-{i}", "episode", $"e{i}", 1);
            board.Stopped($"episode-{i}", "finished");
        }

        var actor = Assert.Single(board.Snapshot(), a => a.State != "finished");
        Assert.Equal(("failed", "InvalidOperationException: outer\nIOException: inner"), (actor.State, actor.LastFailure));
    }

    [Fact]
    public void TimeIsAddedUpByStateWhenAStateIsLeftAndAFailureIsTold()
    {
        var board = new ActorBoard();
        var told = 0;
        board.Failing += () => told++;
        foreach (var name in (string[])["episode-0", "episode-1"])
        {
            board.Started(name, "episode", "e", 1);
            board.Enter(name, "generating", 0);
            Assert.Equal(TimeSpan.Zero, board.Spent("environment"));
        }

        Thread.Sleep(5);
        foreach (var name in (string[])["episode-0", "episode-1"]) board.Enter(name, "environment", 0);
        Assert.True(board.Spent("generating") >= TimeSpan.FromMilliseconds(10), "both count");
        board.Failed("episode-0", new IOException("x"), restarts: false);
        board.Stopped("episode-0", "returned");
        Assert.True(board.Spent("environment") > TimeSpan.Zero);
        Assert.Equal(1, told);
    }

    [Fact]
    public void WhatIsSaidOfAnActorThatIsNotThereIsPassedOver()
    {
        var board = new ActorBoard();
        board.Enter("ghost", "generating", 0);
        board.Generated("ghost", 1);
        board.Failed("ghost", new IOException("x"), restarts: true);
        board.Stopped("ghost", "finished");

        Assert.Empty(board.Snapshot());
    }
}
