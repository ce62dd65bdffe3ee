// The readers of published question files: what they yield, how they fail, and that they stream.
using System.IO.Compression;
using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Data;
using Mem1.Environments.Tasks;

namespace Mem1.Environments.Tests;

public sealed class TaskDataSetTests
{
    private const string Hotpot = """
        [{"_id": "h1", "question": "Who  was first?", "answer": "Ann ", "type": "bridge", "level": "easy",
          "supporting_facts": [["Ann", 0]],
          "context": [["Ann", ["Ann ran.", " She won.", ""]], ["Nobody", []], ["Bob \"B\"", ["Bob sat."]]]},
         {"_id": "h2", "question": "Yes?", "answer": "yes", "context": [["Ann", ["Ann ran.", " She won."]]]}]
        """;

    [Fact]
    public void HotpotQaBecomesCorpusAndTasks()
    {
        using var folder = new TempFolder();
        DataSetConversion done = DataSetConverter.Convert(
            DataSetFormat.HotpotQa, folder.Write("h.json", Hotpot), folder.File("c.jsonl"), folder.File("t.jsonl"));
        Assert.Equal(new DataSetConversion(2, 2, 0), done);
        Assert.Equal(
        [
            """{"id":"0","contents":"\"Ann\"\nAnn ran. She won."}""",
            """{"id":"1","contents":"\"Bob \"B\"\"\nBob sat."}""",
        ], File.ReadAllLines(folder.File("c.jsonl")));
        Assert.Equal(
        [
            """{"id":"h1","question":"Who was first?","golden_answers":["Ann"]}""",
            """{"id":"h2","question":"Yes?","golden_answers":["yes"]}""",
        ], File.ReadAllLines(folder.File("t.jsonl")));
    }

    [Fact]
    public void NqOpenAndFlashRagBecomeTasks()
    {
        using var folder = new TempFolder();
        string nq = folder.Write("nq.jsonl", """
            {"question": "when was it", "answer": ["1990", "in 1990"]}

            {"question": "where was it", "answer": ["here"]}
            """);
        Assert.Equal(new DataSetConversion(0, 2, 0), DataSetConverter.Convert(DataSetFormat.NqOpen, nq, null, folder.File("t.jsonl")));
        Assert.Equal(
        [
            """{"id":"nq-1","question":"when was it","golden_answers":["1990","in 1990"]}""",
            """{"id":"nq-3","question":"where was it","golden_answers":["here"]}""",
        ], File.ReadAllLines(folder.File("t.jsonl")));

        string flash = folder.Write("f.jsonl", """{"id": 7, "question": " q ", "golden_answers": ["a"], "metadata": {"x": 1}, "weight": 2.5}""");
        Assert.Equal(new DataSetConversion(0, 1, 0), DataSetConverter.Convert(DataSetFormat.FlashRag, flash, null, folder.File("u.jsonl")));
        Assert.Equal("""{"id":"7","question":"q","golden_answers":["a"],"weight":2.5}""", File.ReadAllText(folder.File("u.jsonl")).Trim());
        Assert.Throws<ArgumentException>(
            () => DataSetConverter.Convert(DataSetFormat.FlashRag, flash, folder.File("c"), folder.File("t")));
    }

