using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class TrajectoryAssemblerTests
{
    [Fact]
    public void Turns_in_any_order_and_more_than_once_make_the_same_trajectory()
    {
        var random = new Random(1);
        for (var round = 0; round < 200; round++)
        {
            var want = TestData.Trajectory(random, 31, random.Next(1, 6));
            var subs = ToMessages(want);
            var sent = subs.Concat(subs.Where(_ => random.Next(2) == 0)).ToArray();
            random.Shuffle(sent);
            var assembler = new TrajectoryAssembler(TestData.Limits);
            Trajectory? got = null;
            var held = new HashSet<int>();
            foreach (var sub in sent)
            {
                if (got is not null) break; // what comes after completion is the ledger's to ignore
                var result = assembler.Add(sub, newestVersion: 0);
                Assert.Equal(!held.Add(sub.Turn) ? AssemblyOutcome.Duplicate : held.Count == subs.Count ? AssemblyOutcome.Completed : AssemblyOutcome.Buffered, result.Outcome);
                got = result.Trajectory;
            }

            Assert.NotNull(got);
            Assert.Equal(want.Prompt, got.Prompt);
            Assert.Equal(want.Reward, got.Reward);
            Assert.Equal(want.Turns.Count, got.Turns.Count);
            for (var j = 0; j < want.Turns.Count; j++)
            {
                Assert.Equal(want.Turns[j].Context, got.Turns[j].Context);
                Assert.Equal(want.Turns[j].Generated, got.Turns[j].Generated);
                Assert.Equal(want.Turns[j].StateLength, got.Turns[j].StateLength);
                Assert.Equal(want.Turns[j].LogProbs, got.Turns[j].LogProbs);
                Assert.Equal(want.Turns[j].PolicyVersions, got.Turns[j].PolicyVersions);
            }

            Assert.Equal(0, assembler.OpenEpisodes);
        }
    }

    public static TheoryData<string, Action<SubTrajectory>, string> Lies => new()
    {
        { "a log-prob is missing", s => s.LogProbs.RemoveAt(0), "log-probs" },
        { "a version is missing", s => s.PolicyVersions.RemoveAt(0), "versions" },
        { "a log-prob is NaN", s => s.LogProbs[0] = float.NaN, "not finite" },
        { "no prompt", s => s.Segments.RemoveAt(0), "does not begin with a prompt" },
        { "two prompts", s => s.Segments.Insert(1, s.Segments[0].Clone()), "second prompt" },
        { "nothing generated", s => { foreach (var g in s.Segments.Where(x => x.Generated).ToList()) s.Segments.Remove(g); }, "generated nothing" },
        { "context after generation", s => s.Segments.Add(new Segment { Kind = SegmentKind.Information, Tokens = { 1 } }), "context after" },
        { "no outcome", s => s.Outcome = null, "without an outcome" },
        { "another prompt", s => s.Segments[0].Tokens[0] ^= 1, "another prompt" },
        { "a context that is not the turn before", s => s.Segments[1].Tokens[0] ^= 1, "not the turn before" },
    };

    [Theory, MemberData(nameof(Lies))]
    public void An_inconsistent_sub_trajectory_is_refused_with_its_reason(string what, Action<SubTrajectory> lie, string sentence)
    {
        var subs = ToMessages(TestData.Trajectory(new Random(3), 31, 3));
        lie(subs[^1]);
        var assembler = new TrajectoryAssembler(TestData.Limits);
        AssemblyResult last = default;
        foreach (var sub in subs) last = assembler.Add(sub, newestVersion: 0);
        Assert.True(last.Outcome == AssemblyOutcome.Rejected, what);
        Assert.Contains(sentence, last.Reason, StringComparison.Ordinal);
        Assert.Equal(0, assembler.OpenEpisodes);
    }

    internal static List<SubTrajectory> ToMessages(Trajectory t, int attempt = 1)
    {
        var subs = new List<SubTrajectory>();
        for (var j = 0; j < t.Turns.Count; j++)
        {
            var turn = t.Turns[j];
            var sub = new SubTrajectory { EpisodeId = t.EpisodeId, TaskId = t.TaskId, Attempt = attempt, Turn = j };
            void Add(SegmentKind kind, IEnumerable<int> tokens, bool generated)
            {
                var segment = new Segment { Kind = kind, Generated = generated };
                segment.Tokens.AddRange(tokens);
                if (segment.Tokens.Count > 0) sub.Segments.Add(segment);
            }

            Add(SegmentKind.Prompt, t.Prompt, false);
            if (j > 0)
            {
                var before = t.Turns[j - 1];
                Add(SegmentKind.InternalState, before.Generated[..before.StateLength], false);
                Add(SegmentKind.Action, before.Generated[before.StateLength..], false);
                Add(SegmentKind.Information, before.Observation, false);
            }

            Add(SegmentKind.InternalState, turn.Generated[..turn.StateLength], true);
            Add(SegmentKind.Action, turn.Generated[turn.StateLength..], true);
            sub.LogProbs.AddRange(turn.LogProbs);
            sub.PolicyVersions.AddRange(turn.PolicyVersions);
            sub.Observation.AddRange(turn.Observation);
            if (j == t.Turns.Count - 1)
            {
                sub.End = EndReason.Answered;
                sub.Outcome = new EpisodeOutcome { Reward = t.Reward };
                sub.Outcome.ExactMatch.AddRange(t.ExactMatch);
                sub.Outcome.F1.AddRange(t.F1);
            }

            subs.Add(sub);
        }

        return subs;
    }
}
