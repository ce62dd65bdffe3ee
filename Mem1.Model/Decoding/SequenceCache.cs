// What a sequence keeps between tokens. Layout per layer and key/value head: keys as [block of W positions][head size][W], so that scores
// of W positions come out of one register without a horizontal sum; values as [position][padded head size].
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

    public SequenceCache(DecoderShape shape, int capacity)
    {
        Capacity = capacity;
        _keyValueHeads = shape.KeyValueHeads;
        long blocks = (capacity + shape.Lanes - 1) / shape.Lanes;
        _keyFloats = blocks * shape.Lanes * shape.HeadSize;
        _valueFloats = (long)capacity * shape.ValueStride;
        // Both multiples of the lanes, so every part starts aligned.
        _qkvHistory = Math.Max(shape.ConvKernel - 1, 0) * shape.QkvStride;
        _layers = shape.Layers;
        _layerFloats = _keyValueHeads * (_keyFloats + _valueFloats) + _qkvHistory;
        _embeddingHistory = (long)Math.Max(shape.EmbeddingConvKernel - 1, 0) * shape.HiddenStride;
        _buffer = new NativeBuffer(_embeddingHistory + shape.Layers * _layerFloats);
    }

    public int Capacity { get; }

    /// <summary>Tokens whose keys and values are in the cache.</summary>
    public int Length { get; set; }

    /// <summary>Last embeddings, oldest first, zeros before the start.</summary>
    public float* EmbeddingHistory => _buffer.Data;

    public float* Keys(int layer, int head) => Layer(layer) + head * _keyFloats;

    public float* Values(int layer, int head) => Layer(layer) + _keyValueHeads * _keyFloats + head * _valueFloats;

    /// <summary>Last unconvolved q, k, v rows, oldest first, zeros before the start.</summary>
    public float* QkvHistory(int layer) => Layer(layer) + _keyValueHeads * (_keyFloats + _valueFloats);

    /// <summary>Bytes held.</summary>
    public long Bytes => _buffer.Length * sizeof(float);

    /// <summary>Forgets every token. Keys and values stay where they are: nothing reads beyond the length.</summary>
    public void Clear()
    {
        Length = 0;
        new Span<float>(EmbeddingHistory, (int)_embeddingHistory).Clear();
        for (int layer = 0; layer < _layers; layer++)
            new Span<float>(QkvHistory(layer), _qkvHistory).Clear();
    }

    public void Dispose() => _buffer.Dispose();

    private float* Layer(int layer) => _buffer.Data + _embeddingHistory + layer * _layerFloats;
}