    [Theory]
    [InlineData("\"_id\": \"h2\"", "\"_id\": \"h1\"", "line 4, field [1]._id: \"h1\" is the id of an earlier question too")]
    [InlineData("\"answer\": \"yes\"", "\"answer\": 1", "line 4, field [1].answer: a string is expected but a number is there")]
    [InlineData("[\"Nobody\", []]", "[\"Nobody\"]", "line 1, field [0].context[1]: a title and a list of sentences are expected")]
    [InlineData("\" She won.\", \"\"]", "\" She won.\", 3]", "line 1, field [0].context[0][1][2]: a string is expected but a number is there")]
    [InlineData("\"Yes?\"", "\"Yes?", "line 4: not valid JSON at byte ")]
    [InlineData("won.\"]]]}]", "won.\"]]]}] x", "line 4: not valid JSON at byte ")]
    [InlineData("won.\"]]]}]", "won.\"]]]}", "line 4: not valid JSON at byte ")]
    public void FaultsOfHotpotQaNameLineAndPath(string old, string replacement, string expected)
    {
        using var folder = new TempFolder();
        Assert.Contains(old, Hotpot);
        string file = folder.Write("h.json", Hotpot.Replace(old, replacement));
        var e = Assert.Throws<DataFormatException>(
            () => DataSetConverter.Convert(DataSetFormat.HotpotQa, file, folder.File("c"), folder.File("t")));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Theory]
    [InlineData(DataSetFormat.Squad, "", "the file is empty; SQuAD v1.1 JSON is expected")]
    [InlineData(DataSetFormat.Squad, "[]", "line 1: an object with the field \"data\" is expected here")]
    [InlineData(DataSetFormat.Squad, "{\"a\": [1, {\"data\": []}]}", "field data: it is missing; SQuAD v1.1 JSON is expected")]
    [InlineData(DataSetFormat.Squad, "{\"\\ud800\": 1, \"data\": []}", "the data set holds no answerable question")]
    [InlineData(DataSetFormat.Squad, "{\"data\": \n 3}", "line 2, field data: a list is expected here")]
    [InlineData(DataSetFormat.HotpotQa, "\n\n{}", "line 3: a list is expected here, as HotpotQA JSON has it")]
    [InlineData(DataSetFormat.HotpotQa, "[]", "the data set holds no answerable question")]
    [InlineData(DataSetFormat.HotpotQa, "[{\"\\ud800\": 1}]", "line 1, field [0]: a name of a field holds half of a surrogate pair")]
    [InlineData(DataSetFormat.NqOpen, "", "the data set holds no answerable question")]
    [InlineData(DataSetFormat.NqOpen, "{\"question\": \"q\", \"answer\": \"a\"}", "line 1, field answer: a list of strings is expected")]
    [InlineData(DataSetFormat.FlashRag, "{\"id\": 1, \"question\": \"q\", \"golden_answers\": [\"a\"], \"weight\": 0}", "line 1, field weight")]
    [InlineData(DataSetFormat.FlashRag, "{\"id\": 1, \"\\ud800long_name_of\": 1}", "line 1: a name of a field holds half of a surrogate")]
    public void FaultsOfOtherFilesNameTheirPlace(DataSetFormat format, string text, string expected)
    {
        using var folder = new TempFolder();
        string file = folder.Write("x", text);
        var e = Assert.Throws<DataFormatException>(() => DataSetConverter.Convert(format, file, null, folder.File("t")));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
        Assert.EndsWith(".", e.Message);
    }

    /// <summary>A list's elements must come out the same wherever the buffer happens to end.</summary>
    [Fact]
    public void LargeListsAreReadElementByElementInBoundedMemory()
    {
        var text = new StringBuilder("\uFEFF{\"version\": {\"data\": [\"no\"]}, \"data\": [");
        var random = new Random(3);
        int[] lengths = [.. Enumerable.Range(0, 200).Select(i => i == 77 ? 300_000 : random.Next(3000))];
        for (int i = 0; i < lengths.Length; i++)
            text.Append(i == 0 ? "" : ",\n").Append($"{{\"n\": {i}, \"t\": \"{new string('x', lengths[i])}\"}}");
        text.Append("], \"end\": 1}\n");
        byte[] bytes = Encoding.UTF8.GetBytes(text.ToString());
        using var reader = new JsonArrayReader("x", "data", "a list", DataStream.Of("x", bytes));
        for (int i = 0; i < lengths.Length; i++)
        {
            using var element = reader.Read()!;
            Assert.Equal((i, lengths[i], i + 1L, (long)i), (
                element.RootElement.GetProperty("n").GetInt32(), element.RootElement.GetProperty("t").GetString()!.Length,
                reader.Line, reader.Index));
        }
        Assert.Null(reader.Read());
    }

