using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

public sealed class EpisodeTests
{
    [Fact]
    public async Task AnEpisodeIsStreamedTurnByTurnWithExactlyItsTokens()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);

        Assert.Equal(rig.Expected(lease), rig.Learner.Received.Select(Rig.WithoutTiming));
        await rig.DrainAsync();
        Assert.Equal(1, rig.Learner.CleanEnds);
        var counters = rig.Worker.Counters;
        Assert.Equal((1, 4, 0), (counters.EpisodesFinished, counters.Turns, counters.EpisodesReturned));
        Assert.Equal(rig.Learner.Received.Sum(t => t.LogProbs.Count), counters.GeneratedTokens);
        Assert.True(counters.TokensPerSecond > 0);
        Assert.Equal(1, counters.BatchOccupancy);
    }
}
