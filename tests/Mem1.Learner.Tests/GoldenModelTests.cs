// qwen2-tiny: logits of a float64 reference decoder, checked against libtorch's pass in float32, causal and by segments.
using System.Text.Json;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class GoldenModelTests
{
    [Theory]
    [InlineData("qwen2-tiny")]
    [InlineData("qwen2-tiny-tied")]
    public void Logits_are_within_1e5_relative_of_the_reference(string name)
    {
        var folder = Path.Combine(AppContext.BaseDirectory, "data", name);
        using var golden = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "expected.json")));
        var checkpoint = Checkpoint.Load(folder);
        using var model = new TorchDecoder(checkpoint.Config, checkpoint.Weights, CPU);
        foreach (var c in golden.RootElement.GetProperty("cases").EnumerateArray())
        {
            var tokens = Ints(c.GetProperty("tokens"));
            var want = c.GetProperty("logits").EnumerateArray().Select(r => r.EnumerateArray().Select(v => v.GetDouble()).ToArray()).ToArray();
            var scale = want.Max(r => r.Max(Math.Abs)); // relative to the largest logit: single ones pass through zero
            var turnOf = c.GetProperty("turn_of").ValueKind == JsonValueKind.Null ? null : Ints(c.GetProperty("turn_of"));
            using var scope = NewDisposeScope();
            using var guard = no_grad();
            if (turnOf is null)
            {
                Compare(model.Logits(model.Forward(new TurnBatch([[]], [tokens], [0]))), [.. Enumerable.Range(0, tokens.Length)], 0, want, scale);
                continue;
            }

            // Segments: the prompt but its last token is the trunk; every turn is a row that begins with the prompt's last token.
            var prompt = turnOf.Count(t => t == -1);
            var turns = turnOf.Where(t => t >= 0).Distinct().Order().ToArray();
            var rows = turns.Select(j => (int[])[tokens[prompt - 1], .. tokens.Where((_, i) => turnOf[i] == j)]).ToArray();
            var batch = new TurnBatch([tokens[..(prompt - 1)]], rows, new int[rows.Length]);
            var logits = model.Logits(model.Forward(batch));
            for (var r = 0; r < rows.Length; r++)
            {
                int[] places = [prompt - 1, .. Enumerable.Range(0, tokens.Length).Where(i => turnOf[i] == turns[r])];
                Compare(logits, places, (int)batch.FlatIndex(r, 0), want, scale);
            }
        }
    }

    private static void Compare(Tensor logits, int[] places, int from, double[][] want, double scale)
    {
        var got = logits.data<float>().ToArray().Chunk((int)logits.size(1)).ToArray();
        for (var i = 0; i < places.Length; i++)
            for (var v = 0; v < got[0].Length; v++)
                Assert.True(Math.Abs(got[from + i][v] - want[places[i]][v]) <= 1e-5 * scale, $"position {places[i]}, token {v}: {got[from + i][v]} for {want[places[i]][v]}");
    }

    private static int[] Ints(JsonElement e) => [.. e.EnumerateArray().Select(v => v.GetInt32())];
}
