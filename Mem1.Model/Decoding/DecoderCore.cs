// The forward pass. Invariants: a token's logits depend on the tokens of its own sequence only, bit for bit - not on what else is in the
// batch, on how tokens are cut into passes, or on the thread; every kernel below accumulates in an order fixed by the model alone.
// Semantics (the gradient pass computes the same): embedding, [causal depthwise convolution], then per block RMSNorm, q/k/v (+ bias),
// [convolutions on q, k, v], [RoPE on q, k], causal grouped-query attention, output projection, residual, RMSNorm, SwiGLU, residual; at the
// end RMSNorm and the head.
namespace Mem1.Model.Decoding;

/// <summary>Tokens to add to one sequence in a pass.</summary>
/// <param name="Cache">The sequence.</param>
/// <param name="Tokens">Source of the new tokens.</param>
/// <param name="Start">First new token in <paramref name="Tokens"/>.</param>
/// <param name="Count">Number of new tokens, at least 1.</param>
/// <param name="Wanted">After which of them logits are wanted.</param>
internal readonly record struct SequenceStep(
    SequenceCache Cache, int[] Tokens, int Start, int Count, WantedLogits Wanted = WantedLogits.Last);

/// <summary>Which new tokens of a step are followed by logits.</summary>
internal enum WantedLogits
{
    /// <summary>The last.</summary>
    Last,
    /// <summary>Every one.</summary>
    All,
    /// <summary>None: only keys and values are wanted.</summary>
    None,
}

/// <summary>Receives logits as they are made, on the thread that made them.</summary>
internal unsafe interface ILogitsSink
{
    /// <param name="step">Index of the step in the pass.</param>
    /// <param name="token">Index of the token within the step.</param>
    /// <param name="logits">One float per vocabulary entry, then padding up to whole panels; the callee may overwrite all of it.</param>
    void Accept(int step, int token, float* logits);
}

/// <summary>The decoder for one instruction set.</summary>
internal abstract class DecoderCore
{
    protected DecoderCore(DecoderConfig config, int lanes) => Shape = new DecoderShape(config, lanes);

    public DecoderShape Shape { get; }

    public static DecoderCore Create(DecoderConfig config, SimdLevel level) => level switch
    {
        SimdLevel.Avx512 => new DecoderCore<Lanes512, System.Runtime.Intrinsics.Vector512<float>>(config),
        SimdLevel.Avx2 => new DecoderCore<Lanes256, System.Runtime.Intrinsics.Vector256<float>>(config),
        _ => new DecoderCore<LanesPortable, System.Numerics.Vector<float>>(config),
    };

    /// <summary>Runs every step to its end. Several calls may run at once with different workspaces, caches and sinks.</summary>
    public abstract void Run(PackedWeights weights, ReadOnlySpan<SequenceStep> steps, Workspace workspace, ILogitsSink sink);
}

/// <summary>Scratch memory of one thread.</summary>
internal sealed unsafe class Workspace : IDisposable
{
    /// <summary>Rows of one chunk: a multiple of the tile height, few enough for a small model's activations to stay in cache.</summary>
    public const int Rows = 96;

    private readonly List<NativeBuffer> _buffers = [];
    private NativeBuffer? _scores;

    public Workspace(DecoderShape shape)
    {
        Hidden = Floats((long)Rows * shape.HiddenStride);
        Normed = Floats((long)Rows * shape.HiddenStride);
        Qkv = Floats((long)Rows * shape.QkvStride);
        Attended = Floats((long)Rows * shape.AttentionStride);
        Inner = Floats(2L * Rows * shape.InnerStride);
        Logits = Floats((long)Rows * shape.VocabularyStride);
        HeadOut = Floats(shape.ValueStride);
        int history = Math.Max(Math.Max(shape.ConvKernel, shape.EmbeddingConvKernel) - 1, 0);
        Spare = Floats((long)history * Math.Max(shape.QkvStride, shape.HiddenStride));
    }

    public float* Hidden { get; }
    public float* Normed { get; }
    public float* Qkv { get; }
    public float* Attended { get; }
    public float* Inner { get; }
    public float* Logits { get; }
    public float* HeadOut { get; }
    public float* Spare { get; }

    /// <summary>Room for attention scores over so many tokens, rounded up to whole vectors.</summary>
    public float* Scores(int tokens)
    {
        if (_scores is null || _scores.Length < tokens + 16)
        {
            _scores?.Dispose();
            // Doubling keeps the number of growths small.
            _scores = new NativeBuffer(2L * tokens + 64);
        }
        return _scores.Data;
    }

    public void Dispose()
    {
        foreach (NativeBuffer buffer in _buffers)
            buffer.Dispose();
        _scores?.Dispose();
    }

    private float* Floats(long count)
    {
        var buffer = new NativeBuffer(count);
        _buffers.Add(buffer);
        return buffer.Data;
    }
}
