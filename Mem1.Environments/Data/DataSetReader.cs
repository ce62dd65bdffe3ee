// Invariants: a reader holds one line or one element of the list at a time; items come in file order; every fault names the file and the
// line or JSON path.

using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.Data;

/// <summary>Formats of question files.</summary>
public enum DataSetFormat
{
    /// <summary>JSON Lines of FlashRAG: id, question, golden_answers. It is also the task file format of this program.</summary>
    FlashRag,
    /// <summary>SQuAD v1.1 JSON (v2.0's unanswerable questions are left out).</summary>
    Squad,
    /// <summary>HotpotQA JSON: a list of _id, question, answer and context.</summary>
    HotpotQa,
    /// <summary>JSON Lines of NQ-open: question, answer (a list).</summary>
    NqOpen,
}

/// <summary>Something that a data set holds.</summary>
internal abstract record DataSetItem;

/// <summary>A passage to search in.</summary>
internal sealed record PassageItem(string Title, string Text) : DataSetItem;

/// <summary>A question with its answers.</summary>
internal sealed record QuestionItem(Objective Objective, double Weight = 1) : DataSetItem;

/// <summary>A question that the data set marks as unanswerable.</summary>
internal sealed record UnanswerableItem : DataSetItem;

/// <summary>Reads one format.</summary>
internal interface IDataSetReader
{
    /// <summary>Whether files of the format bring passages.</summary>
    bool HasPassages { get; }

    /// <summary>What the file holds, read on the way.</summary>
    /// <param name="file">Its name, for messages.</param>
    /// <param name="stream">Its data; disposed at the end.</param>
    /// <exception cref="DataFormatException">The file is malformed.</exception>
    IEnumerable<DataSetItem> Read(string file, DataStream stream);
}

/// <summary>The formats by name.</summary>
public static class DataSetFormats
{
    /// <summary>The names on the command line.</summary>
    public static IReadOnlyList<string> Names { get; } = ["flashrag", "squad", "hotpotqa", "nq"];

    /// <summary>The format of a name, or null.</summary>
    public static DataSetFormat? Parse(string name) => Names.ToList().IndexOf(name) is >= 0 and var i ? (DataSetFormat)i : null;

    /// <summary>The name of a format.</summary>
    public static string Name(this DataSetFormat format) => Names[(int)format];

    /// <summary>Whether files of a format bring passages to search in.</summary>
    public static bool HasPassages(this DataSetFormat format) => Reader(format).HasPassages;

    internal static IDataSetReader Reader(DataSetFormat format) => format switch
    {
        DataSetFormat.FlashRag => new FlashRagReader(),
        DataSetFormat.Squad => new SquadReader(),
        DataSetFormat.HotpotQa => new HotpotQaReader(),
        DataSetFormat.NqOpen => new NqOpenReader(),
        _ => throw new ArgumentOutOfRangeException(nameof(format)),
    };

    /// <summary>Everything in a file.</summary>
    internal static IEnumerable<DataSetItem> Read(DataSetFormat format, string file) =>
        Reader(format).Read(file, DataStream.Open(file, "data set"));

    internal static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
}

/// <summary>Remembers ids, so that a second use of one is an error.</summary>
internal sealed class SeenIds
{
    private readonly Dictionary<string, long> _lines = new(StringComparer.Ordinal);

    /// <summary>What is wrong with an id, or null; <paramref name="line"/> is where it stands.</summary>
    public string? Add(string id, long line) =>
        _lines.TryAdd(id, line) ? null : $"\"{id}\" is already the id of line {_lines[id]}";
}

internal sealed class FlashRagReader : IDataSetReader
{
    public bool HasPassages => false;

    public IEnumerable<DataSetItem> Read(string file, DataStream stream)
    {
        using var reader = new JsonLineReader(file, "every line needs the fields \"id\", \"question\" and \"golden_answers\"", stream);
        var ids = new SeenIds();
        while (reader.Read() is { } line)
        {
            using (line)
            {
                string id = reader.Id(line.RootElement, "id");
                if (ids.Add(id, reader.Line) is { } problem)
                    throw reader.Fault(problem, "id");
                yield return new QuestionItem(
                    new Objective(
                        id, reader.Text(line.RootElement, "question").Trim(), reader.Texts(line.RootElement, "golden_answers")),
                    reader.Weight(line.RootElement, "weight"));
            }
        }
    }
}

