namespace Mem1.Model.Decoding;

/// <summary>A configuration with the padded sizes that vector code works on.</summary>
internal sealed record DecoderShape
{
    public DecoderShape(DecoderConfig config, int lanes)
    {
        Config = config;
        Lanes = lanes;
        HiddenStride = PackedMatrix.Pad(config.HiddenSize);
        Queries = config.Heads * config.HeadSize;
        Keys = config.KeyValueHeads * config.HeadSize;
        QkvStride = PackedMatrix.Pad(Queries + 2 * Keys);
        AttentionStride = PackedMatrix.Pad(Queries);
        InnerStride = PackedMatrix.Pad(config.IntermediateSize);
        VocabularyStride = PackedMatrix.Pad(config.VocabularySize);
        ValueStride = (config.HeadSize + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
    }

    public DecoderConfig Config { get; }
    public int Lanes { get; }
    public int HiddenStride { get; }
    public int Queries { get; }
    public int Keys { get; }
    public int QkvStride { get; }
    public int AttentionStride { get; }
    public int InnerStride { get; }
    public int VocabularyStride { get; }

    /// <summary>Floats per cached value: the head size in whole pairs of vectors.</summary>
    public int ValueStride { get; }

    public int Layers => Config.Layers;
    public int HeadSize => Config.HeadSize;
    public int KeyValueHeads => Config.KeyValueHeads;
    public int ConvKernel => Config.ConvKernel;
    public int EmbeddingConvKernel => Config.EmbeddingConvKernel;
}
