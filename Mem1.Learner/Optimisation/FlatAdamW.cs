// Keeps: the step is AdamW's (Loshchilov & Hutter, arXiv 1711.05101) as torch.optim.AdamW computes it, over whole spans of a flat buffer.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>Settings of one span for one step.</summary>
/// <param name="LearningRate">0 leaves the span's values alone (its moments still move).</param>
/// <param name="WeightDecay">Decoupled decay.</param>
/// <param name="ClipNorm">Largest gradient norm; 0 is no limit.</param>
public readonly record struct StepSettings(double LearningRate, double WeightDecay, double ClipNorm);

/// <summary>AdamW over <see cref="FlatParameters"/>. Not thread-safe.</summary>
public sealed class FlatAdamW : IDisposable
{
    private readonly FlatParameters _parameters;
    private readonly double _beta1;
    private readonly double _beta2;
    private readonly double _epsilon;

    /// <summary>Starts with zero moments.</summary>
    public FlatAdamW(FlatParameters parameters, double beta1, double beta2, double epsilon = 1e-8)
    {
        (_parameters, _beta1, _beta2, _epsilon) = (parameters, beta1, beta2, epsilon);
        using var scope = NewDisposeScope();
        FirstMoment = torch.zeros_like(parameters.Values).DetachFromDisposeScope();
        SecondMoment = torch.zeros_like(parameters.Values).DetachFromDisposeScope();
    }

    /// <summary>Steps taken, for each group: bias correction counts only steps a group took part in.</summary>
    public long[] Steps { get; } = new long[Enum.GetValues<ParameterGroup>().Length];

    /// <summary>Running mean of gradients, [total].</summary>
    public Tensor FirstMoment { get; }

    /// <summary>Running mean of squared gradients, [total].</summary>
    public Tensor SecondMoment { get; }

    /// <summary>Takes one step on the accumulated gradients and zeroes them.</summary>
    /// <param name="settings">
    /// By group; a group that is left out does not move. The two policy groups are clipped by their joint norm.
    /// </param>
    /// <returns>Norm of the policy's gradient before clipping.</returns>
    /// <exception cref="LearnerException">A gradient is not finite; nothing has moved.</exception>
    public double Step(Func<ParameterGroup, StepSettings?> settings) => TryStep(settings, out var norm)
        ? norm
        : throw new LearnerException(
            $"Training has diverged: the gradient's norm is {norm}; lower the learning rate and go on from the last checkpoint.");

    /// <summary>Takes one step on the accumulated gradients, unless one of them is not finite, and zeroes them.</summary>
    /// <param name="settings">As of <see cref="Step"/>.</param>
    /// <param name="policyNorm">Norm of the policy's gradient before clipping; no number when the value head's is not finite.</param>
    /// <returns>Whether the step was taken; if not, neither values nor moments have moved.</returns>
    public bool TryStep(Func<ParameterGroup, StepSettings?> settings, out double policyNorm)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        policyNorm = NormOf(ParameterGroup.PolicyMatrix, ParameterGroup.PolicyVector);
        double valueNorm = NormOf(ParameterGroup.Value);
        if (!double.IsFinite(valueNorm)) policyNorm = double.NaN;
        if (!double.IsFinite(policyNorm))
        {
            DropGradients();
            return false;
        }

        foreach (var span in _parameters.Spans)
        {
            if (span.Length == 0 || settings(span.Group) is not { } s) continue;
            var norm = span.Group == ParameterGroup.Value ? valueNorm : policyNorm;
            var step = ++Steps[(int)span.Group];
            var p = _parameters.Values.narrow(0, span.Start, span.Length);
            var g = _parameters.Gradients.narrow(0, span.Start, span.Length);
            var m = FirstMoment.narrow(0, span.Start, span.Length);
            var v = SecondMoment.narrow(0, span.Start, span.Length);
            if (s.ClipNorm > 0 && norm > s.ClipNorm) g.mul_(s.ClipNorm / (norm + 1e-6));
            m.mul_(_beta1).add_(g, alpha: 1 - _beta1);
            v.mul_(_beta2).addcmul_(g, g, 1 - _beta2);
            if (s.LearningRate > 0)
            {
                if (s.WeightDecay > 0) p.mul_(1 - (s.LearningRate * s.WeightDecay));
                var denominator = v.sqrt().div_(Math.Sqrt(1 - Math.Pow(_beta2, step))).add_(_epsilon);
                p.addcdiv_(m, denominator, -s.LearningRate / (1 - Math.Pow(_beta1, step)));
            }
        }

        DropGradients();
        return true;
    }

    /// <summary>Zeroes the accumulated gradients.</summary>
    public void DropGradients()
    {
        using var guard = no_grad();
        _parameters.Gradients.zero_();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        FirstMoment.Dispose();
        SecondMoment.Dispose();
    }

    private double NormOf(params ReadOnlySpan<ParameterGroup> groups)
    {
        double sum = 0;
        foreach (var span in _parameters.Spans)
            if (span.Length > 0 && groups.Contains(span.Group))
                sum += Math.Pow(_parameters.Gradients.narrow(0, span.Start, span.Length).norm().item<float>(), 2);
        return Math.Sqrt(sum);
    }
}
