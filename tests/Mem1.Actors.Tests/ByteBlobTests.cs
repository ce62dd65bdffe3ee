using System.Security.Cryptography;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Protocol;

namespace Mem1.Actors.Tests;

/// <summary>Bytes in segments, which are small here so that their borders lie everywhere.</summary>
public sealed class ByteBlobTests
{
    [Fact]
    public void ItsBytesAreThoseItWasMadeOfWhereverTheSegmentsEnd()
    {
        var random = new Random(3);
        for (var round = 0; round < 300; round++)
        {
            var bytes = new byte[round < 30 ? round : random.Next(3000)];
            random.NextBytes(bytes);
            using var writer = new ByteBlobWriter(bytes.Length, 1 + random.Next(600));
            for (var at = 0; at < bytes.Length;)
            {
                var count = 1 + random.Next(bytes.Length - at);
                if (random.Next(2) == 0)
                {
                    writer.Write(bytes.AsSpan(at, count));
                    at += count;
                    continue;
                }

                var free = writer.Free(count);
                Assert.InRange(free.Length, 1, count);
                bytes.AsSpan(at, free.Length).CopyTo(free.Span);
                writer.Advance(free.Length);
                Assert.Equal(bytes.AsSpan(at, free.Length), writer.Last(free.Length).Span);
                at += free.Length;
            }

            Assert.Throws<InvalidOperationException>(() => writer.Write([1]));
            foreach (var blob in new[] { writer.Finish(), Cut(bytes, random), ByteBlob.Of(bytes) })
            {
                Assert.Equal(bytes.Length, blob.Length);
                Assert.Equal(SHA256.HashData(bytes), blob.Sha256());
                var from = random.Next(bytes.Length + 1);
                var part = random.Next(bytes.Length - from + 1);
                Assert.Equal(bytes.AsSpan(from, part), blob.Part(from, part).Span);
                var at = blob.At(from, 1 + random.Next(50));
                Assert.Equal(from == bytes.Length, at.IsEmpty);
                Assert.Equal(bytes.AsSpan(from, at.Length), at.Span);
                using var read = new MemoryStream();
                using (var stream = blob.OpenRead()) stream.CopyTo(read, 1 + random.Next(700));
                Assert.Equal(bytes, read.ToArray());
                using var consumed = new MemoryStream();
                using (var stream = blob.Consume()) stream.CopyTo(consumed, 1 + random.Next(700));
                Assert.Equal(bytes, consumed.ToArray());
                Assert.Throws<ArgumentOutOfRangeException>(() => blob.At(bytes.Length + 1, 1));
                Assert.Throws<ArgumentOutOfRangeException>(() => blob.Part(from, bytes.Length - from + 1));
            }
        }
    }

    [Fact]
    public void WhatIsMissingIsSaid()
    {
        using var writer = new ByteBlobWriter(3, 2);
        writer.Write([1, 2]);
        Assert.True(writer.IsAtBorder);
        Assert.Throws<InvalidOperationException>(writer.Finish);
        Assert.Throws<InvalidOperationException>(() => writer.Write([3, 4]));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Advance(1)); // nothing was asked for
        writer.Write([3]);
        Assert.True(writer.Free(1).IsEmpty);
        Assert.Equal([1, 2, 3], writer.Finish().Part(0, 3).ToArray());
    }

    [Theory]
    [InlineData(StoredDtype.Float32)]
    [InlineData(StoredDtype.Bfloat16)]
    [InlineData(StoredDtype.Float16)]
    public void WeightsGoThroughSegmentsOfAnySize(StoredDtype dtype)
    {
        var random = new Random(5);
        WeightTensor Tensor(params long[] shape)
        {
            var data = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (var i = 0; i < data.Length; i++) data[i] = (float)random.NextDouble();
            return new WeightTensor(shape, data);
        }

        var weights = new ModelWeights(new Dictionary<string, WeightTensor>
        {
            ["b"] = Tensor(17, 3),
            ["a"] = Tensor(5),
            ["c"] = Tensor(0, 4),
            ["d"] = Tensor(2, 2, 2),
        });
        var whole = Safetensors.ToBytes(weights, dtype);
        Assert.Equal(whole.Length, Safetensors.Measure(weights, dtype));
        foreach (var segment in new[] { 1, 7, 64, 1000, ByteBlob.StandardSegmentBytes })
        {
            using var writer = new ByteBlobWriter(Safetensors.Measure(weights, dtype), segment);
            Safetensors.Write(writer, weights, dtype);
            var blob = writer.Finish();
            Assert.Equal((whole.Length + segment - 1) / segment, blob.Segments.Count);
            using var stream = blob.Consume();
            Assert.Equal(whole, Safetensors.ToBytes(Safetensors.Read(stream, stream.Length, "blob"), dtype));
            Assert.All(blob.Segments, s => Assert.True(s.IsEmpty)); // let go of
        }
    }

    /// <summary>The same bytes in segments of random sizes.</summary>
    internal static ByteBlob Cut(byte[] bytes, Random random)
    {
        var segments = new List<ReadOnlyMemory<byte>>();
        for (var at = 0; at < bytes.Length;)
        {
            var count = random.Next(Math.Min(bytes.Length - at, 500) + 1); // now and then none
            segments.Add(bytes.AsMemory(at, count));
            at += count;
        }

        return new ByteBlob(segments);
    }
}
