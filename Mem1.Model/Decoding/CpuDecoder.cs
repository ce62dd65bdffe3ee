namespace Mem1.Model.Decoding;

/// <summary>
/// The decoder on the CPU in managed code: scores whole token sequences. Generation with a cache is
/// <see cref="Generation.CpuGenerationEngine"/>; both run the same kernels and agree bit for bit. Thread-safe.
/// </summary>
public sealed class CpuDecoder : IDisposable
{
    private readonly DecoderCore _core;
    private readonly PackedWeights _weights;

    /// <summary>Packs the weights for this processor.</summary>
    /// <param name="config">Shape of the model.</param>
    /// <param name="weights">Tensors that fit it.</param>
    /// <exception cref="Checkpoints.CheckpointException">The weights do not fit; every misfit is listed.</exception>
    public CpuDecoder(DecoderConfig config, ModelWeights weights)
        : this(config, weights, Simd.Best)
    {
    }

    internal CpuDecoder(DecoderConfig config, ModelWeights weights, SimdLevel level)
    {
        _core = DecoderCore.Create(config, level);
        _weights = new PackedWeights(_core.Shape, weights);
    }

    /// <summary>Logits after every token of a sequence under the plain causal mask: [tokens, vocabulary], row-major.</summary>
    /// <param name="tokens">At least one id, each inside the vocabulary; at most the model's positions.</param>
    public float[] Logits(ReadOnlySpan<int> tokens)
    {
        DecoderConfig config = _core.Shape.Config;
        TokenChecks.Require(config, tokens);
        using var cache = new SequenceCache(_core.Shape, tokens.Length);
        using var workspace = new Workspace(_core.Shape);
        var sink = new Collector(tokens.Length, config.VocabularySize);
        _core.Run(_weights, [new SequenceStep(cache, tokens.ToArray(), 0, tokens.Length, WantedLogits.All)], workspace, sink);
        GC.KeepAlive(cache);
        return sink.Logits;
    }

    /// <inheritdoc/>
    public void Dispose() => _weights.Dispose();

    private sealed unsafe class Collector(int tokens, int vocabulary) : ILogitsSink
    {
        public float[] Logits { get; } = new float[(long)tokens * vocabulary];

        public void Accept(int step, int token, float* logits) =>
            new ReadOnlySpan<float>(logits, vocabulary).CopyTo(Logits.AsSpan(token * vocabulary));
    }
}

internal static class TokenChecks
{
    public static void Require(DecoderConfig config, ReadOnlySpan<int> tokens)
    {
        if (tokens.IsEmpty)
            throw new ArgumentException("a context needs at least one token.", nameof(tokens));
        if (tokens.Length > config.MaxPositions)
            throw new ArgumentException($"{tokens.Length} tokens exceed the model's {config.MaxPositions} positions.", nameof(tokens));
        RequireIds(config, tokens);
    }

    public static void RequireIds(DecoderConfig config, ReadOnlySpan<int> tokens)
    {
        foreach (int token in tokens)
        {
            if ((uint)token >= (uint)config.VocabularySize)
                throw new ArgumentException($"token id {token} is outside the vocabulary of {config.VocabularySize}.", nameof(tokens));
        }
    }
}
