using Mem1.Protocol;

namespace Mem1.Actors.Tests;

/// <summary>Differences between weight blobs.</summary>
public sealed class WeightDeltaTests
{
    internal static byte[] Encode(byte[] from, byte[] to) => Bytes(WeightDelta.Encode(ByteBlob.Of(from), ByteBlob.Of(to)));

    private static byte[] Bytes(ByteBlob blob) => blob.Part(0, (int)blob.Length).ToArray();

    [Theory]
    [InlineData(16 << 20)]
    [InlineData(1000)]
    [InlineData(7)]
    public void ADeltaLeadsToTheNewBlobWhateverTheBytesAndTheirSegments(int piece)
    {
        var random = new Random(11);
        for (var round = 0; round < 200; round++)
        {
            var from = new byte[round < 40 ? round : random.Next(5000)];
            random.NextBytes(from);
            var to = (byte[])from.Clone();
            for (var i = random.Next(to.Length + 1); i > 0; i--) to[random.Next(to.Length)] = (byte)random.Next(256);
            var delta = WeightDelta.Encode(ByteBlobTests.Cut(from, random), ByteBlobTests.Cut(to, random), piece);
            Assert.Equal(Bytes(delta), Bytes(WeightDelta.Encode(ByteBlob.Of(from), ByteBlob.Of(to), piece)));
            var cut = ByteBlobTests.Cut(Bytes(delta), random);
            Assert.Equal(to, Bytes(WeightDelta.Apply(ByteBlobTests.Cut(from, random), cut, piece)));
        }
    }

    [Theory]
    [InlineData(16 << 20)]
    [InlineData(900)]
    public void ADamagedDeltaIsOneErrorAndNothingElse(int piece)
    {
        var random = new Random(12);
        var from = new byte[4000];
        random.NextBytes(from);
        var to = (byte[])from.Clone();
        for (var i = 0; i < to.Length; i += 4) to[i] ^= 1;
        var good = Bytes(WeightDelta.Encode(ByteBlob.Of(from), ByteBlob.Of(to), piece));
        var refused = 0;
        for (var round = 0; round < 10_000; round++)
        {
            var bad = random.Next(3) == 0 ? good[..random.Next(good.Length)] : (byte[])good.Clone();
            for (var i = random.Next(4); i > 0 && bad.Length > 0; i--) bad[random.Next(Math.Min(bad.Length, 64))] = (byte)random.Next(256);
            try
            {
                Assert.Equal(from.Length, WeightDelta.Apply(ByteBlob.Of(from), ByteBlob.Of(bad), piece).Length);
            }
            catch (InvalidDataException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, 1, 10_000);
        Assert.Throws<InvalidDataException>(() => WeightDelta.Apply(ByteBlob.Of(from.AsMemory(1)), ByteBlob.Of(good), piece));
        Assert.Throws<InvalidDataException>(() => WeightDelta.Apply(ByteBlob.Of(from), ByteBlob.Of((byte[])[.. good, 0]), piece));
    }
}
