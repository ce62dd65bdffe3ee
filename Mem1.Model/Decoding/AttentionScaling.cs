namespace Mem1.Model.Decoding;

/// <summary>The factor on attention logits, shared by every implementation of the decoder.</summary>
public static class AttentionScaling
{
    /// <summary>Context length at which <see cref="AttentionScale.LogN"/> equals <see cref="AttentionScale.Standard"/>.</summary>
    public const int ReferenceLength = 64;

    /// <summary>The factor for a query that sees <paramref name="visible"/> tokens (its position + 1).</summary>
    /// <param name="config">Says which rule and the head size.</param>
    /// <param name="visible">Tokens visible, at least 1.</param>
    public static double Factor(DecoderConfig config, int visible)
    {
        ArgumentNullException.ThrowIfNull(config);
        double standard = 1 / Math.Sqrt(config.HeadSize);
        return config.AttentionScale == AttentionScale.LogN ? standard * Math.Log(visible) / Math.Log(ReferenceLength) : standard;
    }
}
