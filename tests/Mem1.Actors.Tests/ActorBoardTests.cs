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

        var actor = Assert.Single(board.Snapshot());
        Assert.Equal(("failed", "InvalidOperationException: outer\nIOException: inner"), (actor.State, actor.LastFailure));
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
