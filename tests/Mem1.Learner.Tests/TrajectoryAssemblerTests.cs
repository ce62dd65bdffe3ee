using Google.Protobuf;
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

    [Fact]
    public void A_full_context_is_every_turn_before_and_nothing_less()
    {
        var random = new Random(8);
        var short_ = TestData.Trajectory(random, 31, 4);
        var turns = new List<Turn>();
        int[] context = [];
        foreach (var turn in short_.Turns)
        {
            turns.Add(turn with { Context = context });
            context = [.. context, .. turn.Generated, .. turn.Observation];
        }

        var whole = short_ with { Turns = turns };
        var full = TestData.Limits with { Layout = LayoutKind.Full };
        Assert.Equal(turns[3].Context, Assembled(full, whole).Trajectory!.Turns[3].Context);
        Assert.Equal(RefusalCause.Context, Assembled(full, short_).Cause);
        Assert.Equal(RefusalCause.Context, Assembled(TestData.Limits, whole).Cause);

        static AssemblyResult Assembled(TrajectoryLimits limits, Trajectory trajectory)
        {
            var assembler = new TrajectoryAssembler(limits, response => limits.Layout == LayoutKind.Full ? response.Length : 0);
            return ToMessages(trajectory).Select(s =>
            {
                foreach (var context in s.Segments.Skip(1).Where(x => !x.Generated).ToList()) s.Segments.Remove(context);
                s.Segments.Insert(1, new Segment { Kind = SegmentKind.Information, Tokens = { trajectory.Turns[s.Turn].Context } });
                return assembler.Add(s, newestVersion: 0);
            }).ToArray()[^1];
        }
    }

    /// <summary>What the environment failed at reaches the metrics; a worker cannot take any of it back.</summary>
    [Theory]
    [InlineData(3, 3)]
    [InlineData(-3, 0)]
    public void Failures_of_the_environment_are_counted(int sent, int counted)
    {
        var subs = ToMessages(TestData.Trajectory(new Random(5), 31, 2));
        subs[^1].Outcome.EnvironmentFailures = sent;
        var assembler = new TrajectoryAssembler(TestData.Limits);
        assembler.Add(subs[0], newestVersion: 0);
        Assert.Equal(counted, assembler.Add(subs[^1], newestVersion: 0).Trajectory!.EnvironmentFailures);
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
        { "a negative turn", s => s.Turn = -1, "is not one of turns" },
        { "a turn beyond all bounds", s => s.Turn = int.MaxValue, "is not one of turns" },
        { "a token beyond the vocabulary", s => s.Segments[^1].Tokens[0] = 31, "vocabulary of 31" },
        { "a negative token", s => s.Segments[0].Tokens[0] = -1, "vocabulary of 31" },
        { "an observation beyond the vocabulary", s => s.Observation.Add(int.MaxValue), "vocabulary of 31" },
        { "a context beyond the model's", s => s.Segments[0].Tokens.AddRange(new int[128]), "context holds 128" },
        { "an observation beyond the model's context", s => s.Observation.AddRange(new int[129]), "context holds 128" },
        { "a kind nobody knows", s => s.Segments[1].Kind = (SegmentKind)99, "no known kind" },
        { "state after action", s => s.Segments.Add(new Segment { Kind = SegmentKind.InternalState, Generated = true, Tokens = { 1 } }), "after its action" },
        { "an infinite log-prob", s => s.LogProbs[0] = float.NegativeInfinity, "not finite" },
        { "a probability above 1", s => s.LogProbs[0] = 0.5f, "above 0" },
        { "a version of the future", s => s.PolicyVersions[0] = 1, "policy version 1; there are 0 to 0" },
        { "a negative version", s => s.PolicyVersions[0] = -1, "policy version -1" },
        { "an unknown end", s => s.End = (EndReason)42, "unknown reason (42)" },
        { "an outcome in the middle", s => s.End = EndReason.Unspecified, "does not end its episode" },
        { "a reward that is no number", s => s.Outcome.Reward = double.NaN, "reward of NaN" },
        { "an endless reward", s => s.Outcome.Reward = 1e30, "reward of 1E+30" },
        { "a turn reward that is no number", s => s.TurnReward = float.NaN, "turn reward of NaN" },
        { "an endless turn reward", s => s.TurnReward = 1e30f, "turn reward of 1E+30" },
        { "a format reward that is no number", s => s.Outcome.FormatReward = double.NaN, "format reward of NaN" },
        { "no scores", s => { s.Outcome.ExactMatch.Clear(); s.Outcome.F1.Clear(); }, "0 exact matches" },
        { "a score too few", s => s.Outcome.F1.Clear(), "0 F1 scores" },
        { "a score that is no number", s => s.Outcome.F1[0] = double.NaN, "outside 0 to 1" },
        { "a context that is not the turn before", s => s.Segments[1].Tokens[0] ^= 1, "not what is kept of the turn before" },
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

    [Fact]
    public void Damaged_messages_never_throw_and_what_is_completed_can_be_trained_on()
    {
        var random = new Random(11);
        int completed = 0, rejected = 0;
        for (var round = 0; round < 5000; round++)
        {
            var assembler = new TrajectoryAssembler(TestData.Limits);
            var subs = ToMessages(TestData.Trajectory(random, 31, random.Next(1, 4)));
            for (var damage = random.Next(3); damage > 0; damage--)
            {
                var at = random.Next(subs.Count);
                if (Damaged(subs[at], random) is { } damaged) subs[at] = damaged;
            }

            foreach (var sub in subs)
            {
                var result = assembler.Add(sub, newestVersion: 0);
                Assert.Equal(result.Outcome == AssemblyOutcome.Rejected, result.Reason is not null);
                if (result.Outcome == AssemblyOutcome.Rejected) rejected++;
                if (result.Trajectory is not { } t) continue;
                completed++;
                Assert.NotEmpty(t.Turns);
                Assert.All(t.Turns, turn =>
                {
                    Assert.InRange(t.Prompt.Length + turn.Context.Length + turn.Generated.Length, 2, TestData.Limits.MaxPositions);
                    Assert.All(t.Prompt.Concat(turn.Context).Concat(turn.Generated), id => Assert.InRange(id, 0, 30));
                    Assert.Equal(turn.Generated.Length, turn.LogProbs.Length);
                    Assert.Equal(turn.Generated.Length, turn.PolicyVersions.Length);
                    Assert.InRange(turn.StateLength, 0, turn.Generated.Length);
                    Assert.All(turn.LogProbs, p => Assert.True(float.IsFinite(p) && p <= 1e-3f));
                    Assert.All(turn.PolicyVersions, v => Assert.Equal(0, v));
                });
                Assert.True(float.IsFinite((float)t.Reward));
                Assert.NotEmpty(t.ExactMatch);
                Assert.NotEqual(Environments.EpisodeEnd.None, t.End);
            }
        }

        Assert.InRange(completed, 1000, 4999); // both things happen, or the test shows nothing
        Assert.True(rejected > 500);
    }

    [Fact]
    public void A_context_without_the_discarded_part_of_a_response_is_taken_and_no_other()
    {
        // Two thirds of a response are dropped, at least nothing and at most all.
        static int Discarded(int[] response) => (2 * response.Length / 3) + (response[0] % 2);
        var random = new Random(5);
        int rejected = 0, whole = 0, mean = 0;
        for (var round = 0; round < 300; round++)
        {
            var (want, subs) = WithoutDiscarded(TestData.Trajectory(random, 31, 3, maxLength: 9), Discarded);
            var got = Assembled(subs, Discarded);
            Assert.True(got.Outcome == AssemblyOutcome.Completed, got.Reason);
            Assert.Equal(want.Turns.Select(t => t.Context), got.Trajectory!.Turns.Select(t => t.Context));

            // A token more or fewer, another token, or the whole response is refused; so is the right context by a learner that keeps all.
            var context = subs[2].Segments.First(s => s is { Generated: false, Kind: SegmentKind.Information });
            var dropped = want.Turns[1].Generated[..Discarded(want.Turns[1].Generated)];
            if (dropped.Length > 0)
            {
                whole++;
                Refused(s => s.Segments.Insert(1, new Segment { Kind = SegmentKind.InternalState, Tokens = { dropped } }), Discarded);
                Refused(s => s.Segments.Insert(1, new Segment { Kind = SegmentKind.InternalState, Tokens = { dropped[^1] } }), Discarded);
                Refused(_ => { }, null);
            }

            Refused(s => s.Segments[1].Tokens.RemoveAt(0), Discarded);
            Refused(s => s.Segments[1].Tokens[0] = (s.Segments[1].Tokens[0] + 1) % 31, Discarded);
            mean += context.Tokens.Count;

            void Refused(Action<SubTrajectory> lie, Func<int[], int>? rule)
            {
                SubTrajectory[] lying = [.. subs.Select(s => s.Clone())];
                lie(lying[2]);
                var result = Assembled(lying, rule);
                Assert.Equal(AssemblyOutcome.Rejected, result.Outcome);
                Assert.Contains("not what is kept of the turn before", result.Reason, StringComparison.Ordinal);
                rejected++;
            }
        }

        Assert.True(whole > 100 && rejected > 600 && mean > 0, $"{whole} {rejected}");

        static AssemblyResult Assembled(IEnumerable<SubTrajectory> subs, Func<int[], int>? rule)
        {
            var assembler = new TrajectoryAssembler(TestData.Limits, rule);
            AssemblyResult last = default;
            foreach (var sub in subs)
            {
                last = assembler.Add(sub, newestVersion: 0);
                if (last.Outcome == AssemblyOutcome.Rejected) break;
            }

            return last;
        }
    }

    /// <summary>The same episode, served without the start of each response.</summary>
    private static (Trajectory Want, List<SubTrajectory> Subs) WithoutDiscarded(Trajectory t, Func<int[], int> discarded)
    {
        Trajectory want = t with
        {
            Turns =
            [
                .. t.Turns.Select((turn, j) => j == 0 ? turn : turn with
                {
                    Context = [.. t.Turns[j - 1].Generated[discarded(t.Turns[j - 1].Generated)..], .. t.Turns[j - 1].Observation],
                }),
            ],
        };
        var subs = ToMessages(t);
        for (var j = 1; j < subs.Count; j++)
        {
            foreach (var old in subs[j].Segments.Skip(1).Where(s => !s.Generated).ToList()) subs[j].Segments.Remove(old);
            subs[j].Segments.Insert(1, new Segment { Kind = SegmentKind.Information, Tokens = { want.Turns[j].Context } });
        }

        return (want, subs);
    }

    /// <summary>A message with a few bytes of its encoding changed; null when it no longer is one.</summary>
    private static SubTrajectory? Damaged(SubTrajectory sub, Random random)
    {
        var bytes = sub.ToByteArray();
        for (var n = random.Next(1, 4); n > 0; n--) bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
        try
        {
            return SubTrajectory.Parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
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
