// The decoder written down plainly: float64, one sequence, a mask that is asked for every pair. Slow and obvious; what the fast paths are
// held against. Keeps: nothing of the product's passes is used, only weights and shape.
using Mem1.Model;

namespace Mem1.Learner.Tests;

/// <summary>A sequence under any mask.</summary>
/// <param name="Tokens">Ids.</param>
/// <param name="Positions">As rotary embeddings count.</param>
/// <param name="Sees">Whether the first token attends to the second.</param>
/// <param name="Before">The tokens before one in what the convolutions run over, nearest first.</param>
internal sealed record DenseSequence(int[] Tokens, int[] Positions, Func<int, int, bool> Sees, Func<int, IReadOnlyList<int>> Before);

internal sealed class DenseOracle(DecoderConfig c, ModelWeights weights)
{
    /// <summary>Natural log-probs of every token's successor: [S][V].</summary>
    public double[][] LogProbs(DenseSequence s, double temperature = 1)
    {
        var embedding = Matrix("model.embed_tokens.weight");
        var x = Convolve([.. s.Tokens.Select(t => (double[])embedding[t].Clone())], s, "model.embed_conv.weight", c.EmbeddingConvKernel);
        for (var layer = 0; layer < c.Layers; layer++)
        {
            var name = $"model.layers.{layer}.";
            var h = Norm(x, name + "input_layernorm.weight");
            Add(x, Linear(Attend(h, s, name + "self_attn."), name + "self_attn.o_proj.weight"));
            h = Norm(x, name + "post_attention_layernorm.weight");
            var (gate, up) = (Linear(h, name + "mlp.gate_proj.weight"), Linear(h, name + "mlp.up_proj.weight"));
            for (var t = 0; t < gate.Length; t++)
                for (var i = 0; i < gate[t].Length; i++) gate[t][i] *= up[t][i] / (1 + Math.Exp(-gate[t][i]));
            Add(x, Linear(gate, name + "mlp.down_proj.weight"));
        }

        var logits = Linear(Norm(x, "model.norm.weight"), c.TiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight");
        return [.. logits.Select(row =>
        {
            var scaled = row.Select(v => v / temperature).ToArray();
            var largest = scaled.Max();
            var total = largest + Math.Log(scaled.Sum(v => Math.Exp(v - largest)));
            return scaled.Select(v => v - total).ToArray();
        })];
    }

    private double[][] Attend(double[][] h, DenseSequence s, string name)
    {
        int size = c.HeadSize, length = h.Length;
        double[][] Project(string part)
        {
            var y = Linear(h, $"{name}{part}_proj.weight");
            if (c.QkvBias)
            {
                var bias = Data($"{name}{part}_proj.bias");
                foreach (var row in y) for (var i = 0; i < row.Length; i++) row[i] += bias[i];
            }

            return Convolve(y, s, $"{name}{part}_conv.weight", c.ConvKernel);
        }

        var (q, k, v) = (Project("q"), Project("k"), Project("v"));
        if (c.Position == PositionEncoding.Rope)
        {
            Rotate(q, s.Positions);
            Rotate(k, s.Positions);
        }

        var result = new double[length][];
        for (var a = 0; a < length; a++)
        {
            result[a] = new double[c.Heads * size];
            int[] seen = [.. Enumerable.Range(0, length).Where(b => s.Sees(a, b))];
            var scale = 1 / Math.Sqrt(size) * (c.AttentionScale == AttentionScale.LogN ? Math.Log(seen.Length) / Math.Log(64) : 1);
            for (var head = 0; head < c.Heads; head++)
            {
                var (at, kv) = (head * size, head / (c.Heads / c.KeyValueHeads) * size);
                var scores = seen.Select(b => Enumerable.Range(0, size).Sum(i => q[a][at + i] * scale * k[b][kv + i])).ToArray();
                var largest = scores.Max();
                var exp = scores.Select(w => Math.Exp(w - largest)).ToArray();
                var total = exp.Sum();
                for (var n = 0; n < seen.Length; n++)
                    for (var i = 0; i < size; i++) result[a][at + i] += exp[n] / total * v[seen[n]][kv + i];
            }
        }

        return result;
    }

    private double[][] Convolve(double[][] x, DenseSequence s, string name, int kernel)
    {
        if (kernel == 0) return x;
        var taps = Data(name);
        return [.. Enumerable.Range(0, x.Length).Select(t =>
        {
            int[] inputs = [t, .. s.Before(t).Take(kernel - 1)];
            var y = new double[x[t].Length];
            for (var n = 0; n < inputs.Length; n++)
                for (var i = 0; i < y.Length; i++) y[i] += taps[(i * kernel) + kernel - 1 - n] * x[inputs[n]][i];
            return y;
        })];
    }

    private void Rotate(double[][] x, int[] positions)
    {
        var half = c.HeadSize / 2;
        for (var t = 0; t < x.Length; t++)
        {
            for (var head = 0; head < x[t].Length; head += c.HeadSize)
            {
                for (var i = 0; i < half; i++)
                {
                    var angle = positions[t] * Math.Pow(c.RopeTheta, -2.0 * i / c.HeadSize);
                    var (a, b) = (x[t][head + i], x[t][head + half + i]);
                    x[t][head + i] = (a * Math.Cos(angle)) - (b * Math.Sin(angle));
                    x[t][head + half + i] = (b * Math.Cos(angle)) + (a * Math.Sin(angle));
                }
            }
        }
    }

    private double[][] Norm(double[][] x, string name)
    {
        var weight = Data(name);
        return [.. x.Select(row =>
        {
            var scale = 1 / Math.Sqrt(row.Average(v => v * v) + c.NormEpsilon);
            return row.Select((v, i) => v * scale * weight[i]).ToArray();
        })];
    }

    private double[][] Linear(double[][] x, string name)
    {
        var matrix = Matrix(name);
        return [.. x.Select(row => matrix.Select(w => w.Zip(row, (a, b) => a * b).Sum()).ToArray())];
    }

    private static void Add(double[][] x, double[][] y)
    {
        for (var t = 0; t < x.Length; t++)
            for (var i = 0; i < x[t].Length; i++) x[t][i] += y[t][i];
    }

    private double[] Data(string name) => Array.ConvertAll(weights.Tensors[name].Data, v => (double)v);

    private double[][] Matrix(string name) => [.. Data(name).Chunk((int)weights.Tensors[name].Shape[1])];
}
