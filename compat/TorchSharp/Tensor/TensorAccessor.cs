// Element access to a CPU tensor in row-major order of its shape, whatever its strides.
//
// Invariant: the accessor holds the tensor, so the memory outlives every read; writes go to the tensor's own storage.
using System.Collections;
using TorchSharp.Interop;

namespace TorchSharp.Utils;

public sealed unsafe class TensorAccessor<T> : IDisposable, IEnumerable<T>
    where T : unmanaged
{
    private readonly torch.Tensor _tensor;
    private readonly T* _data;
    private readonly long[] _shape;
    private readonly long[] _strides;
    private readonly bool _contiguous;

    internal TensorAccessor(torch.Tensor tensor)
    {
        _tensor = tensor;
        _data = (T*)tensor.DataPointer();
        NativeMeta m = tensor.Meta;
        Count = m.NumberOfElements;
        _contiguous = m.Contiguous;
        _shape = tensor.shape;
        _strides = tensor.stride();
    }

    public long Count { get; }

    public bool IsReadOnly => false;

    /// <summary>By one index per dimension, or by one index in row-major order.</summary>
    public T this[params long[] indices]
    {
        get
        {
            T value = _data[Offset(indices)];
            GC.KeepAlive(_tensor);
            return value;
        }
        set
        {
            _data[Offset(indices)] = value;
            GC.KeepAlive(_tensor);
        }
    }

    public T[] ToArray()
    {
        var result = new T[Count];
        CopyTo(result.AsSpan());
        return result;
    }

    public void CopyTo(T[] array, int arrayIndex = 0, long tensorIndex = 0) => CopyTo(array.AsSpan(), arrayIndex, tensorIndex);

    public void CopyTo(Span<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        Span<T> target = array[arrayIndex..];
        long count = Math.Min(target.Length, Count - tensorIndex);
        if (_contiguous)
        {
            new ReadOnlySpan<T>(_data + tensorIndex, checked((int)count)).CopyTo(target);
        }
        else
        {
            for (int k = 0; k < count; k++) target[k] = _data[Linear(tensorIndex + k)];
        }
        GC.KeepAlive(_tensor);
    }

    public void CopyFrom(T[] array, int arrayIndex = 0, long tensorIndex = 0) =>
        CopyFrom((ReadOnlySpan<T>)array, arrayIndex, tensorIndex);

    public void CopyFrom(ReadOnlySpan<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        ReadOnlySpan<T> source = array[arrayIndex..];
        long count = Math.Min(source.Length, Count - tensorIndex);
        if (_contiguous)
        {
            source[..checked((int)count)].CopyTo(new Span<T>(_data + tensorIndex, checked((int)count)));
        }
        else
        {
            for (int k = 0; k < count; k++) _data[Linear(tensorIndex + k)] = source[k];
        }
        GC.KeepAlive(_tensor);
    }

    public IEnumerator<T> GetEnumerator() => ((IEnumerable<T>)ToArray()).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Does not dispose the tensor.</summary>
    public void Dispose() => GC.SuppressFinalize(this);

    private long Offset(long[] indices)
    {
        if (indices.Length == 1 && _shape.Length != 1) return Linear(indices[0]);
        if (indices.Length != _shape.Length)
        {
            throw new ArgumentException($"{indices.Length} indices for {_shape.Length} dimensions.", nameof(indices));
        }
        long offset = 0;
        for (int d = 0; d < indices.Length; d++)
        {
            if (indices[d] < 0 || indices[d] >= _shape[d])
            {
                throw new IndexOutOfRangeException($"Index {indices[d]} of dimension {d} is outside its {_shape[d]} elements.");
            }
            offset += indices[d] * _strides[d];
        }
        return offset;
    }

    private long Linear(long index)
    {
        if (index < 0 || index >= Count) throw new IndexOutOfRangeException($"Index {index} is outside the tensor's {Count} elements.");
        if (_contiguous) return index;
        long offset = 0;
        for (int d = _shape.Length - 1; d >= 0; d--)
        {
            offset += index % _shape[d] * _strides[d];
            index /= _shape[d];
        }
        return offset;
    }
}
