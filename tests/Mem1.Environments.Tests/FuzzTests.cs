// Parsers of foreign text against generated inputs: 240,000 in all. Half of each set is a sound input with pieces cut, doubled, swapped or
// overwritten, because noise alone never gets past the first check. Only DataFormatException may escape, and it must name the file.
using System.Diagnostics;
using System.IO.Compression;
using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Data;
using Mem1.Environments.Qa;
using Mem1.Environments.Scoring;
using Mem1.Environments.Tasks;
using Mem1.Environments.Worlds;

namespace Mem1.Environments.Tests;

public sealed class FuzzTests
{
    // No input is longer than some kilobytes; a parser that holds more than this for one has no bound.
    private const long MaxAllocated = 64 << 20;

    private static readonly string[] s_seeds =
    [
        "{\"id\": \"a\", \"question\": \"wh\\u00f6 \\ud83d\\ude00?\", \"golden_answers\": [\"x; y\", \"é\"], \"weight\": 2}\n{\"id\": 2, \"question\": \"q\", \"golden_answers\": [\"z\"]}\n",
        "{\"id\": \"t\", \"objectives\": [{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": [\"a\"]}, {\"id\": \"2\", \"question\": \"r\", \"golden_answers\": [\"b\"]}]}\n",
        "{\"question\": \"when\", \"answer\": [\"1990\"]}\r\n\n{\"question\": \"where\", \"answer\": [\"here\", \"there\"]}",
        "{\"version\": \"1.1\", \"data\": [{\"title\": \"T\", \"paragraphs\": [{\"context\": \"C c.\", \"qas\": [{\"id\": \"1\", \"question\": \"q\", \"answers\": [{\"text\": \"C\", \"answer_start\": 0}]}, {\"id\": \"2\", \"question\": \"r\", \"is_impossible\": true, \"answers\": []}]}]}]}",
        "[{\"_id\": \"h\", \"question\": \"q\", \"answer\": \"yes\", \"context\": [[\"A\", [\"One.\", \" Two.\"]], [\"B\", []]]}, {\"_id\": \"i\", \"question\": \"r\", \"answer\": \"no\", \"context\": []}]",
        "{\"id\": \"a\", \"answer\": \"x; y\"}\n{\"id\": 2, \"answer\": null}\n",
    ];

    private static readonly string[] s_actions =
    [
        "<think> a; b </think><search> q </search>", "<think>x</think><answer>Paris; Jay-Z</answer>", "<think><search></think></search><answer>",
        "<think> Belize anthem ant_6 next Cyprus leader </think> <search> Cyprus leader </search>",
        "<think> x </think> <answer> Belize anthem ant_6 ; Cyprus leader lea_4 </answer>", "<information>[HINT]</information>İΣ",
    ];

    private static readonly byte[][] s_pieces =
    [
        .. new[]
        {
            "{", "}", "[", "]", "\"", "\\", ",", ":", "\n", "\\ud800", "\\u0000", "null", "1e999", "-0", "<", "</answer>", "<answer>", "<think>",
            "</think>", "<search>", "</search>", ";", ";;", "\"id\":", "\"objectives\":", "\"\\ud800\":", "é", "\u2028", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        }.Select(Encoding.UTF8.GetBytes), [0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xEF, 0xBB, 0xBF], [0x1F, 0x8B], [0],
    ];

    [Theory]
    [InlineData(0, 30_000)]
    [InlineData(1, 20_000)]
    [InlineData(2, 20_000)]
    [InlineData(3, 25_000)]
    [InlineData(4, 25_000)]
    [InlineData(5, 20_000)] // FlashRAG, in which tasks are written too
    [InlineData(6, 20_000)] // answers to score
    public void DataFilesEndInDataOrInOneError(int kind, int inputs)
    {
        var random = new Random(100 + kind);
        byte[] sound = Encoding.UTF8.GetBytes(s_seeds[kind == 5 ? 0 : kind == 6 ? 5 : kind]);
        TaskFile tasks = TaskFile.Load("t.jsonl", DataStream.Of("t.jsonl", Encoding.UTF8.GetBytes(s_seeds[0])));
        int read = 0, refused = 0;
        for (int i = 0; i < inputs; i++)
        {
            byte[] input = i == 0 ? sound : Mutate(random, random.Next(20) == 0 ? Encoding.UTF8.GetBytes(s_seeds[random.Next(s_seeds.Length)]) : sound);
            if (random.Next(8) == 0)
                input = Packed(random, input);
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                using DataStream data = DataStream.Of("file.x", input);
                if (kind == 6)
                    Assert.Equal(2, AnswerReport.Load(tasks, "file.x", data).All.Tasks);
                else if (kind < 2)
                    TaskFile.Load("file.x", data);
                else
                    Assert.All(DataSetFormats.Reader(Format(kind)).Read("file.x", data), Assert.NotNull);
                read++;
            }
            catch (DataFormatException e)
            {
                Assert.StartsWith("file.x", e.Message);
                Assert.EndsWith(".", e.Message);
                refused++;
            }
            catch (Exception e) when (e is not Xunit.Sdk.IAssertionException)
            {
                Assert.Fail($"input {i} ({Convert.ToBase64String(input)}): {e}");
            }
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, MaxAllocated);
        }
        // The generator reaches both outcomes, or it tests nothing.
        Assert.InRange(read, inputs / 200, inputs);
        Assert.InRange(refused, inputs / 10, inputs);

