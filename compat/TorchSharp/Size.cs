// A shape as a value. Tensor.shape itself is a long[]; functions that take a Size accept a number, a tuple or an array.
using System.Collections;

namespace TorchSharp;

public static partial class torch
{
    public readonly struct Size(long[] shape) : IEnumerable<long>
    {
        internal long[] Shape { get; } = shape;

        public long this[int idx] => Shape[idx];

        public static implicit operator Size(long size) => new([size]);

        public static implicit operator Size((long, long) size) => new([size.Item1, size.Item2]);

        public static implicit operator Size((long, long, long) size) => new([size.Item1, size.Item2, size.Item3]);

        public static implicit operator Size((long, long, long, long) size) => new([size.Item1, size.Item2, size.Item3, size.Item4]);

        public static implicit operator Size(long[] size) => new(size);

        public long numel() => Shape.Aggregate(1L, static (a, b) => a * b);

        public IEnumerator<long> GetEnumerator() => ((IEnumerable<long>)Shape).GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
