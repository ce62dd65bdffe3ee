// segments, carry and full against the samplers they are meant for: what the learner computes is what the sampler reported; what the sampler
// draws depends neither on what else is in the batch nor on whether it kept an episode's cache or computed it anew.
using Mem1.Environments;
using Mem1.Model;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class LayoutSamplerTests
{
    private const int Vocabulary = 31;

    public static TheoryData<LayoutKind, bool, int, AttentionScale> Cases()
    {
        var data = new TheoryData<LayoutKind, bool, int, AttentionScale>();
        foreach (var kind in new[] { LayoutKind.Segments, LayoutKind.Carry, LayoutKind.Full })
        {
            data.Add(kind, true, 0, AttentionScale.Standard);
            data.Add(kind, false, 4, AttentionScale.LogN);
            data.Add(kind, true, 3, AttentionScale.LogN);
            data.Add(kind, false, 1, AttentionScale.Standard);
        }

        return data;
    }

    [Theory, MemberData(nameof(Cases))]
    public void The_learner_computes_what_the_sampler_reported(LayoutKind kind, bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        var weights = TestData.Weights(shape, 41);
        foreach (var temperature in new[] { 1.0f, 0.7f })
        {
            using var engine = Engine(shape, weights);
            var batch = Play(engine, kind, Script.Many(12, seed: 42), temperature);
            Assert.Contains(batch, t => t.Turns.Count >= 4);
            using var model = new TorchDecoder(shape, weights, CPU);
            var scores = Scoring.Score(model, ILayout.Of(kind), batch, temperature, 2000, values: false);
            var oracle = new DenseOracle(shape, weights);
            double worst = 0, fromExact = 0;
            for (var i = 0; i < batch.Count; i++)
            {
                var behaviour = batch[i].Turns.SelectMany(t => t.LogProbs).ToArray();
                var dense = Rule.Of(kind, batch[i]);
                var all = oracle.LogProbs(dense.Sequence, temperature);
                for (var k = 0; k < behaviour.Length; k++)
                {
                    worst = Math.Max(worst, Math.Abs((double)behaviour[k] - scores[i].LogProbs[k]));
                    fromExact = Math.Max(fromExact, Math.Abs(behaviour[k] - all[dense.Predictions[k]][dense.Targets[k]]));
                }
            }

            Assert.InRange(worst, 0, 1e-5);
            Assert.InRange(fromExact, 0, 1e-5);
        }
    }

    [Theory, MemberData(nameof(Cases))]
    public void An_episode_alone_is_the_episode_among_many_bit_for_bit(LayoutKind kind, bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        var weights = TestData.Weights(shape, 51);
        var scripts = Script.Many(10, seed: 52);
        using var crowded = Engine(shape, weights);
        using var threaded = Engine(shape, weights, threads: 2);
        var together = Play(crowded, kind, scripts, 1);
        var onTwo = Play(threaded, kind, scripts, 1);
        for (var i = 0; i < scripts.Count; i++)
        {
            using var engine = Engine(shape, weights);
            Same(together[i], Play(engine, kind, [scripts[i]], 1)[0]);
            Same(together[i], onTwo[i]);
        }
    }

    [Theory, InlineData(true, 3), InlineData(false, 4)]
    public void What_is_kept_of_an_episode_saves_time_and_changes_nothing(bool rope, int convolution)
    {
        var shape = TestData.Shape(rope, convolution, AttentionScale.LogN);
        var weights = TestData.Weights(shape, 61);
        var scripts = Script.Many(6, seed: 62);
        using var keeping = Engine(shape, weights);
        using var forgetting = Engine(shape, weights);
        var kept = Play(keeping, LayoutKind.Carry, scripts, 1);
        var anew = Play(forgetting, LayoutKind.Carry, scripts, 1, between: (engine, episode) => engine.Release(episode));
        for (var i = 0; i < kept.Count; i++) Same(kept[i], anew[i]);
    }

    [Theory, InlineData(true, 3), InlineData(false, 4)]
    public void After_a_swap_of_weights_a_carried_episode_is_that_of_the_new_weights(bool rope, int convolution)
    {
        // In turn 3 the weights change between two tokens. From then on log-probs are those of a gradient pass under the new weights over
        // the whole episode, pruned turns included: nothing of the old weights is left in what is carried.
        var shape = TestData.Shape(rope, convolution);
        var (first, second) = (TestData.Weights(shape, 71), TestData.Weights(shape, 72));
        using var engine = Engine(shape, first);
        var script = new Script([1, 2, 3], [.. Enumerable.Range(0, 6).Select(j => new ScriptTurn(4, [5 + j, 6, 7], j % 2))], 73);
        var tokens = 0;
        var trajectory = Play(engine, LayoutKind.Carry, [script], 1, step: () =>
        {
            if (++tokens == 14) engine.SwapWeights(second, 2);
        })[0];
        long[] versions = [.. trajectory.Turns.SelectMany(t => t.PolicyVersions)];
        Assert.Equal([.. Enumerable.Repeat(1L, 14), .. Enumerable.Repeat(2L, 10)], versions);
        using var old = new TorchDecoder(shape, first, CPU);
        using var changed = new TorchDecoder(shape, second, CPU);
        var behaviour = trajectory.Turns.SelectMany(t => t.LogProbs).ToArray();
        var before = Scoring.Score(old, new CarryLayout(), [trajectory], 1, 1000, values: false)[0].LogProbs;
        var after = Scoring.Score(changed, new CarryLayout(), [trajectory], 1, 1000, values: false)[0].LogProbs;
        for (var k = 0; k < behaviour.Length; k++) Assert.Equal(k < 14 ? before[k] : after[k], behaviour[k], 1e-5f);
    }

    [Fact]
    public void A_carried_request_that_does_not_add_up_or_fit_is_refused()
    {
        var shape = TestData.Shape(rope: true, convolution: 0) with { MaxPositions = 16 };
        using var engine = Engine(shape, TestData.Weights(shape, 81));
        void Refused(string word, int context, int prompt, params CarriedTurn[] turns)
        {
            var request = new GenerationRequest(1, new int[context], new SamplingOptions(1, 1, 4), [], 1)
            {
                Carry = new CarriedEpisode(1, prompt, turns),
            };
            var problem = Assert.Throws<ArgumentException>(() => engine.Submit(request));
            Assert.Contains(word, problem.Message, StringComparison.Ordinal);
        }

        Refused("said to have", 5, 3, new CarriedTurn(3, 0));
        Refused("said to have", 5, 3, new CarriedTurn(2, 3));
        Refused("said to have", 3, 0, new CarriedTurn(3, 0));
        Refused("sees 18 tokens", 18, 3, new CarriedTurn(7, 0), new CarriedTurn(8, 0));
        Refused("no room", 16, 3, new CarriedTurn(6, 0), new CarriedTurn(3, 0), new CarriedTurn(4, 0)); // positions run on
        Assert.Equal(0, engine.Active);
        // Without positions the same episode has room: three tokens of prompt and the last turn's four are visible.
        var free = shape with { Position = PositionEncoding.None, QkvBias = false };
        using var other = Engine(free, TestData.Weights(free, 82));
        other.Submit(new GenerationRequest(1, new int[16], new SamplingOptions(1, 1, 4), [], 1)
        {
            Carry = new CarriedEpisode(1, 3, [new CarriedTurn(6, 0), new CarriedTurn(3, 0), new CarriedTurn(4, 0)]),
        });
        var result = Array.Empty<GenerationResult>();
        while (other.Active > 0) result = [.. other.Step()];
        Assert.Equal(4, Assert.Single(result).Tokens.Length);
    }

    private static CpuGenerationEngine Engine(DecoderConfig shape, ModelWeights weights, int threads = 1) => new(
        shape, weights, 1, new WordLevelTokenizer([.. Enumerable.Range(0, Vocabulary).Select(i => $"w{i}")]), threads);

    private static void Same(Trajectory a, Trajectory b)
    {
        Assert.Equal(a.Turns.Count, b.Turns.Count);
        foreach (var (x, y) in a.Turns.Zip(b.Turns))
        {
            Assert.Equal(x.Generated, y.Generated);
            Assert.Equal(x.LogProbs, y.LogProbs); // bit for bit
        }
    }

    /// <summary>Plays scripts, each turn of each as soon as the one before is done; so batches are ever different mixtures.</summary>
    private static List<Trajectory> Play(
        CpuGenerationEngine engine, LayoutKind kind, IReadOnlyList<Script> scripts, float temperature,
        Action<CpuGenerationEngine, long>? between = null, Action? step = null)
    {
        var turns = scripts.Select(_ => new List<Turn>()).ToList();
        for (var i = 0; i < scripts.Count; i++) Submit(i);
        while (engine.Active > 0)
        {
            var finished = engine.Step();
            step?.Invoke();
            foreach (var result in finished)
            {
                var i = (int)result.Id;
                var (script, played) = (scripts[i], turns[i]);
                var next = script.Turns[played.Count];
                var last = played.Count == script.Turns.Count - 1;
                played.Add(new Turn(
                    Context(i), result.Tokens, result.Tokens.Length / 2, result.LogProbs, result.PolicyVersions,
                    last ? [] : next.Observation));
                between?.Invoke(engine, i);
                if (!last) Submit(i);
            }
        }

        return [.. scripts.Select((s, i) =>
            new Trajectory($"e{i}", $"e{i}", s.Prompt, turns[i], 1, EpisodeEnd.Answered, [1], [1], "", false))];

        int[] Context(int i) => turns[i].Count == 0
            ? []
            : kind == LayoutKind.Full
            ? [.. turns[i][^1].Context, .. turns[i][^1].Generated, .. turns[i][^1].Observation]
            : [.. turns[i][^1].Generated[Discarded(i, turns[i].Count - 1)..], .. turns[i][^1].Observation];

        int Discarded(int i, int turn) => Math.Min(scripts[i].Turns[turn].Discarded, turns[i][turn].Generated.Length);

        void Submit(int i)
        {
            var script = scripts[i];
            var turn = script.Turns[turns[i].Count];
            var sampling = new SamplingOptions(temperature, 1, turn.Generate);
            var seed = (script.Seed * 1000) + (ulong)turns[i].Count;
            engine.Submit(kind == LayoutKind.Carry
                ? new GenerationRequest(
                    i, [.. script.Prompt, .. turns[i].SelectMany(t => t.Generated.Concat(t.Observation))], sampling, [], seed)
                {
                    Carry = new CarriedEpisode(
                        i, script.Prompt.Length,
                        [.. turns[i].Select((t, j) => new CarriedTurn(t.Generated.Length + t.Observation.Length, Discarded(i, j)))]),
                }
                : new GenerationRequest(i, [.. script.Prompt, .. Context(i)], sampling, [], seed));
        }
    }

    /// <summary>How many tokens to generate, what is observed then, and how many generated tokens the next turn does not see.</summary>
    private sealed record ScriptTurn(int Generate, int[] Observation, int Discarded);

    private sealed record Script(int[] Prompt, IReadOnlyList<ScriptTurn> Turns, ulong Seed)
    {
        public static List<Script> Many(int count, int seed)
        {
            var random = new Random(seed);
            int[] Tokens(int least, int most) => [.. Enumerable.Range(0, random.Next(least, most)).Select(_ => random.Next(Vocabulary))];
            return [.. Enumerable.Range(0, count).Select(i => new Script(
                Tokens(1, 12),
                // Turns of one token and no observation too: shorter than the convolutions reach.
                [.. Enumerable.Range(0, random.Next(1, 7))
                    .Select(_ => new ScriptTurn(random.Next(1, 8), Tokens(0, 6), i % 3 == 0 ? random.Next(4) : 0))],
                (ulong)i + 1))];
        }
    }
}
