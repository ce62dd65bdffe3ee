using Mem1.Model.Checkpoints;

namespace Mem1.Model.Decoding;

/// <summary>All weights of a decoder in kernel order; immutable once built.</summary>
internal sealed unsafe class PackedWeights : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    public PackedWeights(DecoderShape shape, ModelWeights weights)
    {
        DecoderConfig config = shape.Config;
        WeightLayout.Require(config, weights, "the weight set");
        float[] Of(string name) => weights.Tensors[name].Data;
        float[]? Bias(string name) => config.QkvBias ? Of(name) : null;

        int hidden = config.HiddenSize;
        Embedding = Of("model.embed_tokens.weight");
        EmbeddingConv = config.EmbeddingConvKernel > 0
            ? Taps(config.EmbeddingConvKernel, shape.HiddenStride, Of("model.embed_conv.weight")) : null;
        Layers = new Layer[config.Layers];
        for (int i = 0; i < config.Layers; i++)
        {
            string p = $"model.layers.{i}.";
            string a = p + "self_attn.";
            Layers[i] = new Layer
            {
                AttentionNorm = Vector(shape.HiddenStride, Of(p + "input_layernorm.weight")),
                Qkv = Own(PackedMatrix.Pack(hidden, false, (Of(a + "q_proj.weight"), Bias(a + "q_proj.bias")),
                    (Of(a + "k_proj.weight"), Bias(a + "k_proj.bias")), (Of(a + "v_proj.weight"), Bias(a + "v_proj.bias")))),
                Conv = config.ConvKernel > 0
                    ? Taps(config.ConvKernel, shape.QkvStride, Of(a + "q_conv.weight"), Of(a + "k_conv.weight"), Of(a + "v_conv.weight"))
                    : null,
                Output = Own(PackedMatrix.Pack(shape.Queries, false, (Of(a + "o_proj.weight"), null))),
                FeedForwardNorm = Vector(shape.HiddenStride, Of(p + "post_attention_layernorm.weight")),
                GateUp = Own(PackedMatrix.Pack(hidden, true, (Of(p + "mlp.gate_proj.weight"), null), (Of(p + "mlp.up_proj.weight"), null))),
                Down = Own(PackedMatrix.Pack(config.IntermediateSize, false, (Of(p + "mlp.down_proj.weight"), null))),
            };
        }
        FinalNorm = Vector(shape.HiddenStride, Of("model.norm.weight"));
        Head = Own(PackedMatrix.Pack(hidden, false, (config.TiedEmbeddings ? Embedding : Of("lm_head.weight"), null)));
    }

    /// <summary>[vocabulary, D], as given.</summary>
    public float[] Embedding { get; }
    public NativeBuffer? EmbeddingConv { get; }
    public Layer[] Layers { get; }
    public NativeBuffer FinalNorm { get; }
    public PackedMatrix Head { get; }

    public void Dispose()
    {
        foreach (IDisposable part in _owned)
            part.Dispose();
    }

    private T Own<T>(T part)
        where T : IDisposable
    {
        _owned.Add(part);
        return part;
    }

    private NativeBuffer Vector(int padded, float[] values)
    {
        NativeBuffer buffer = Own(new NativeBuffer(padded));
        values.CopyTo(new Span<float>(buffer.Data, padded));
        return buffer;
    }

    /// <summary>[channels, taps] of several tensors, one after the other, as [taps, channels].</summary>
    private NativeBuffer Taps(int taps, int padded, params ReadOnlySpan<float[]> tensors)
    {
        NativeBuffer buffer = Own(new NativeBuffer((long)taps * padded));
        int channel = 0;
        foreach (float[] tensor in tensors)
        {
            for (int c = 0; c < tensor.Length / taps; c++, channel++)
            {
                for (int i = 0; i < taps; i++)
                    buffer.Data[(long)i * padded + channel] = tensor[c * taps + i];
            }
        }
        return buffer;
    }

    public sealed class Layer
    {
        public required NativeBuffer AttentionNorm { get; init; }
        public required PackedMatrix Qkv { get; init; }
        public required NativeBuffer? Conv { get; init; }
        public required PackedMatrix Output { get; init; }
        public required NativeBuffer FeedForwardNorm { get; init; }
        public required PackedMatrix GateUp { get; init; }
        public required PackedMatrix Down { get; init; }
    }
}
