// Keeps: read from detached tensors after the loss is made: nothing here can change an update.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>What the tokens of one forward pass say about how far an update strays.</summary>
internal sealed record TokenHealth(
    long ClippedLow, long ClippedHigh, float[] Ratios, double StateEntropy, double ActionEntropy, int StateTokens)
{
    public static TokenHealth Of(PickedTokens picked, PolicyTokens tokens, Tensor entropy)
    {
        var entropies = entropy.detach().cpu().data<float>();
        double state = 0, action = 0;
        var states = 0;
        for (var i = 0; i < picked.IsState.Length; i++)
        {
            if (picked.IsState[i])
            {
                state += entropies[i];
                states++;
            }
            else
            {
                action += entropies[i];
            }
        }

        var positive = picked.Advantages.gt(0);
        var clipped = tokens.Clipped.sum().item<long>();
        var high = tokens.Clipped.logical_and(positive).sum().item<long>();
        return new TokenHealth(clipped - high, high, tokens.Ratio.detach().cpu().data<float>().ToArray(), state, action, states);
    }
}

/// <summary>Terms added up over passes.</summary>
internal sealed class ObjectiveSums
{
    private readonly List<float> _ratios = [];
    private double _policy, _value, _entropy, _kl, _klK3, _referenceKl, _stateEntropy, _actionEntropy;
    private long _clippedLow, _clippedHigh, _stateTokens;

    public void Add(ObjectiveTerms terms)
    {
        _policy += terms.Policy;
        _value += terms.Value;
        _entropy += terms.Entropy;
        _kl += terms.Kl;
        _klK3 += terms.KlK3;
        _referenceKl += terms.ReferenceKl;
        _clippedLow += terms.Health.ClippedLow;
        _clippedHigh += terms.Health.ClippedHigh;
        _ratios.AddRange(terms.Health.Ratios);
        _stateEntropy += terms.Health.StateEntropy;
        _actionEntropy += terms.Health.ActionEntropy;
        _stateTokens += terms.Health.StateTokens;
    }

    /// <summary>Adds another's.</summary>
    public void Add(ObjectiveSums other)
    {
        _policy += other._policy;
        _value += other._value;
        _entropy += other._entropy;
        _kl += other._kl;
        _klK3 += other._klK3;
        _referenceKl += other._referenceKl;
        _clippedLow += other._clippedLow;
        _clippedHigh += other._clippedHigh;
        _ratios.AddRange(other._ratios);
        _stateEntropy += other._stateEntropy;
        _actionEntropy += other._actionEntropy;
        _stateTokens += other._stateTokens;
    }

    /// <summary>Replaces the terms by those of all learners of a group.</summary>
    public void Share(IGradientReducer reducer)
    {
        if (reducer.World == 1) return;
        var counts = new double[reducer.World];
        counts[reducer.Rank] = _ratios.Count;
        reducer.Sum(counts);
        var ratios = new float[(int)counts.Sum()];
        _ratios.CopyTo(ratios, (int)counts.Take(reducer.Rank).Sum());
        reducer.Sum(ratios);
        _ratios.Clear();
        _ratios.AddRange(ratios);
        double[] all =
        [
            _policy, _value, _entropy, _kl, _klK3, _referenceKl, _stateEntropy, _actionEntropy, _clippedLow, _clippedHigh, _stateTokens,
        ];
        reducer.Sum(all);
        (_policy, _value, _entropy, _kl, _klK3, _referenceKl) = (all[0], all[1], all[2], all[3], all[4], all[5]);
        (_stateEntropy, _actionEntropy) = (all[6], all[7]);
        (_clippedLow, _clippedHigh, _stateTokens) = ((long)all[8], (long)all[9], (long)all[10]);
    }

    /// <summary>Means per token; no numbers where there were no tokens.</summary>
    public UpdateStatistics Means(
        double gradientNorm, double explainedVariance, double? parity, long staleness, long tokens, UpdateHealth health)
    {
        double count = _ratios.Count;
        _ratios.Sort();
        return new UpdateStatistics(
            _policy / count, _value / count, _entropy / count, _kl / count, _referenceKl / count, (_clippedLow + _clippedHigh) / count,
            gradientNorm, explainedVariance, parity, staleness, tokens)
        {
            Health = health with
            {
                ClipFractionLow = _clippedLow / count,
                ClipFractionHigh = _clippedHigh / count,
                RatioMax = Quantile(1),
                RatioP99 = Quantile(0.99),
                RatioP01 = Quantile(0.01),
                KlK3 = _klK3 / count,
                StateEntropy = _stateEntropy / _stateTokens,
                ActionEntropy = _actionEntropy / (count - _stateTokens),
            },
        };
    }

    /// <summary>The smallest ratio that at least this share of the ratios does not exceed.</summary>
    private double Quantile(double share) =>
        _ratios.Count == 0 ? double.NaN : _ratios[Math.Clamp((int)Math.Ceiling(share * _ratios.Count) - 1, 0, _ratios.Count - 1)];
}
