using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>Episodes that go on from turns played before.</summary>
public sealed class ResumedEpisodeTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task AnEpisodeGoesOnFromItsLastWholeTurnAsIfItHadNeverBeenCutOff(int played)
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        var whole = rig.Expected(lease);
        lease.Prefix.AddRange(whole[..played]);
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);

        // Only the new turns are sent, the environment has heard all actions in order.
        Assert.Equal(whole[played..], rig.Learner.Received.Select(Rig.WithoutTiming));
        Assert.Equal(whole.Select(t => rig.Tokenizer.Decode([.. t.Segments.Where(s => s.Generated).SelectMany(s => s.Tokens)])),
            rig.Environments.Responses.Select(r => r.Response));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task TurnsThatTheEnvironmentAnswersDifferentlyAreHandedBackBeforeAnythingIsSent()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        lease.Prefix.AddRange(rig.Expected(lease)[..2]);
        lease.Prefix[1].Observation[^2]++;
        rig.Learner.Lease(lease);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");
        Assert.Contains("answers turn 1 differently", rig.Learner.Returned.Single().Reason, StringComparison.Ordinal);
        Assert.Empty(rig.Learner.Received);
        await rig.DrainAsync();
    }

    public static TheoryData<string, Action<TaskLease>, string> Lies => new()
    {
        { "another prompt", l => l.Prefix[0].Segments[0].Tokens[1]++, "its prompt is another one" },
        { "a turn is missing", l => l.Prefix.RemoveAt(0), "has turn 1 where turn 0 belongs" },
        { "a version is missing", l => l.Prefix[1].PolicyVersions.RemoveAt(0), "versions" },
        { "an end", l => l.Prefix[1].End = EndReason.Answered, "ends the episode" },
        { "no end of a response", l => l.Prefix[1].ResponseEnd = ResponseEnd.Unspecified, "why its response ended" },
    };

    [Theory, MemberData(nameof(Lies))]
    public async Task TurnsThatContradictThemselvesAreHandedBack(string what, Action<TaskLease> lie, string sentence)
    {
        Assert.NotEmpty(what);
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        lease.Prefix.AddRange(rig.Expected(lease)[..2]);
        lie(lease);
        rig.Learner.Lease(lease);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");
        Assert.Contains(sentence, rig.Learner.Returned.Single().Reason, StringComparison.Ordinal);
        Assert.Empty(rig.Learner.Received);
        await rig.DrainAsync();
    }
}