        static DataSetFormat Format(int kind) => kind switch
        {
            2 => DataSetFormat.NqOpen,
            3 => DataSetFormat.Squad,
            4 => DataSetFormat.HotpotQa,
            _ => DataSetFormat.FlashRag,
        };
    }

    [Fact]
    public async Task ModelOutputNeverThrowsAndScoresStayInRange()
    {
        var random = new Random(7);
        var objectives = new Objective[] { new("1", "q", ["Paris", "x; y"]), new("2", "r", ["Jay-Z"]) };
        var task = new EnvironmentTask("t", objectives);
        var worlds = new WorldsEnvironmentFactory(new WorldsOptions());
        var worldTasks = new WorldsTaskSource(new WorldsOptions());
        int acted = 0;
        for (int i = 0; i < 60_000; i++)
        {
            // What a tokenizer decodes may hold halves of surrogate pairs and U+FFFD.
            string text = Encoding.UTF8.GetString(Mutate(random, Encoding.UTF8.GetBytes(s_actions[random.Next(s_actions.Length)])));
            if (random.Next(4) == 0)
                text = text.Insert(random.Next(text.Length + 1), ((char)random.Next(0xD800, 0xE000)).ToString());
            AgentAction? action = AgentAction.Parse(text);
            acted += action is null ? 0 : 1;
            AnswerScore score = AnswerScorer.Score(action?.Content ?? text, objectives);
            Assert.All(score.ExactMatch.Concat(score.F1), s => Assert.InRange(s, 0, 1));
            foreach (LegacyRule rule in Enum.GetValues<LegacyRule>())
                Assert.InRange(LegacyScorer.ExactMatches(rule, text, objectives), 0, 2);
            LegacyScorer.ExtractTraining(text);
            Assert.InRange(LegacyScorer.WebSearchF1(text, ["Paris", "x; y"]), 0, 1);
            string neutral = AgentText.Neutralize(text);
            Assert.Equal(neutral, AgentText.Neutralize(neutral));
            Assert.DoesNotContain("</", neutral);
            if (i % 4 == 0)
            {
                EnvironmentTask world = worldTasks.Get(i, 2, 1);
                await using IEnvironment episode = worlds.Create(world, 1);
                TurnResult result = await episode.StepAsync(text, false, TestContext.Current.CancellationToken);
                Assert.Equal(result.End != EpisodeEnd.None, result.Score is not null);
            }
        }
        Assert.InRange(acted, 5_000, 55_000);
    }

    /// <summary>Time must grow with the length and not with its square: these would take minutes otherwise.</summary>
    [Fact]
    public void RepeatedTagsAndSeparatorsDoNotHang()
    {
        var watch = Stopwatch.StartNew();
        foreach (string piece in new[] { "<think>", "<answer>", "</answer>", "<search>", "<", ";", "a;", "<think></think>", "\u0301", "Σ" })
        {
            string text = "<think></think>" + string.Concat(Enumerable.Repeat(piece, 200_000 / piece.Length));
            AgentAction.Parse(text);
            AnswerScorer.Score(text, [new("1", "q", ["x; y"]), new("2", "r", ["z"])]);
            LegacyScorer.ExtractTraining(text);
            LegacyScorer.WebSearchF1(text, ["x"]);
            AgentText.Neutralize(text);
        }
        // A bound against hanging, far from any timing.
        Assert.InRange(watch.Elapsed, TimeSpan.Zero, TimeSpan.FromMinutes(2));
    }

    private static byte[] Mutate(Random random, byte[] sound)
    {
        if (random.Next(10) == 0)
        {
            byte[] noise = new byte[random.Next(200)];
            random.NextBytes(noise);
            return noise;
        }
        var bytes = new List<byte>(sound);
        for (int k = random.Next(1, 5); k > 0; k--)
        {
            int at = random.Next(bytes.Count + 1), length = Math.Min(random.Next(1, 30), bytes.Count - at);
            switch (random.Next(6))
            {
                case 0:
                    bytes.RemoveRange(at, length);
                    break;
                case 1:
                    bytes.InsertRange(at, bytes.GetRange(at, length));
                    break;
                case 2:
                    bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, length));
                    break;
                case 3 when at < bytes.Count:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 4:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                default:
                    bytes.InsertRange(at, s_pieces[random.Next(s_pieces.Length)]);
                    break;
            }
        }
        return [.. bytes];
    }

    private static byte[] Packed(Random random, byte[] input)
    {
        using var memory = new MemoryStream();
        using (var gzip = new GZipStream(memory, CompressionLevel.Fastest))
            gzip.Write(input);
        byte[] packed = memory.ToArray();
        if (packed.Length == 0)
            return input; // nothing packs to nothing
        if (random.Next(2) == 0)
            return packed;
        if (random.Next(2) == 0)
            return packed[..random.Next(packed.Length)];
        packed[random.Next(packed.Length)] ^= (byte)random.Next(1, 256);
        return packed;
    }
}
