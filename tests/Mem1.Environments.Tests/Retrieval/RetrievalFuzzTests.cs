using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests.Retrieval;

/// <summary>Foreign bytes end in a value or in the one exception of their reader, whatever they are.</summary>
public sealed class RetrievalFuzzTests
{
    private const int Inputs = 200_000;

    private static readonly string[] s_replies =
    [
        """{"result": [[{"document": {"id": "7", "contents": "\"T\"\nx é"}, "score": 2.5}, {"document": "y", "score": 1}]]}""",
        """{"result": [[{"id": 7, "title": "T", "text": "x"}, "y", {"contents": "\u00e9\ud83d\ude00"}]]}""",
    ];

    private static readonly string[] s_lines =
    [
        """{"id": "0", "contents": "\"Title\"\ntext é \u00e9"}""",
        """{"id": 12, "contents": "a", "more": [1, {"x": null}]}""" + "\n\n" + """{"id": "b", "contents": "c"}""" + "\r\n",
    ];

    private static readonly string[] s_pieces =
    [
        "{", "}", "[", "]", "\"", ",", ":", "null", "true", "-1e999", "1e5", "\"result\"", "\"document\"", "\"score\"", "\"id\"", "\"contents\"", "\"text\"",
        "\"title\"", "\\ud800", "\\u0000", "\n", "\0", "[[", "]]", "{\"result\":[[", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", " ",
    ];

    [Fact]
    public void RetrieverReplies()
    {
        var random = new Random(101);
        int read = 0;
        for (int i = 0; i < Inputs; i++)
        {
            byte[] input = Input(random, s_replies);
            try
            {
                int k = random.Next(1, 4);
                IReadOnlyList<SearchHit> hits = RetrieverReply.Parse(input, k);
                Assert.InRange(hits.Count, 0, k);
                Assert.All(hits, h => Assert.True(double.IsFinite(h.Score) && h.Passage.Id is not null && h.Passage.Contents is not null));
                read++;
            }
            catch (RetrieverException e)
            {
                Assert.EndsWith(".", e.Message);
            }
        }
        // Both ends happen, or the inputs are no test.
        Assert.InRange(read, Inputs / 100, Inputs * 9 / 10);
    }

    [Fact]
    public void CorpusLines()
    {
        var random = new Random(102);
        int read = 0;
        var analyzer = new EnglishAnalyzer();
        for (int i = 0; i < Inputs; i++)
        {
            try
            {
                using var reader = new JsonLineReader("c.jsonl", "every line needs id and contents", DataStream.Of("c.jsonl", Input(random, s_lines)));
                while (reader.Read() is { } line)
                {
                    using (line)
                    {
                        Assert.NotEqual("", reader.Id(line.RootElement, "id"));
                        analyzer.Reset(reader.Text(line.RootElement, "contents"));
                        while (analyzer.Next())
                            Assert.True(analyzer.Term.Length > 0);
                    }
                }
                read++;
            }
            catch (DataFormatException e)
            {
                Assert.StartsWith("c.jsonl", e.Message);
            }
        }
        Assert.InRange(read, Inputs / 100, Inputs * 9 / 10);
    }

    /// <summary>A sound input with a few bytes, pieces or its end changed; or pieces alone.</summary>
    private static byte[] Input(Random random, string[] sound)
    {
        var text = new StringBuilder(random.Next(8) == 0 ? "" : sound[random.Next(sound.Length)]);
        if (text.Length == 0)
        {
            for (int i = random.Next(20); i > 0; i--)
                text.Append(s_pieces[random.Next(s_pieces.Length)]);
        }
        for (int i = random.Next(4); i > 0 && text.Length > 0; i--)
        {
            int at = random.Next(text.Length);
            if (random.Next(2) == 0)
                text.Insert(at, s_pieces[random.Next(s_pieces.Length)]);
            else
                text.Remove(at, random.Next(1, Math.Min(8, text.Length - at) + 1));
        }
        byte[] bytes = Encoding.UTF8.GetBytes(text.ToString());
        for (int i = random.Next(3); i > 0 && bytes.Length > 0; i--)
            bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
        return random.Next(10) == 0 ? bytes[..random.Next(bytes.Length + 1)] : bytes;
    }
}