internal sealed class NqOpenReader : IDataSetReader
{
    public bool HasPassages => false;

    public IEnumerable<DataSetItem> Read(string file, DataStream stream)
    {
        using var reader = new JsonLineReader(file, "every line needs the fields \"question\" and \"answer\"", stream);
        while (reader.Read() is { } line)
        {
            using (line)
            {
                // The published files have no ids; the line tells the questions of one file apart.
                yield return new QuestionItem(new Objective(
                    $"nq-{reader.Line}", reader.Text(line.RootElement, "question").Trim(), reader.Texts(line.RootElement, "answer")));
            }
        }
    }
}

internal sealed class SquadReader : IDataSetReader
{
    private const string Expected = "SQuAD v1.1 JSON";

    public bool HasPassages => true;

    public IEnumerable<DataSetItem> Read(string file, DataStream stream)
    {
        using var reader = new JsonArrayReader(file, "data", Expected, stream);
        var ids = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() is { } element)
        {
            using (element)
            {
                var article = new JsonPlace(file, reader.Line, $"data[{reader.Index}]", Expected, element.RootElement);
                string title = DataSetFormats.OneLine(article.Text("title").Replace('_', ' '));
                foreach (JsonPlace paragraph in article.Items("paragraphs"))
                {
                    yield return new PassageItem(title, paragraph.Text("context").Trim());
                    foreach (JsonPlace question in paragraph.Items("qas"))
                        yield return Question(question, ids);
                }
            }
        }
    }

    private static DataSetItem Question(JsonPlace question, HashSet<string> ids)
    {
        if (question.IsTrue("is_impossible"))
            return new UnanswerableItem();
        string id = question.Text("id");
        if (!ids.Add(id))
            throw question.Field("id").Fault($"\"{id}\" is the id of an earlier question too");
        string[] answers = [.. question.Items("answers").Select(a => a.Text("text").Trim()).Distinct()];
        if (answers.Length == 0)
            throw question.Field("answers").Fault("the list is empty");
        return new QuestionItem(new Objective(id, DataSetFormats.OneLine(question.Text("question")), answers));
    }
}

internal sealed class HotpotQaReader : IDataSetReader
{
    private const string Expected = "HotpotQA JSON";

    public bool HasPassages => true;

    public IEnumerable<DataSetItem> Read(string file, DataStream stream)
    {
        using var reader = new JsonArrayReader(file, null, Expected, stream);
        var ids = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() is { } element)
        {
            using (element)
            {
                var question = new JsonPlace(file, reader.Line, $"[{reader.Index}]", Expected, element.RootElement);
                string id = question.Text("_id");
                if (!ids.Add(id))
                    throw question.Field("_id").Fault($"\"{id}\" is the id of an earlier question too");
                // Each item of the context is [title, [sentence, ...]]; sentences bring the space before them.
                foreach (JsonPlace passage in question.Items("context"))
                {
                    JsonPlace[] parts = [.. passage.Items()];
                    if (parts.Length != 2)
                        throw passage.Fault($"a title and a list of sentences are expected but the list has {parts.Length} items");
                    string title = DataSetFormats.OneLine(parts[0].Text());
                    string text = string.Concat(parts[1].Items().Select(Sentence)).Trim();
                    if (text.Length > 0)
                        yield return new PassageItem(title, text);
                }
                yield return new QuestionItem(
                    new Objective(id, DataSetFormats.OneLine(question.Text("question")), [question.Text("answer").Trim()]));
            }
        }
    }

    // Some of the published sentences are empty.
    private static string Sentence(JsonPlace sentence) => sentence.Value.ValueKind == JsonValueKind.String
        ? Json.TryText(sentence.Value) ?? throw sentence.Fault(Json.NotText)
        : sentence.Text();
}
