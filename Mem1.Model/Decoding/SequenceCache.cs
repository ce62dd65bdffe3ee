// What a sequence keeps between tokens. Layout per layer and key/value head: keys as [block of W positions][head size][W], so that scores
// of W positions come out of one register without a horizontal sum; values as [position][padded head size].
// Invariant: slots 0 to Length - 1 hold the tokens that are visible, in order and without gaps, however many were evicted: a token's result
// depends on what is visible, not on how it came to be so.
namespace Mem1.Model.Decoding;

/// <summary>Keys, values and convolution inputs of one sequence. Room for <see cref="Capacity"/> tokens, allocated once.</summary>
internal sealed unsafe class SequenceCache : IDisposable
{
    private readonly NativeBuffer _buffer;
    private readonly long _keyFloats;
    private readonly long _valueFloats;
    private readonly long _layerFloats;
    private readonly long _embeddingHistory;
    private readonly int _keyValueHeads;
    private readonly int _qkvHistory;
    private readonly int _layers;
    private readonly DecoderShape _shape;
    private readonly int _hiddenTail;
    private float[]? _promptTail;

    public SequenceCache(DecoderShape shape, int capacity)
    {
        Capacity = capacity;
        _shape = shape;
        _keyValueHeads = shape.KeyValueHeads;
        _keyFloats = KeyFloats(shape, capacity);
        _valueFloats = (long)capacity * shape.ValueStride;
        // Both multiples of the lanes, so every part starts aligned.
        _qkvHistory = QkvHistoryFloats(shape);
        _layers = shape.Layers;
        _layerFloats = LayerFloats(shape, capacity);
        _embeddingHistory = EmbeddingHistoryFloats(shape);
        _hiddenTail = (int)_embeddingHistory;
        _buffer = new NativeBuffer(_embeddingHistory + shape.Layers * _layerFloats);
    }

    public int Capacity { get; }

    /// <summary>Tokens whose keys and values are in the cache.</summary>
    public int Length { get; set; }

    /// <summary>Tokens that were in the cache and are not any more.</summary>
    public int Evicted { get; private set; }

    /// <summary>Tokens computed so far: the position of the next one.</summary>
    public int Computed => Length + Evicted;

    /// <summary>For carried episodes: turns begun; 0 before the prompt's end.</summary>
    public int TurnsBegun { get; private set; }

    /// <summary>Last embeddings, oldest first, zeros before the start.</summary>
    public float* EmbeddingHistory => _buffer.Data;

    public float* Keys(int layer, int head) => Layer(layer) + head * _keyFloats;

    public float* Values(int layer, int head) => Layer(layer) + _keyValueHeads * _keyFloats + head * _valueFloats;

    /// <summary>Last unconvolved q, k, v rows, oldest first, zeros before the start.</summary>
    public float* QkvHistory(int layer) => Layer(layer) + _keyValueHeads * (_keyFloats + _valueFloats);

    /// <summary>Bytes held.</summary>
    public long Bytes => _buffer.Length * sizeof(float);

    /// <summary>Bytes of a cache with room for so many tokens.</summary>
    public static long BytesFor(DecoderShape shape, int capacity) =>
        (EmbeddingHistoryFloats(shape) + shape.Layers * LayerFloats(shape, capacity)) * sizeof(float);

    /// <summary>Forgets every token. Keys and values stay where they are: nothing reads beyond the length.</summary>
    public void Clear()
    {
        Length = Evicted = TurnsBegun = 0;
        new Span<float>(EmbeddingHistory, (int)_embeddingHistory).Clear();
        for (int layer = 0; layer < _layers; layer++)
            new Span<float>(QkvHistory(layer), _qkvHistory).Clear();
    }

    /// <summary>The prompt is in: the first turn begins.</summary>
    public void BeginFirstTurn()
    {
        TurnsBegun = 1;
        // What the convolutions reach back to when a later turn's own tokens and those before it are too few.
        _promptTail ??= new float[_hiddenTail + (_layers * _qkvHistory)];
        new ReadOnlySpan<float>(EmbeddingHistory, _hiddenTail).CopyTo(_promptTail);
        for (int layer = 0; layer < _layers; layer++)
            new ReadOnlySpan<float>(QkvHistory(layer), _qkvHistory).CopyTo(_promptTail.AsSpan(_hiddenTail + (layer * _qkvHistory)));
    }

