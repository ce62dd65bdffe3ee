// Golden: logits of a float64 reference Qwen2 on random weights (data/qwen2-tiny: untied, float32; data/qwen2-tiny-tied: tied, bfloat16).
using System.Text.Json;
using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;

namespace Mem1.Model.Tests;

public sealed class GoldenLogitsTests
{
    public static TheoryData<string, string> Everything()
    {
        var data = new TheoryData<string, string>();
        foreach (string model in new[] { "qwen2-tiny", "qwen2-tiny-tied" })
        {
            foreach (string level in Enum.GetNames<SimdLevel>())
                data.Add(model, level);
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Everything))]
    public void LogitsEqualTheReference(string model, string levelName)
    {
        SimdLevel level = Enum.Parse<SimdLevel>(levelName);
        if (!Simd.IsSupported(level))
            Assert.Skip($"this processor has no {level}");
        Checkpoint checkpoint = Checkpoint.Load(Support.Data(model));
        using var decoder = new CpuDecoder(checkpoint.Config, checkpoint.Weights, level);
        using JsonDocument golden = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Support.Data(model), "expected.json")));
        int checkedCases = 0;
        foreach (JsonElement test in golden.RootElement.GetProperty("cases").EnumerateArray())
        {
            int[] tokens = [.. test.GetProperty("tokens").EnumerateArray().Select(t => t.GetInt32())];
            int vocabulary = checkpoint.Config.VocabularySize;
            float[] actual = test.GetProperty("turn_of").ValueKind == JsonValueKind.Null
                ? decoder.Logits(tokens)
                : ByTurns(decoder, tokens, [.. test.GetProperty("turn_of").EnumerateArray().Select(t => t.GetInt32())], vocabulary);
            var rows = test.GetProperty("logits").EnumerateArray();
            double[] expected = [.. rows.SelectMany(r => r.EnumerateArray()).Select(x => x.GetDouble())];
            AssertClose(expected, actual, vocabulary, test.GetProperty("name").GetString()!);
            checkedCases++;
        }
        Assert.Equal(4, checkedCases);
    }

    /// <summary>The tree-shaped mask, turn by turn: each turn after the prompt is a causal sequence of its own.</summary>
    private static float[] ByTurns(CpuDecoder decoder, int[] tokens, int[] turnOf, int vocabulary)
    {
        var logits = new float[tokens.Length * vocabulary];
        int prompt = turnOf.Count(t => t == -1);
        foreach (int turn in turnOf.Where(t => t >= 0).Distinct())
        {
            int[] own = [.. Enumerable.Range(0, tokens.Length).Where(i => turnOf[i] == turn)];
            float[] part = decoder.Logits([.. tokens[..prompt], .. own.Select(i => tokens[i])]);
            part.AsSpan(0, prompt * vocabulary).CopyTo(logits);
            for (int i = 0; i < own.Length; i++)
                part.AsSpan((prompt + i) * vocabulary, vocabulary).CopyTo(logits.AsSpan(own[i] * vocabulary));
        }
        return logits;
    }

    private static void AssertClose(double[] expected, float[] actual, int row, string name)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            // Relative to the logit, or to the root mean square of its row: single logits pass through zero.
            double size = Math.Sqrt(expected.Skip(i / row * row).Take(row).Average(x => x * x));
            Assert.True(Math.Abs(expected[i] - actual[i]) <= 1e-5 * Math.Max(Math.Abs(expected[i]), size),
                $"{name}: logit {i} is {actual[i]}, expected {expected[i]} (row rms {size})");
        }
    }
}
