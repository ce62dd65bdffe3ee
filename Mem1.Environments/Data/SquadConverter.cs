// Invariants: both output files are complete or untouched; every passage appears once; every fault of the input names its JSON path.

using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.Data;

/// <summary>What a conversion wrote.</summary>
/// <param name="Passages">Lines of the corpus.</param>
/// <param name="Tasks">Lines of the task file.</param>
/// <param name="Skipped">Questions left out because the data set marks them as unanswerable.</param>
public sealed record SquadConversion(int Passages, int Tasks, int Skipped);

/// <summary>Turns a data set in SQuAD v1.1 JSON into a corpus and a task file.</summary>
public static class SquadConverter
{
    // The text is for people too: letters outside ASCII stay as they are.
    private static readonly JsonWriterOptions s_writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Converts. A passage's contents are its title in double quotes, a line break and the paragraph; a question's golden answers are the
    /// distinct texts of its answers.
    /// </summary>
    /// <param name="source">SQuAD v1.1 JSON file.</param>
    /// <param name="corpus">Corpus file to write (JSON Lines); replaced if it exists.</param>
    /// <param name="tasks">Task file to write (JSON Lines); replaced if it exists.</param>
    /// <exception cref="DataFormatException">The source is missing or malformed; nothing was written.</exception>
    /// <exception cref="IOException">An output file cannot be written.</exception>
    /// <exception cref="ArgumentException">Two of the three paths are the same.</exception>
    public static SquadConversion Convert(string source, string corpus, string tasks)
    {
        if (new[] { source, corpus, tasks }.Select(Path.GetFullPath).Distinct(StringComparer.Ordinal).Count() < 3)
            throw new ArgumentException("The data set, the corpus and the task file must be three different files.");
        var passages = new Dictionary<(string Title, string Text), int>();
        var questions = new List<Objective>();
        int skipped = Read(source, passages, questions);
        if (questions.Count == 0)
            throw new DataFormatException(source, "the data set holds no answerable question", field: "data");

        UserFile.WriteWhole(
            (corpus, stream => WriteLines(stream, passages.OrderBy(p => p.Value), (json, p) =>
            {
                json.WriteString("id", $"{p.Value}");
                json.WriteString("contents", $"\"{p.Key.Title}\"\n{p.Key.Text}");
            })),
            (tasks, stream => WriteLines(stream, questions, (json, q) =>
            {
                json.WriteString("id", q.Id);
                json.WriteString("question", q.Question);
                json.WriteStartArray("golden_answers");
                foreach (string answer in q.GoldenAnswers)
                    json.WriteStringValue(answer);
                json.WriteEndArray();
            })));
        return new SquadConversion(passages.Count, questions.Count, skipped);
    }

    private static int Read(string source, Dictionary<(string, string), int> passages, List<Objective> questions)
    {
        using FileStream stream = UserFile.Open(source, "data set");
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(stream);
        }
        catch (JsonException e)
        {
            throw new DataFormatException(
                source, $"not valid JSON at byte {(e.BytePositionInLine ?? 0) + 1} of the line", (e.LineNumber ?? 0) + 1, inner: e);
        }
        using (document)
        {
            int skipped = 0;
            var ids = new HashSet<string>(StringComparer.Ordinal);
            foreach (Node article in new Node(source, "", document.RootElement).List("data"))
            {
                string title = OneLine(article.Text("title").Replace('_', ' '));
                foreach (Node paragraph in article.List("paragraphs"))
                {
                    passages.TryAdd((title, paragraph.Text("context").Trim()), passages.Count);
                    foreach (Node question in paragraph.List("qas"))
                    {
                        if (question.IsTrue("is_impossible"))
                        {
                            skipped++;
                            continue;
                        }
                        string id = question.Text("id");
                        if (!ids.Add(id))
                            throw question.Fault("id", $"\"{id}\" is the id of an earlier question too");
                        string[] answers = [.. question.List("answers").Select(a => a.Text("text").Trim()).Distinct()];
                        if (answers.Length == 0)
                            throw question.Fault("answers", "the list is empty");
                        questions.Add(new Objective(id, OneLine(question.Text("question")), answers));
                    }
                }
            }
            return skipped;
        }
    }

    private static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    private static void WriteLines<T>(Stream stream, IEnumerable<T> items, Action<Utf8JsonWriter, T> write)
    {
        using var json = new Utf8JsonWriter(stream, s_writing);
        foreach (T item in items)
        {
            json.Reset();
            json.WriteStartObject();
            write(json, item);
            json.WriteEndObject();
            json.Flush();
            stream.WriteByte((byte)'\n');
        }
    }

    /// <summary>A JSON value with the path that leads to it.</summary>
    private readonly record struct Node(string File, string Path, JsonElement Value)
    {
        public IEnumerable<Node> List(string field)
        {
            Node list = Field(field);
            if (list.Value.ValueKind != JsonValueKind.Array)
                throw new DataFormatException(File, $"a list is expected but {Json.Describe(list.Value)} is there", field: list.Path);
            int i = 0;
            foreach (JsonElement item in list.Value.EnumerateArray())
                yield return new Node(File, $"{list.Path}[{i++}]", item);
        }

        public string Text(string field)
        {
            Node node = Field(field);
            if (node.Value.ValueKind != JsonValueKind.String)
                throw new DataFormatException(File, $"a string is expected but {Json.Describe(node.Value)} is there", field: node.Path);
            string? text = Json.TryText(node.Value);
            return string.IsNullOrWhiteSpace(text)
                ? throw new DataFormatException(File, "the text is blank or malformed", field: node.Path)
                : text;
        }

        public bool IsTrue(string field) =>
            Value.ValueKind == JsonValueKind.Object && Value.TryGetProperty(field, out JsonElement flag)
            && flag.ValueKind == JsonValueKind.True;

        public DataFormatException Fault(string field, string problem) => new(File, problem, field: Join(field));

        private Node Field(string field)
        {
            if (Value.ValueKind != JsonValueKind.Object)
            {
                throw new DataFormatException(
                    File, $"an object with the field \"{field}\" is expected but {Json.Describe(Value)} is there",
                    field: Path.Length > 0 ? Path : null);
            }
            return Value.TryGetProperty(field, out JsonElement value)
                ? new Node(File, Join(field), value)
                : throw new DataFormatException(File, "it is missing; SQuAD v1.1 JSON is expected", field: Join(field));
        }

        private string Join(string field) => Path.Length > 0 ? $"{Path}.{field}" : field;
    }
}
