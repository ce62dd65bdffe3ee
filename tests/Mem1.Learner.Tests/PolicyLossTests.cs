// Losses against their definitions, written out in double precision without autograd, on random tokens.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class PolicyLossTests
{
    private const int Count = 400;

    [Theory]
    [InlineData(0.2, 0.2, 0)]
    [InlineData(0.2, 0.28, 0)]
    [InlineData(0.1, 0.5, 3)]
    [InlineData(0.2, 0.2, 1.5)]
    public void Every_token_pays_the_clipped_objective(double low, double high, double dual)
    {
        using var scope = NewDisposeScope();
        var random = new Random(4);
        var (p, q, a) = (LogProbs(random), LogProbs(random), Numbers(random));
        var tokens = PpoLoss.PolicyTokens(torch.tensor(p), torch.tensor(q), torch.tensor(a), low, high, dual);
        var (loss, clipped) = (tokens.Loss.data<float>().ToArray(), tokens.Clipped.to(ScalarType.Float32).data<float>().ToArray());
        int bounded = 0, above = 0;
        for (var i = 0; i < Count; i++)
        {
            var ratio = Math.Exp((double)p[i] - q[i]);
            var objective = Math.Min(ratio * a[i], Math.Clamp(ratio, 1 - low, 1 + high) * a[i]);
            if (dual > 0 && a[i] < 0 && objective < dual * a[i])
            {
                objective = dual * a[i];
                bounded++;
            }

            Assert.Equal(-objective, loss[i], 1e-4 * Math.Max(1, Math.Abs(objective)));
            var held = (a[i] > 0 && ratio > 1 + high) || (a[i] < 0 && ratio < 1 - low);
            Assert.Equal(held ? 1 : 0, clipped[i]);
            if (held && a[i] > 0) above++;
        }

        Assert.True(above > 10 && (dual == 0 || bounded > 10)); // the cases were there
    }

    [Fact]
    public void Importance_weights_are_cut_or_dropped_at_the_cap()
    {
        PpoOptions With(OffPolicyCorrection how, double cap) => new() { OffPolicy = how, ImportanceCap = cap };
        var (two, half) = (MathF.Log(2), MathF.Log(0.5f));
        Assert.Equal(2, PreparedBatch.Importance(two, With(OffPolicyCorrection.Decoupled, 0)), 1e-6);
        Assert.Equal(0, PreparedBatch.Importance(two, With(OffPolicyCorrection.Decoupled, 1.5)));
        Assert.Equal(1.5, PreparedBatch.Importance(two, With(OffPolicyCorrection.Truncated, 1.5)));
        foreach (var how in new[] { OffPolicyCorrection.Decoupled, OffPolicyCorrection.Truncated })
            Assert.Equal(0.5, PreparedBatch.Importance(half, With(how, 1.5)), 1e-6);
        Assert.True(float.IsFinite(PreparedBatch.Importance(500, With(OffPolicyCorrection.Decoupled, 0))));
    }

    [Theory]
    [InlineData(LossAggregation.TokenMean, OffPolicyCorrection.None, 0, true)]
    [InlineData(LossAggregation.SequenceMeanTokenSum, OffPolicyCorrection.None, 0, true)]
    [InlineData(LossAggregation.SequenceMeanTokenMean, OffPolicyCorrection.None, 0, true)]
    [InlineData(LossAggregation.TokenMean, OffPolicyCorrection.Decoupled, 0, true)]
    [InlineData(LossAggregation.SequenceMeanTokenMean, OffPolicyCorrection.Decoupled, 1.1, true)]
    [InlineData(LossAggregation.TokenMean, OffPolicyCorrection.Truncated, 1.1, true)]
    [InlineData(LossAggregation.TokenMean, OffPolicyCorrection.None, 0, false)]
    [InlineData(LossAggregation.SequenceMeanTokenSum, OffPolicyCorrection.None, 0, false)]
    [InlineData(LossAggregation.SequenceMeanTokenMean, OffPolicyCorrection.Truncated, 1.1, false)]
    public void The_objective_of_a_batch_is_the_written_out_one(
        LossAggregation aggregation, OffPolicyCorrection correction, double cap, bool onState)
    {
        using var scope = NewDisposeScope();
        var random = new Random(6);
        var options = new PpoOptions
        {
            Clip = 0.2,
            ClipHigh = 0.3,
            DualClip = 2,
            ValueClip = 0.1,
            EntropyCoefficient = 0.02,
            KlLossCoefficient = 0.3,
            KlLossEstimator = KlEstimator.K2,
            Aggregation = aggregation,
            LossOnState = onState,
            OffPolicy = correction,
            ImportanceCap = cap,
        };
        var batch = Enumerable.Range(0, 4).Select(i => TestData.Trajectory(random, 31, 3, $"e{i}")).ToList();
        float[] Like(Trajectory t, Func<float> of) => [.. Enumerable.Range(0, t.GeneratedTokens).Select(_ => of())];
        float LogProb() => -(float)random.NextDouble() * 2;
        float Any() => (float)random.NextDouble() - 0.5f;
        var step = new SavedStep
        {
            Update = 1,
            PolicyVersion = 0,
            KlFactor = 0.5,
            Members = [0, 1, 3],
            Trajectories = batch,
            Scores = [.. batch.Select(t => new TokenScores(Like(t, LogProb), Like(t, Any)))],
            Reference = [.. batch.Select(t => Like(t, LogProb))],
            Advantages = [.. batch.Select(t => Like(t, Any).Select(x => (double)x).ToArray())],
            Returns = [.. batch.Select(t => Like(t, Any).Select(x => (double)x).ToArray())],
        };
        var prepared = PreparedBatch.Of(step);
        var turns = step.Members.SelectMany(i => Enumerable.Range(0, 3).Select(j => new TurnReference(i, j))).ToList();
        var pass = SegmentsLayout.Build(batch, turns);
        var count = turns.Sum(t => batch[t.Trajectory].Turns[t.Turn].Generated.Length);
        float[] now = [.. Enumerable.Range(0, count).Select(_ => LogProb())];
        float[] entropies = [.. Enumerable.Range(0, count).Select(_ => (float)random.NextDouble())];
        float[] values = [.. Enumerable.Range(0, count).Select(_ => Any())];
        var terms = new PpoObjective(options).Of(
            prepared.Pick(pass, options, CPU), torch.tensor(now), torch.tensor(entropies), torch.tensor(values), step.KlFactor);
        var got = terms.Loss.item<float>() / prepared.Normaliser([.. step.Members], options);

        var (want, n) = (0.0, 0);
        int Counted(Trajectory t) => t.Turns.Sum(turn => turn.Generated.Length - (onState ? 0 : turn.StateLength));
        var tokens = step.Members.Sum(i => Counted(batch[i]));
        foreach (var i in step.Members)
        {
            var k = 0;
            foreach (var turn in batch[i].Turns)
            {
                foreach (var (behaviour, at) in turn.LogProbs.Select((p, at) => (p, at)))
                {
                    var proximal = correction == OffPolicyCorrection.None ? behaviour : step.Scores[i].LogProbs[k];
                    var weight = Math.Exp((double)proximal - behaviour);
                    if (correction == OffPolicyCorrection.None) weight = 1;
                    else if (cap > 0 && weight > cap) weight = correction == OffPolicyCorrection.Truncated ? cap : 0;
                    var (ratio, a) = (Math.Exp((double)now[n] - proximal), step.Advantages[i][k]);
                    var policy = Math.Min(ratio * a, Math.Clamp(ratio, 0.8, 1.3) * a);
                    if (a < 0) policy = Math.Max(policy, 2 * a);
                    var (old, target) = (step.Scores[i].Values[k], step.Returns[i][k]);
                    var near = Math.Clamp(values[n], old - 0.1, old + 0.1);
                    var value = 0.5 * Math.Max(Math.Pow(values[n] - target, 2), Math.Pow(near - target, 2));
                    var kl = 0.5 * Math.Pow(now[n] - step.Reference[i][k], 2);
                    var loss = -(weight * policy) + value - (0.02 * entropies[n]) + (0.3 * 0.5 * kl);
                    if (onState || at >= turn.StateLength) want += loss / aggregation switch
                    {
                        LossAggregation.TokenMean => tokens,
                        LossAggregation.SequenceMeanTokenSum => 3.0,
                        _ => 3.0 * Counted(batch[i]),
                    };
                    n++;
                    k++;
                }
            }
        }

        Assert.Equal(want, got, 1e-5);
        Assert.Equal(count, terms.Health.Ratios.Length);
        Assert.Equal(step.Members.Sum(i => batch[i].Turns.Sum(t => t.StateLength)), terms.Health.StateTokens);
        Assert.Equal(entropies.Sum(e => (double)e), terms.Health.StateEntropy + terms.Health.ActionEntropy, 1e-4);
    }

    [Fact]
    public void The_kl_controller_follows_its_formula_and_is_bounded()
    {
        var controller = new KlController(target: 0.1, horizon: 100);
        controller.Observe(0.11, 20);
        Assert.Equal(1 + (0.1 * 20 / 100), controller.Factor, 1e-12);
        controller.Factor = 1;
        controller.Observe(50, 20); // far above the target: at most a fifth
        Assert.Equal(1 + (0.2 * 20 / 100), controller.Factor, 1e-12);
        controller.Factor = 1;
        controller.Observe(0, 20);
        Assert.Equal(1 - (0.2 * 20 / 100), controller.Factor, 1e-12);
        controller.Observe(double.NaN, 20);
        Assert.Equal(1 - (0.2 * 20 / 100), controller.Factor, 1e-12);
        var off = new KlController(target: 0, horizon: 100);
        off.Observe(50, 20);
        Assert.Equal(1, off.Factor);
    }

    private static float[] LogProbs(Random random) => [.. Enumerable.Range(0, Count).Select(_ => -(float)random.NextDouble() * 2)];

    private static float[] Numbers(Random random) => [.. Enumerable.Range(0, Count).Select(_ => (float)random.NextDouble() - 0.5f)];
}
