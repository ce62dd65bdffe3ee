using System.Buffers.Binary;
using System.Text;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Model.Tests;

public sealed class SafetensorsTests
{
    [Fact]
    public void WeightsComeBackBitForBit()
    {
        ModelWeights weights = Support.RandomWeights(Support.FullConfig(), 2);
        byte[] bytes = Safetensors.ToBytes(weights);
        AssertSame(weights, Safetensors.FromBytes(bytes));
        Assert.Equal(bytes, Safetensors.ToBytes(Safetensors.FromBytes(bytes)));
        using var folder = new Support.TempFolder();
        Safetensors.Write(folder.File("w.safetensors"), weights);
        Assert.Equal(bytes, File.ReadAllBytes(folder.File("w.safetensors")));
        AssertSame(weights, Safetensors.Read(folder.File("w.safetensors")));
        Assert.False(File.Exists(folder.File("w.safetensors.part")));
    }

    [Fact]
    public void TheReferencesFilesReadAsWritten()
    {
        // Read, written by us, read again: values survive; bfloat16 written again is the same bits.
        ModelWeights tied = Safetensors.Read(Path.Combine(Support.Data("qwen2-tiny-tied"), "model.safetensors"));
        AssertSame(tied, Safetensors.FromBytes(Safetensors.ToBytes(tied, StoredDtype.Bfloat16)));
        Assert.Equal([97L, 32L], tied.Tensors["model.embed_tokens.weight"].Shape);
    }

    [Fact]
    public void HalfPrecisionWidensExactlyAndRoundsToNearestEven()
    {
        var f16 = new byte[6];
        BinaryPrimitives.WriteHalfLittleEndian(f16, (Half)1.5f);
        BinaryPrimitives.WriteHalfLittleEndian(f16.AsSpan(2), Half.Epsilon);
        BinaryPrimitives.WriteHalfLittleEndian(f16.AsSpan(4), Half.NegativeInfinity);
        byte[] file = Blob("""{"x":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}""", f16);
        Assert.Equal([1.5f, (float)Half.Epsilon, float.NegativeInfinity], Safetensors.FromBytes(file).Tensors["x"].Data);

        // 1 + 2^-8 lies half-way between two bfloat16 values and goes to the even one; 1 + 3 * 2^-8 goes up.
        var weights = new ModelWeights(new Dictionary<string, WeightTensor>
        {
            ["x"] = new([5], [1 + 1f / 256, 1 + 3f / 256, -0f, float.NaN, float.PositiveInfinity]),
        });
        float[] stored = Safetensors.FromBytes(Safetensors.ToBytes(weights, StoredDtype.Bfloat16)).Tensors["x"].Data;
        Assert.Equal([1f, 1 + 4f / 256, -0f, float.NaN, float.PositiveInfinity], stored);
    }

