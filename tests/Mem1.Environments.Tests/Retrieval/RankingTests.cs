using System.Text;
using System.Text.Json;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests.Retrieval;

public sealed class RankingTests
{
    // Words whose frequencies fall like 1/rank; none is a stop word or changed by stemming.
    private static readonly string[] s_words = [.. Enumerable.Range(0, 400).Select(i => $"w{i}x")];

    private static string Line(string id, string contents) => JsonSerializer.Serialize(new { id, contents }) + "\n";

    private static string Text(Random random, int words) => string.Join(
        ' ', Enumerable.Range(0, words).Select(_ => s_words[(int)Math.Min(s_words.Length - 1, Math.Pow(s_words.Length, random.NextDouble()) - 1)]));

    /// <summary>Skipping changes nothing: passages, scores and order are those of scoring everything.</summary>
    [Fact]
    public void EqualsScoringEveryPassage()
    {
        var random = new Random(11);
        using var folder = new TempFolder();
        foreach (int count in (int[])[1, 255, 256, 257, 3000])
        {
            List<string> passages = [.. Enumerable.Range(0, count).Select(_ => Text(random, random.Next(20) == 0 ? random.Next(1, 900) : random.Next(1, 60)))];
            string corpus = folder.Write($"c{count}.jsonl", string.Concat(passages.Select((p, i) => Line($"{i}", p))));
            using CorpusIndex index = CorpusIndex.OpenOrBuild(corpus);
            var reference = new ReferenceBm25(passages);
            for (int i = 0; i < 120; i++)
            {
                string query = Text(random, random.Next(1, 12)) + (random.Next(4) == 0 ? " w399x w398x unknown" : "");
                int k = (int[])[1, 3, 10, count + 5] is var sizes ? sizes[random.Next(4)] : 0;
                IReadOnlyList<SearchHit> hits = index.Search(query, k);
                List<(int Passage, double Score)> expected = reference.Search(query, int.MaxValue);
                Assert.Equal(Math.Min(k, expected.Count), hits.Count);
                Dictionary<int, double> scores = expected.ToDictionary(e => e.Passage, e => e.Score);
                for (int j = 0; j < hits.Count; j++)
                {
                    // Passages whose scores differ by less than rounding may change places.
                    Assert.Equal(expected[j].Score, hits[j].Score, 2e-4);
                    Assert.Equal(scores[int.Parse(hits[j].Passage.Id)], hits[j].Score, 2e-4);
                }
                Assert.Equal(hits.Count, hits.Select(h => h.Passage.Id).Distinct().Count());
                Assert.True(hits.Zip(hits.Skip(1)).All(p =>
                    p.First.Score > p.Second.Score
                    || (p.First.Score == p.Second.Score && int.Parse(p.First.Passage.Id) < int.Parse(p.Second.Passage.Id))));
            }
        }
    }

    [Fact]
    public void RunsOnDiskGiveTheSamePostingsAsMemory()
    {
        var random = new Random(3);
        using var folder = new TempFolder();
        List<string> passages = [.. Enumerable.Range(0, 2000).Select(i => Text(random, 30) + $" only{i} the é東 {(i % 700 == 0 ? "\U0001F600 ａｂ" : "")}")];
        var outputs = new List<List<string>>();
        foreach (long limit in (long[])[long.MaxValue, 20_000, 1])
        {
            string aside = folder.File($"runs{limit}");
            var terms = new List<string>();
            using (var builder = new PostingBuilder(aside, limit))
            {
                foreach (string passage in limit == 1 ? passages.Take(50) : passages)
                    builder.Add(passage);
                Assert.Equal(limit != long.MaxValue, File.Exists(aside));
                builder.Finish(
                    (term, count, directory, postings) => terms.Add(
                        $"{term} {count} {Convert.ToHexString(directory)} {Convert.ToHexString(postings)}"),
                    TestContext.Current.CancellationToken);
            }
            Assert.False(File.Exists(aside));
            Assert.Equal(terms.Count, terms.Select(t => t.Split(' ')[0]).Distinct().Count());
            outputs.Add(terms);
        }
        Assert.Equal(outputs[0], outputs[1]);
        Assert.NotEmpty(outputs[2]);
    }

    [Fact]
    public void LengthsAreLucenes()
    {
        foreach (int length in Enumerable.Range(0, 5000).Concat([99_999, 1 << 20, int.MaxValue]))
            Assert.Equal(ReferenceBm25.Rounded(length), PostingFormat.DecodeLength(PostingFormat.EncodeLength(length)));
    }

    /// <summary>A query may repeat words as often as it likes: the order of results stays that of the scores.</summary>
    [Fact]
    public void HugeQueriesDoNotOverflow()
    {
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write(
            "c.jsonl", string.Concat(Enumerable.Range(0, 300).Select(i => Line($"{i}", Text(new Random(i), 50))))));
        string query = string.Join(' ', Enumerable.Repeat(string.Join(' ', s_words), 200));
        IReadOnlyList<SearchHit> hits = index.Search(query, 300);
        Assert.Equal(300, hits.Count);
        Assert.All(hits, h => Assert.True(h.Score > 0));
    }

    [Fact]
    public void ExpressionsFilter()
    {
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write(
            "c.jsonl", Line("a", "T\nthe red house") + Line("b", "T\nhouse of red") + Line("c", "T\nredhead")));
        string Ids(string expression) => string.Concat(index.Filter(expression, 9).Select(h => h.Passage.Id));
        Assert.Equal("a", Ids("\"red house\""));
        Assert.Equal("ab", Ids("houses AND red"));
        Assert.Equal("abc", Ids("red*"));
        Assert.Contains("not valid FTS5", Assert.Throws<DataFormatException>(() => Ids("\"")).Message);
    }

    /// <summary>
    /// Share of XQuAD's questions whose paragraph is among the best three. The file (English part of XQuAD, CC BY-SA 4.0) is not part of
    /// this repository.
    /// </summary>
    [Fact]
    public void RecallOnXquadIsAtLeastThatOfTheReference()
    {
        string? file = Environment.GetEnvironmentVariable("MEM1_XQUAD");
        if (string.IsNullOrEmpty(file))
            Assert.Skip("The environment variable MEM1_XQUAD does not name xquad.en.json.");
        List<string> passages = [];
        List<(string Question, int Gold)> questions = [];
        using (JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file)))
        {
            foreach (JsonElement article in json.RootElement.GetProperty("data").EnumerateArray())
            {
                foreach (JsonElement paragraph in article.GetProperty("paragraphs").EnumerateArray())
                {
                    foreach (JsonElement question in paragraph.GetProperty("qas").EnumerateArray())
                        questions.Add((question.GetProperty("question").GetString()!, passages.Count));
                    passages.Add(paragraph.GetProperty("context").GetString()!);
                }
            }
        }
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write("c.jsonl", string.Concat(passages.Select((p, i) => Line($"{i}", p)))));
        var reference = new ReferenceBm25(passages);
        int ours = questions.Count(q => index.Search(q.Question, 3).Any(h => h.Passage.Id == $"{q.Gold}"));
        int theirs = questions.Count(q => reference.Search(q.Question, 3).Any(h => h.Passage == q.Gold));
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"recall@3 of {questions.Count} questions over {passages.Count} paragraphs: {(double)ours / questions.Count:P2} ({ours}), "
            + $"reference {(double)theirs / questions.Count:P2} ({theirs})");
        Assert.True(ours >= theirs, $"{ours} of {questions.Count} questions found their paragraph; the reference found {theirs}.");
    }
}
