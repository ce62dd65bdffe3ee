using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class FlatAdamWTests
{
    [Theory]
    [InlineData("model.a.weight", float.NaN)]
    [InlineData("value_head.fc1.weight", float.PositiveInfinity)]
    public void A_gradient_that_is_not_finite_moves_nothing_and_is_said_in_a_sentence(string name, float gradient)
    {
        var weights = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal)
        {
            ["model.a.weight"] = new([2, 2], [1, 2, 3, 4]),
            ["value_head.fc1.weight"] = new([1, 2], [5, 6]),
        });
        using var flat = new FlatParameters(weights, CPU);
        using var optimiser = new FlatAdamW(flat, 0.9, 0.98);
        using (var scope = NewDisposeScope()) (flat[name] * gradient).sum().backward();
        var diverged = Assert.Throws<LearnerException>(() => optimiser.Step(_ => new StepSettings(0.1, 0.1, 1)));
        Assert.Contains("diverged", diverged.Message, StringComparison.Ordinal);
        Assert.All(flat.Snapshot(policyOnly: false).Tensors, t => Assert.Equal(weights.Tensors[t.Key].Data, t.Value.Data));
        Assert.All(optimiser.Steps, s => Assert.Equal(0, s));
    }

    [Fact]
    public void Steps_equal_those_of_torch_AdamW_bit_for_bit()
    {
        // One matrix with decay, one vector without, one of the value head at its own rate; three steps of random gradients, no clipping.
        var weights = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal)
        {
            ["model.a.weight"] = new([3, 4], [.. Enumerable.Range(0, 12).Select(i => (i * 0.1f) - 0.5f)]),
            ["model.norm.weight"] = new([4], [1, 1.5f, -2, 0.25f]),
            ["value_head.fc1.weight"] = new([1, 4], [0.1f, 0.2f, 0.3f, 0.4f]),
        });
        using var flat = new FlatParameters(weights, CPU);
        using var ours = new FlatAdamW(flat, 0.9, 0.98);
        var (rate, valueRate, decay) = (0.01, 0.03, 0.1);
        var theirs = weights.Tensors.ToDictionary(
            t => t.Key,
            t => new TorchSharp.Modules.Parameter(torch.tensor(t.Value.Data, dtype: ScalarType.Float32).view([.. t.Value.Shape])));
        using var matrix = optim.AdamW([theirs["model.a.weight"]], lr: rate, beta1: 0.9, beta2: 0.98, weight_decay: decay);
        using var vector = optim.AdamW([theirs["model.norm.weight"]], lr: rate, beta1: 0.9, beta2: 0.98, weight_decay: 0);
        using var value = optim.AdamW([theirs["value_head.fc1.weight"]], lr: valueRate, beta1: 0.9, beta2: 0.98, weight_decay: 0);
        var random = new Random(1);
        for (var step = 0; step < 3; step++)
        {
            foreach (var (name, parameter) in theirs)
            {
                using var scope = NewDisposeScope();
                var gradient = torch.tensor(
                    Enumerable.Range(0, (int)parameter.numel()).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray(), dtype: ScalarType.Float32)
                    .view(parameter.shape);
                // Both reach the optimiser through autograd: d/dp sum(p * g) = g.
                (flat[name] * gradient).sum().backward();
                (parameter * gradient).sum().backward();
            }

            ours.Step(g => g switch
            {
                ParameterGroup.PolicyMatrix => new StepSettings(rate, decay, 0),
                ParameterGroup.PolicyVector => new StepSettings(rate, 0, 0),
                _ => new StepSettings(valueRate, 0, 0),
            });
            foreach (var o in new[] { matrix, vector, value })
            {
                o.step();
                o.zero_grad();
            }

            var snapshot = flat.Snapshot(policyOnly: false).Tensors;
            foreach (var (name, parameter) in theirs)
            {
                var want = parameter.detach().data<float>().ToArray();
                Assert.Equal(want, snapshot[name].Data);
            }
        }
    }

    [Fact]
    public void Clipping_scales_the_joint_norm_of_the_policy_and_leaves_the_value_head_alone()
    {
        var weights = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal)
        {
            ["m.a.weight"] = new([1, 1], [0]),
            ["m.norm.weight"] = new([1], [0]),
            ["value_head.fc1.weight"] = new([1, 1], [0]),
        });
        using var flat = new FlatParameters(weights, CPU);
        using var optimiser = new FlatAdamW(flat, 0, 0.5); // beta1 0: the first moment is the clipped gradient itself
        (flat["m.a.weight"].sum() * 3 + flat["m.norm.weight"].sum() * 4 + flat["value_head.fc1.weight"].sum() * 0.25).backward();
        var norm = optimiser.Step(_ => new StepSettings(0.1, 0, 1));
        Assert.Equal(5, norm, 1e-6);
        Assert.Equal([0.6f, 0.8f, 0.25f], optimiser.FirstMoment.data<float>().ToArray().Select(v => MathF.Round(v, 5)));
        Assert.Equal(0f, flat.Gradients.abs().sum().item<float>());
    }

    [Fact]
    public void A_group_left_out_keeps_values_and_moments()
    {
        var weights = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal)
        {
            ["m.a.weight"] = new([1, 1], [2]),
            ["value_head.fc1.weight"] = new([1, 1], [3]),
        });
        using var flat = new FlatParameters(weights, CPU);
        using var optimiser = new FlatAdamW(flat, 0.9, 0.98);
        (flat["m.a.weight"].sum() + flat["value_head.fc1.weight"].sum()).backward();
        optimiser.Step(g => g == ParameterGroup.Value ? new StepSettings(0.1, 0, 0) : null);
        Assert.Equal(2f, flat["m.a.weight"].item<float>());
        Assert.Equal(2.9f, flat["value_head.fc1.weight"].item<float>(), 1e-5f);
        Assert.Equal([0L, 0L, 1L], optimiser.Steps);
    }
}