    [Theory]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}""", 4,
        "twice")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}""", 6,
        "overlap")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "belong to no tensor")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 5, "after its last tensor")]
    [InlineData("""{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, "needs more")]
    [InlineData("""{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}}""", 4, "takes 0 bytes")]
    [InlineData("""{"x":{"dtype":"F32","shape":[9000000000,9000000000,0],"data_offsets":[0,4]}}""", 4, "needs more")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}""", 4, "do not lie within")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", 4, "do not lie within")]
    [InlineData("""{"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}""", 8, "dtype I64")]
    [InlineData("""{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", 4, "whole numbers")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", 4, "whole numbers")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}""", 4, "stands twice")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"more":1,"data_offsets":[0,4]}}""", 4, "unknown")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1]}}""", 4, "are needed")]
    [InlineData("""{"x":3}""", 0, "not an object")]
    [InlineData("""[]""", 0, "not a JSON object")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} {}""", 4, "not valid JSON")]
    [InlineData("""{"x":""", 0, "not valid JSON")]
    public void ADamagedHeaderGivesOneSentence(string header, int dataBytes, string expected)
    {
        byte[] blob = Blob(header, new byte[dataBytes]);
        string message = Assert.Throws<CheckpointException>(() => Safetensors.FromBytes(blob, "m.safetensors")).Message;
        Assert.Contains(expected, message);
        Assert.Contains("m.safetensors", message);
        Assert.EndsWith(".", message);
    }

    [Fact]
    public void LyingLengthsAreRefusedBeforeAnythingIsAllocated()
    {
        byte[] file = Blob("{}", []);
        foreach (ulong length in new[] { 3UL, 1UL << 20, 1UL << 40, ulong.MaxValue, (ulong)long.MaxValue })
        {
            BinaryPrimitives.WriteUInt64LittleEndian(file, length);
            long before = GC.GetAllocatedBytesForCurrentThread();
            Assert.Throws<CheckpointException>(() => Safetensors.FromBytes(file));
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
        }
        Assert.Throws<CheckpointException>(() => Safetensors.FromBytes([1, 2, 3]));
        Assert.Throws<CheckpointException>(() => Safetensors.Read("/nowhere/x.safetensors"));
    }

    [Fact]
    public void TenThousandMutationsNeverCrash()
    {
        byte[] good = Safetensors.ToBytes(new ModelWeights(new Dictionary<string, WeightTensor>
        {
            ["a.weight"] = new([2, 3], [1, 2, 3, 4, 5, 6]),
            ["b"] = new([1], [7]),
            ["empty"] = new([0, 4], []),
        }));
        int header = (int)BinaryPrimitives.ReadUInt64LittleEndian(good);
        int refused = 0;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (ulong seed = 0; seed < 10_000; seed++)
        {
            byte[] bytes = [.. good];
            int edits = 1 + (int)(RandomStream.Bits(seed, 0) % 4);
            for (int e = 0; e < edits; e++)
            {
                ulong r = RandomStream.Bits(seed, (ulong)(e + 1));
                // Mostly in the header, with the characters that JSON and numbers are made of.
                int at = (int)(r % (ulong)(r % 5 == 0 ? bytes.Length : Math.Min(bytes.Length, header + 8)));
                switch ((r >> 20) % 4)
                {
                    case 0:
                        bytes[at] = (byte)(r >> 32);
                        break;
                    case 1:
                        bytes[at] = (byte)"0123456789{}[]\",:-.eE\\u"[(int)((r >> 32) % 23)];
                        break;
                    case 2:
                        bytes = [.. bytes[..at], .. bytes[Math.Min(at + (int)((r >> 32) % 9), bytes.Length)..]];
                        break;
                    default:
                        bytes = [.. bytes[..at], .. bytes[(at / 2)..at], .. bytes[at..]];
                        break;
                }
                if (bytes.Length == 0)
                    break;
            }
            try
            {
                foreach (WeightTensor tensor in Safetensors.FromBytes(bytes).Tensors.Values)
                    Assert.Equal(tensor.Shape.Aggregate(1L, (a, b) => a * b), tensor.Data.Length);
            }
            catch (CheckpointException e)
            {
                Assert.DoesNotContain('\n', e.Message);
                refused++;
            }
        }
        Assert.InRange(refused, 5_000, 9_999);
        // Exceptions cost a few KB each; nothing near what a lying length could have asked for.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1L << 30);
    }

    [Fact]
    public void AFailedWriteLeavesTheOldFile()
    {
        using var folder = new Support.TempFolder();
        string path = folder.File("w.bin");
        AtomicFile.WriteText(path, "old");
        Assert.Throws<IOException>(() => AtomicFile.Write(path, stream =>
        {
            stream.Write("new"u8);
            throw new IOException("No space left on device");
        }));
        Assert.Equal("old", File.ReadAllText(path));
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    private static byte[] Blob(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        var prefix = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)json.Length);
        return [.. prefix, .. json, .. data];
    }

    [Fact]
    public void TensorsAreReadOnceOneAfterTheOtherAndMustHaveTheirShape()
    {
        var weights = new ModelWeights(new Dictionary<string, WeightTensor> { ["b"] = new([2, 2], [1, 2, 3, 4]), ["a"] = new([1], [5]) });
        var counted = new Counted(weights);
        Assert.Equal(Safetensors.ToBytes(weights), Safetensors.ToBytes(counted));
        Assert.Equal(["a", "b"], counted.Read);
        string message = Assert.Throws<ArgumentException>(
            () => Safetensors.ToBytes(new ModelWeights(new Dictionary<string, WeightTensor> { ["x"] = new([2, 3], [1, 2, 3, 4, 5]) }))).Message;
        Assert.Contains("tensor x has shape [2, 3] and 5 values", message);
    }

    private sealed class Counted(IWeightSource weights) : IWeightSource
    {
        public List<string> Read { get; } = [];

        public IReadOnlyDictionary<string, IReadOnlyList<long>> Shapes => weights.Shapes;

        float[] IWeightSource.Read(string name)
        {
            Read.Add(name);
            return weights.Read(name);
        }
    }

    [Fact]
    public void BFloat16IsTheNearestAndTiesGoToEven()
    {
        // Every upper half, with lower halves below, at and above the tie, at lengths that leave something to the scalar code.
        uint[] lower = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        var values = new float[(65536 * lower.Length) + 7];
        for (int i = 0; i < values.Length; i++)
            values[i] = BitConverter.UInt32BitsToSingle(((uint)(i / lower.Length) << 16) | lower[i % lower.Length]);
        var narrow = new ushort[values.Length];
        BFloat16.Narrow(values, narrow);
        var wide = new float[values.Length];
        BFloat16.Widen(narrow, wide);
        for (int i = 0; i < values.Length; i++)
        {
            Assert.Equal(BFloat16.Narrow(values[i]), narrow[i]);
            Assert.Equal((uint)narrow[i] << 16, BitConverter.SingleToUInt32Bits(wide[i]));
            uint bits = BitConverter.SingleToUInt32Bits(values[i]), rest = bits & 0xFFFF;
            if (float.IsNaN(values[i]))
                Assert.True(float.IsNaN(wide[i]));
            else
                Assert.Equal((bits >> 16) + (rest > 0x8000 || (rest == 0x8000 && ((bits >> 16) & 1) == 1) ? 1u : 0u), narrow[i]);
        }
    }

    private static void AssertSame(ModelWeights a, ModelWeights b)
    {
        Assert.Equal(a.Tensors.Keys.Order(StringComparer.Ordinal), b.Tensors.Keys.Order(StringComparer.Ordinal));
        foreach ((string name, WeightTensor tensor) in a.Tensors)
        {
            Assert.Equal(tensor.Shape, b.Tensors[name].Shape);
            Assert.Equal(tensor.Data.Select(BitConverter.SingleToInt32Bits), b.Tensors[name].Data.Select(BitConverter.SingleToInt32Bits));
        }
    }
}