    /// <summary>A later turn begins: tokens between the prompt and what is kept of the turn before it are evicted.</summary>
    /// <param name="prompt">Tokens of the prompt.</param>
    /// <param name="kept">Tokens kept after it, the newest.</param>
    public void BeginTurn(int prompt, int kept)
    {
        TurnsBegun++;
        int from = Length - kept, count = from - prompt;
        if (count > 0)
        {
            int size = _shape.HeadSize, lanes = _shape.Lanes, stride = _shape.ValueStride;
            for (int layer = 0; layer < _layers; layer++)
            {
                for (int head = 0; head < _keyValueHeads; head++)
                {
                    float* keys = Keys(layer, head);
                    for (int to = prompt; to < prompt + kept; to++)
                    {
                        float* target = keys + (long)(to / lanes) * lanes * size + to % lanes;
                        float* source = keys + (long)((to + count) / lanes) * lanes * size + (to + count) % lanes;
                        for (int d = 0; d < size; d++)
                            target[d * lanes] = source[d * lanes];
                    }
                    float* values = Values(layer, head);
                    long bytes = (long)kept * stride * sizeof(float);
                    Buffer.MemoryCopy(values + (long)from * stride, values + (long)prompt * stride, bytes, bytes);
                }
            }
            Length -= count;
            Evicted += count;
        }
        // The convolutions run over what is kept: before the kept tokens comes the prompt's end, not what was evicted.
        RestoreTail(EmbeddingHistory, _promptTail.AsSpan(0, _hiddenTail), _shape.HiddenStride, kept);
        for (int layer = 0; layer < _layers; layer++)
            RestoreTail(QkvHistory(layer), _promptTail.AsSpan(_hiddenTail + (layer * _qkvHistory), _qkvHistory), _shape.QkvStride, kept);
    }

    /// <summary>Copies everything into a cache with room for it.</summary>
    public void CopyTo(SequenceCache other)
    {
        (other.Length, other.Evicted, other.TurnsBegun) = (Length, Evicted, TurnsBegun);
        other._promptTail = (float[]?)_promptTail?.Clone();
        new ReadOnlySpan<float>(EmbeddingHistory, _hiddenTail).CopyTo(new Span<float>(other.EmbeddingHistory, _hiddenTail));
        long keyBytes = (Length + _shape.Lanes - 1) / _shape.Lanes * (long)_shape.Lanes * _shape.HeadSize * sizeof(float);
        long valueBytes = (long)Length * _shape.ValueStride * sizeof(float);
        for (int layer = 0; layer < _layers; layer++)
        {
            new ReadOnlySpan<float>(QkvHistory(layer), _qkvHistory).CopyTo(new Span<float>(other.QkvHistory(layer), _qkvHistory));
            for (int head = 0; head < _keyValueHeads; head++)
            {
                Buffer.MemoryCopy(Keys(layer, head), other.Keys(layer, head), keyBytes, keyBytes);
                Buffer.MemoryCopy(Values(layer, head), other.Values(layer, head), valueBytes, valueBytes);
            }
        }
    }

    public void Dispose() => _buffer.Dispose();

    /// <summary>Puts the prompt's last inputs in front of the newest <paramref name="kept"/> ones.</summary>
    private static void RestoreTail(float* history, ReadOnlySpan<float> prompt, int stride, int kept)
    {
        int missing = prompt.Length - (kept * stride);
        if (missing > 0)
            prompt[^missing..].CopyTo(new Span<float>(history, missing));
    }

    private static long KeyFloats(DecoderShape shape, int capacity) =>
        ((long)capacity + shape.Lanes - 1) / shape.Lanes * shape.Lanes * shape.HeadSize;

    private static int QkvHistoryFloats(DecoderShape shape) => Math.Max(shape.ConvKernel - 1, 0) * shape.QkvStride;

    private static long EmbeddingHistoryFloats(DecoderShape shape) => (long)Math.Max(shape.EmbeddingConvKernel - 1, 0) * shape.HiddenStride;

    private static long LayerFloats(DecoderShape shape, int capacity) =>
        shape.KeyValueHeads * (KeyFloats(shape, capacity) + (long)capacity * shape.ValueStride) + QkvHistoryFloats(shape);

    private float* Layer(int layer) => _buffer.Data + _embeddingHistory + layer * _layerFloats;
}
