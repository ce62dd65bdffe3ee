// Invariants: the log-prob is that of softmax(logits / temperature) over the whole vocabulary whatever top-p is; a token outside the
// nucleus is never drawn; the draw is a function of the logits, the options and one uniform number.
using System.Numerics.Tensors;

namespace Mem1.Model.Generation;

/// <summary>Draws tokens from logits. Owns scratch memory: one per thread.</summary>
internal sealed class Sampler(int vocabulary)
{
    /// <summary>Weights are summed in float within a block and in double across blocks: error near 1e-7 at any vocabulary size.</summary>
    private const int Block = 32;

    private readonly float[] _weights = new float[vocabulary];
    private readonly double[] _blocks = new double[(vocabulary + Block - 1) / Block];
    private readonly float[] _keys = new float[vocabulary];
    private readonly int[] _ids = new int[vocabulary];
    private float _largest, _temperature;
    private double _logTotal;

    /// <param name="logits">One per vocabulary entry.</param>
    /// <param name="options">Temperature and top-p.</param>
    /// <param name="uniform">In [0, 1).</param>
    public (int Token, float LogProb) Draw(ReadOnlySpan<float> logits, SamplingOptions options, double uniform)
    {
        bool greedy = options.Temperature == 0;
        float temperature = greedy ? 1 : options.Temperature;
        int best = TensorPrimitives.IndexOfMax(logits);
        float largest = logits[best];
        if (!float.IsFinite(largest))
            throw new ArithmeticException($"the model's logits are not finite (largest: {largest}); its weights have diverged.");

        Span<float> weights = _weights.AsSpan(0, logits.Length);
        TensorPrimitives.Subtract(logits, largest, weights);
        if (temperature != 1)
            TensorPrimitives.Divide(weights, temperature, weights);
        TensorPrimitives.Exp(weights, weights);
        double total = 0;
        for (int b = 0, at = 0; at < weights.Length; b++, at += Block)
        {
            _blocks[b] = TensorPrimitives.Sum<float>(weights.Slice(at, Math.Min(Block, weights.Length - at)));
            total += _blocks[b];
        }
        int token = greedy ? best
            : options.TopP >= 1 ? FromAll(weights, uniform * total)
            : FromNucleus(weights, total, options.TopP, uniform);
        (_largest, _temperature, _logTotal) = (largest, temperature, Math.Log(total));
        return (token, LogProb(logits[token]));
    }

    /// <summary>The most likely tokens of the logits last drawn from, best first; of two that are equally likely the lower id.</summary>
    /// <param name="logits">Those of the last draw.</param>
    /// <param name="count">How many; at least 1.</param>
    public TokenLogProb[] Top(ReadOnlySpan<float> logits, int count)
    {
        // Sorted by insertion: a few tokens are kept, and nearly all others fail the first comparison.
        var ids = new int[Math.Min(count, logits.Length)];
        int kept = 0;
        for (int id = 0; id < logits.Length; id++)
        {
            if (kept == ids.Length && !(logits[id] > logits[ids[^1]]))
                continue;
            int at = kept < ids.Length ? kept++ : kept - 1;
            for (; at > 0 && logits[id] > logits[ids[at - 1]]; at--)
                ids[at] = ids[at - 1];
            ids[at] = id;
        }
        var top = new TokenLogProb[ids.Length];
        for (int i = 0; i < top.Length; i++)
            top[i] = new TokenLogProb(ids[i], LogProb(logits[ids[i]]));
        return top;
    }

    private float LogProb(float logit) => (float)(((double)logit - _largest) / _temperature - _logTotal);

    private int FromAll(ReadOnlySpan<float> weights, double target)
    {
        int block = 0, last = _blocks.Length - 1;
        while (block < last && target >= _blocks[block])
            target -= _blocks[block++];
        int at = block * Block, end = Math.Min(at + Block, weights.Length), likely = -1;
        for (int i = at; i < end; i++)
        {
            if (weights[i] == 0)
                continue;
            likely = i;
            if (target < weights[i])
                return i;
            target -= weights[i];
        }
        // Rounding can leave the target at the very end of the block; the last token with any weight is the one it meant.
        return likely >= 0 ? likely : TensorPrimitives.IndexOfMax(weights);
    }

    private int FromNucleus(ReadOnlySpan<float> weights, double total, double topP, double uniform)
    {
        // All tokens below this weight together hold less than 1 - p, so those above hold at least p: the nucleus is among them.
        float floor = (float)((1 - topP) * total / weights.Length * 0.999);
        int count = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            if (weights[i] >= floor && weights[i] > 0)
            {
                _keys[count] = -weights[i];
                _ids[count++] = i;
            }
        }
        // Keys are negated weights: ascending order is most likely first. The sort is deterministic, so ties fall the same way every time.
        Array.Sort(_keys, _ids, 0, count);
        double mass = 0, wanted = topP * total;
        int size = 0;
        while (size < count && (size == 0 || mass < wanted))
            mass -= _keys[size++];
        double target = uniform * mass;
        for (int i = 0; i < size; i++)
        {
            if (target < -_keys[i])
                return _ids[i];
            target += _keys[i];
        }
        return _ids[size - 1];
    }
}
