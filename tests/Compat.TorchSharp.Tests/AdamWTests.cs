// AdamW against the formula written out in managed code, its groups, and its state.
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

public sealed class AdamWTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData(0.0, false)]
    [InlineData(0.1, false)]
    [InlineData(0.1, true)]
    public void Steps_follow_the_formula(double weightDecay, bool amsgrad)
    {
        double[] start = [0.5, -1.5, 2.0];
        var p = new Parameter(tensor(start));
        using AdamW optimizer = optim.AdamW([p], lr: 0.01, beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: weightDecay, amsgrad: amsgrad);
        double[] w = [.. start], m = new double[3], v = new double[3], top = new double[3];

        for (int t = 1; t <= 12; t++)
        {
            double[] g = [.. w.Select((x, k) => (x * (k + 1)) + Math.Sin(t))];
            p.grad = tensor(g);
            optimizer.step();
            for (int k = 0; k < w.Length; k++)
            {
                w[k] *= 1 - (0.01 * weightDecay);
                m[k] = (0.8 * m[k]) + (0.2 * g[k]);
                v[k] = (0.95 * v[k]) + (0.05 * g[k] * g[k]);
                top[k] = Math.Max(top[k], v[k]);
                double denominator = (Math.Sqrt(amsgrad ? top[k] : v[k]) / Math.Sqrt(1 - Math.Pow(0.95, t))) + 1e-6;
                w[k] -= 0.01 / (1 - Math.Pow(0.8, t)) * m[k] / denominator;
            }
            double[] got = p.data<double>().ToArray();
            for (int k = 0; k < w.Length; k++) Assert.Equal(w[k], got[k], 1e-12);
        }
    }

    [Fact]
    public void Defaults_are_the_packages_and_weight_decay_is_off()
    {
        using AdamW optimizer = optim.AdamW([new Parameter(ones(1))]);
        var group = Assert.IsType<AdamW.ParamGroup>(optimizer.ParamGroups.Single());
        Assert.Equal(0.001, group.LearningRate);
        Assert.Equal((0.9, 0.999), group.Betas);
        Assert.Equal(0, group.Options.weight_decay);
        Assert.Equal(1e-8, group.Options.eps);
    }

    [Fact]
    public void Groups_have_rates_of_their_own_and_parameters_without_gradient_stand_still()
    {
        var a = new Parameter(ones(1, dtype: float64));
        var b = new Parameter(ones(1, dtype: float64));
        var idle = new Parameter(ones(1, dtype: float64));
        using AdamW optimizer = optim.AdamW([new AdamW.ParamGroup([a, idle], lr: 0.1), new AdamW.ParamGroup([b], lr: 0.2)]);
        foreach (optim.ILearningRateController g in optimizer.ParamGroups) g.LearningRate /= 2;
        a.grad = ones(1, dtype: float64);
        b.grad = ones(1, dtype: float64);

        optimizer.step();

        // The first step moves by the learning rate against the sign of the gradient.
        Assert.Equal(0.95, a.item<double>(), 1e-7);
        Assert.Equal(0.9, b.item<double>(), 1e-7);
        Assert.Equal(1.0, idle.item<double>());
        Assert.Equal([1L, 0, 1], optimizer.state_dict().State.Cast<AdamW.State>().Select(s => s.step));
        optimizer.zero_grad();
        Assert.Equal(0.0, a.grad!.item<double>());
    }

    [Fact]
    public void A_closure_gives_the_loss()
    {
        var p = new Parameter(ones(1));
        using AdamW optimizer = optim.AdamW([p]);
        Tensor loss = optimizer.step(() =>
        {
            Tensor l = p.square().sum();
            l.backward();
            return l;
        })!;
        Assert.Equal(1f, loss.item<float>());
    }

    [Fact]
    public void Saved_state_continues_bit_for_bit()
    {
        var p = new Parameter(tensor(new float[] { 1, 2 }));
        using AdamW first = optim.AdamW([p], lr: 0.1, weight_decay: 0.01);
        void Step(AdamW o, Parameter q)
        {
            o.zero_grad();
            q.pow(3).sum().backward();
            o.step();
        }
        Step(first, p);
        Step(first, p);
        using var stream = new MemoryStream();
        first.save_state_dict(new BinaryWriter(stream));
        var copy = new Parameter(p.detach().clone());

        stream.Position = 0;
        using AdamW second = optim.AdamW([copy], lr: 0.5);
        second.load_state_dict(new BinaryReader(stream));
        Step(first, p);
        Step(second, copy);

        Assert.True(p.Equals(copy));
        Assert.Equal(0.1, second.ParamGroups.Single().LearningRate);
        Assert.Equal(3, ((AdamW.State)second.state_dict().State[0]).step);
    }
}
