namespace Mem1.Model;

/// <summary>How positions enter attention.</summary>
public enum PositionEncoding
{
    /// <summary>Rotary embeddings (Qwen2).</summary>
    Rope,
    /// <summary>None; order is seen through the convolutions only.</summary>
    None,
}

/// <summary>How attention logits are scaled.</summary>
public enum AttentionScale
{
    /// <summary>1/sqrt(head dimension).</summary>
    Standard,
    /// <summary>ln(n)/ln(64)/sqrt(head dimension), n being the number of visible tokens (position + 1).</summary>
    LogN,
}

/// <summary>
/// Shape of a Qwen2-family decoder, as config.json says it. The last group are this project's options; at their defaults the decoder is
/// plain Qwen2.
/// </summary>
public sealed record DecoderConfig
{
    /// <summary>Rows of the embedding.</summary>
    public required int VocabularySize { get; init; }
    /// <summary>Width of the residual stream, D.</summary>
    public required int HiddenSize { get; init; }
    /// <summary>Width of the SwiGLU layer, F.</summary>
    public required int IntermediateSize { get; init; }
    /// <summary>Number of blocks.</summary>
    public required int Layers { get; init; }
    /// <summary>Query heads, H.</summary>
    public required int Heads { get; init; }
    /// <summary>Key/value heads; divides <see cref="Heads"/>.</summary>
    public required int KeyValueHeads { get; init; }
    /// <summary>Width of one head; HiddenSize / Heads unless config.json says otherwise.</summary>
    public required int HeadSize { get; init; }
    /// <summary>Longest context the model is used with, in tokens.</summary>
    public required int MaxPositions { get; init; }
    /// <summary>Epsilon of RMSNorm.</summary>
    public double NormEpsilon { get; init; } = 1e-6;
    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 1_000_000;
    /// <summary>Whether lm_head is the embedding.</summary>
    public bool TiedEmbeddings { get; init; }
    /// <summary>Whether q, k and v projections have a bias (Qwen2: yes).</summary>
    public bool QkvBias { get; init; } = true;

    /// <summary>How positions enter attention.</summary>
    public PositionEncoding Position { get; init; } = PositionEncoding.Rope;
    /// <summary>Taps of the causal depthwise convolution on q, k and v after projection (before RoPE); 0 is none.</summary>
    public int ConvKernel { get; init; }
    /// <summary>Taps of the causal depthwise convolution on the embeddings; 0 is none.</summary>
    public int EmbeddingConvKernel { get; init; }
    /// <summary>How attention logits are scaled.</summary>
    public AttentionScale AttentionScale { get; init; } = AttentionScale.Standard;
}
