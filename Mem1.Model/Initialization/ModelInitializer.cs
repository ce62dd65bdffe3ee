// Invariant: the weights are a function of the configuration, the options and the seed; every tensor has a random stream of its own.
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Model.Initialization;

/// <summary>Makes the weights of a new model.</summary>
public static class ModelInitializer
{
    /// <summary>Standard deviation that Hugging Face's Qwen2 starts linear layers and embeddings with.</summary>
    public const double QwenRange = 0.02;

    /// <summary>Noise on convolution taps of the induction prior, so that channels of a head can drift apart.</summary>
    private const double TapNoise = 0.02;

    /// <summary>Noise on the earlier taps of the induction prior's embedding convolution: a token starts aware of its neighbours.</summary>
    private const double EmbeddingTapNoise = 0.2;

    /// <summary>
    /// As Hugging Face starts a Qwen2: normal weights with standard deviation <paramref name="range"/>, zero biases, unit norms.
    /// Convolutions start as the identity (last tap 1).
    /// </summary>
    /// <param name="config">Shape of the model.</param>
    /// <param name="seed">Names the random streams.</param>
    /// <param name="range">Standard deviation.</param>
    public static ModelWeights Normal(DecoderConfig config, ulong seed, double range = QwenRange)
    {
        return Build(config, seed, (name, _, random) => name switch
        {
            _ when name.EndsWith("norm.weight", StringComparison.Ordinal) => random.Fill(1, 0),
            _ when name.EndsWith("bias", StringComparison.Ordinal) => random.Fill(0, 0),
            _ when name.EndsWith("conv.weight", StringComparison.Ordinal) => random.Taps(0, 0),
            _ => random.Fill(0, range),
        });
    }

    /// <summary>
    /// A start for small models with convolutions that makes copying by content easy to learn: W_q = W_k, so that heads match equal tokens;
    /// head h (counted over key/value heads) compares what stood h mod (taps-1) tokens before the query with what stood one token
    /// earlier still before the key, so it attends to what followed an earlier occurrence; W_o = W_v^T, so that what is attended to is
    /// copied.
    /// Measured against plain starts in the project's recipe for the built-in task; cf. KV-shifting attention (arXiv 2411.19574).
    /// </summary>
    /// <param name="config">Shape of the model; its ConvKernel must be at least 2.</param>
    /// <param name="seed">Names the random streams.</param>
    /// <exception cref="ArgumentException">The configuration has no convolution on q, k and v.</exception>
    public static ModelWeights InductionPrior(DecoderConfig config, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (config.ConvKernel < 2)
            throw new ArgumentException($"the induction prior needs a ConvKernel of 2 or more, not {config.ConvKernel}.", nameof(config));
        int size = config.HeadSize, group = config.Heads / config.KeyValueHeads, reach = config.ConvKernel - 1;
        double unit = 1 / Math.Sqrt(config.HiddenSize);
        double down = 1 / Math.Sqrt(config.IntermediateSize) / Math.Sqrt(2 * config.Layers);
        int Shift(int keyValueHead) => keyValueHead % reach;

        ModelWeights weights = Build(config, seed, (name, shape, random) => name switch
        {
            "model.embed_conv.weight" => random.Taps(0, EmbeddingTapNoise, lastTapNoise: false),
            // Untied embeddings start at unit size, as the head no longer shares their scale.
            "model.embed_tokens.weight" => random.Fill(0, config.TiedEmbeddings ? unit : 1),
            _ when name.EndsWith("norm.weight", StringComparison.Ordinal) => random.Fill(1, 0),
            _ when name.EndsWith("bias", StringComparison.Ordinal) => random.Fill(0, 0),
            _ when name.EndsWith("q_conv.weight", StringComparison.Ordinal) => random.Taps(c => Shift(c / size / group), TapNoise),
            _ when name.EndsWith("k_conv.weight", StringComparison.Ordinal) => random.Taps(c => Shift(c / size) + 1, TapNoise),
            _ when name.EndsWith("v_conv.weight", StringComparison.Ordinal) => random.Taps(0, TapNoise),
            _ when name.EndsWith("down_proj.weight", StringComparison.Ordinal) => random.Fill(0, down),
            _ => random.Fill(0, unit),
        });
        int hidden = config.HiddenSize;
        for (int layer = 0; layer < config.Layers; layer++)
        {
            string p = $"model.layers.{layer}.self_attn.";
            float[] q = weights.Tensors[p + "q_proj.weight"].Data, k = weights.Tensors[p + "k_proj.weight"].Data;
            float[] v = weights.Tensors[p + "v_proj.weight"].Data, o = weights.Tensors[p + "o_proj.weight"].Data;
            for (int row = 0; row < config.Heads * size; row++)
            {
                // Query heads that share a key head start equal to it.
                int shared = row / size / group * size + row % size;
                k.AsSpan(shared * hidden, hidden).CopyTo(q.AsSpan(row * hidden, hidden));
                for (int d = 0; d < hidden; d++)
                    o[d * config.Heads * size + row] = v[shared * hidden + d];
            }
        }
        return weights;
    }

    private static ModelWeights Build(DecoderConfig config, ulong seed, Func<string, long[], TensorRandom, float[]> make)
    {
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        ulong index = 0;
        foreach ((string name, long[] shape) in WeightLayout.Expected(config))
            tensors[name] = new WeightTensor(shape, make(name, shape, new TensorRandom(RandomStream.Bits(seed, index++), shape)));
        return new ModelWeights(tensors);
    }

    /// <summary>Fills one tensor.</summary>
    private sealed class TensorRandom(ulong seed, long[] shape)
    {
        public float[] Fill(double mean, double deviation)
        {
            var data = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (int i = 0; i < data.Length; i++)
                data[i] = (float)(deviation == 0 ? mean : mean + deviation * Normal(i));
            return data;
        }

        public float[] Taps(int back, double noise, bool lastTapNoise = true) => Taps(_ => back, noise, lastTapNoise);

        /// <summary>[channels, taps]: each channel passes on what stood <paramref name="back"/> tokens ago.</summary>
        public float[] Taps(Func<int, int> back, double noise, bool lastTapNoise = true)
        {
            int taps = (int)shape[1];
            float[] data = Fill(0, noise);
            for (int channel = 0; channel < shape[0]; channel++)
            {
                int last = channel * taps + taps - 1;
                if (!lastTapNoise)
                    data[last] = 0;
                data[last - Math.Min(back(channel), taps - 1)] += 1;
            }
            return data;
        }

        private double Normal(int i)
        {
            (double first, double second) = RandomStream.Normals(seed, (ulong)(i / 2));
            return i % 2 == 0 ? first : second;
        }
    }
}
