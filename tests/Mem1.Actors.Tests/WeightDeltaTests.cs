using Mem1.Protocol;

namespace Mem1.Actors.Tests;

/// <summary>Differences between weight blobs.</summary>
public sealed class WeightDeltaTests
{
    [Fact]
    public void ADeltaLeadsToTheNewBlobWhateverTheBytes()
    {
        var random = new Random(11);
        for (var round = 0; round < 300; round++)
        {
            var from = new byte[round < 40 ? round : random.Next(5000)];
            random.NextBytes(from);
            var to = (byte[])from.Clone();
            for (var i = random.Next(to.Length + 1); i > 0; i--) to[random.Next(to.Length)] = (byte)random.Next(256);
            Assert.Equal(to, WeightDelta.Apply(from, WeightDelta.Encode(from, to)));
        }
    }

    [Fact]
    public void ADamagedDeltaIsOneErrorAndNothingElse()
    {
        var random = new Random(12);
        var from = new byte[4000];
        random.NextBytes(from);
        var to = (byte[])from.Clone();
        for (var i = 0; i < to.Length; i += 4) to[i] ^= 1;
        var good = WeightDelta.Encode(from, to);
        var refused = 0;
        for (var round = 0; round < 20_000; round++)
        {
            var bad = random.Next(3) == 0 ? good[..random.Next(good.Length)] : (byte[])good.Clone();
            for (var i = random.Next(4); i > 0 && bad.Length > 0; i--) bad[random.Next(Math.Min(bad.Length, 64))] = (byte)random.Next(256);
            try
            {
                Assert.Equal(from.Length, WeightDelta.Apply(from, bad).Length);
            }
            catch (InvalidDataException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, 1, 20_000);
        Assert.Throws<InvalidDataException>(() => WeightDelta.Apply(from.AsSpan(1), good));
        Assert.Throws<InvalidDataException>(() => WeightDelta.Apply(from, [.. good, 0]));
    }
}