    [Fact]
    public void GzipIsReadWhateverItsNameAndCutOffGzipIsNeverAShortFile()
    {
        using var folder = new TempFolder();
        string lines = string.Join('\n', Enumerable.Range(0, 3000).Select(
            i => $$"""{"id": "{{i}}", "question": "what is {{i * 7919 % 1000}}", "golden_answers": ["{{i * 31 % 977}}"]}"""));
        byte[] packed;
        using (var memory = new MemoryStream())
        {
            using (var gzip = new GZipStream(memory, CompressionLevel.Fastest))
                gzip.Write(Encoding.UTF8.GetBytes(lines));
            packed = memory.ToArray();
        }
        string file = folder.File("t.jsonl");
        File.WriteAllBytes(file, packed);
        Assert.Equal(3000, TaskFile.Load(file).Objectives.Count);
        int[] cuts = [2, 10, 19, 20, 25, packed.Length / 3, packed.Length / 2, packed.Length - 9, packed.Length - 8, packed.Length - 4, packed.Length - 1];
        foreach (int cut in cuts)
        {
            File.WriteAllBytes(file, packed[..cut]);
            var e = Assert.Throws<DataFormatException>(() => TaskFile.Load(file));
            Assert.StartsWith(file, e.Message);
        }
        packed[packed.Length / 2] ^= 0x55;
        File.WriteAllBytes(file, packed);
        Assert.StartsWith(file, Assert.Throws<DataFormatException>(() => TaskFile.Load(file)).Message);
    }

    /// <summary>A file of 100 MB without a line break costs the bound of a line, not the file.</summary>
    [Fact]
    public void ALineOf100MegabytesIsAnErrorWithItsLine()
    {
        using var folder = new TempFolder();
        string file = folder.File("t.jsonl");
        using (FileStream stream = File.Create(file))
        {
            stream.Write("{\"id\": \"0\", \"question\": \"q\", \"golden_answers\": [\"a\"]}\n{\"id\": \""u8);
            stream.SetLength(100 << 20); // sparse: zeros
        }
        var e = Assert.Throws<DataFormatException>(() => TaskFile.Load(file));
        Assert.Equal($"{file}, line 2: the line is longer than 32 MiB; one object a line is expected.", e.Message);

        foreach (DataSetFormat format in new[] { DataSetFormat.Squad, DataSetFormat.HotpotQa })
        {
            using (FileStream stream = File.Create(file))
            {
                stream.Write(format == DataSetFormat.Squad ? "{\"data\": [\n{\"title\": \""u8 : "[\n{\"title\": \""u8);
                byte[] block = new byte[1 << 20];
                block.AsSpan().Fill((byte)'x');
                for (int i = 0; i < 100; i++)
                    stream.Write(block);
            }
            e = Assert.Throws<DataFormatException>(() => DataSetConverter.Convert(format, file, null, folder.File("o")));
            Assert.Contains("is longer than 64 MiB", e.Message);
            Assert.Contains("line ", e.Message);
        }
    }

    [Fact]
    public void TextThatIsNotUtf8NamesItsLine()
    {
        using var folder = new TempFolder();
        string file = folder.File("t.jsonl");
        File.WriteAllBytes(file,
            [.. "{\"id\": \"0\", \"question\": \"q\", \"golden_answers\": [\"a\"]}\n{\"id\": \"1\", \"question\": \""u8, 0xC3, 0x28, .. "\"}\n"u8]);
        Assert.Contains("line 2, field question: it holds half of a surrogate pair, which is not a character, or bytes that are not UTF-8",
            Assert.Throws<DataFormatException>(() => TaskFile.Load(file)).Message);
    }
}
