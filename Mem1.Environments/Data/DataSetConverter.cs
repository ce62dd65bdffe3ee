// Invariants: both output files are complete or untouched; every passage appears once; memory is the ids and one hash a passage,
// whatever the size of the data set.

using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.Data;

/// <summary>What a conversion wrote.</summary>
/// <param name="Passages">Lines of the corpus; 0 when none was asked for.</param>
/// <param name="Tasks">Lines of the task file.</param>
/// <param name="Skipped">Questions left out because the data set marks them as unanswerable.</param>
public sealed record DataSetConversion(long Passages, long Tasks, long Skipped);

/// <summary>Turns a data set into a task file and, if it brings passages, a corpus.</summary>
public static class DataSetConverter
{
    // The text is for people too: letters outside ASCII stay as they are.
    private static readonly JsonWriterOptions s_writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Converts. A passage's contents are its title in double quotes, a line break and the text; a question's golden answers are the
    /// distinct texts of its answers. The source is read once for the tasks and once more for the corpus.
    /// </summary>
    /// <param name="format">Format of the source.</param>
    /// <param name="source">The data set, gzip or not.</param>
    /// <param name="corpus">Corpus file to write (JSON Lines), replaced if it exists; null for none.</param>
    /// <param name="tasks">Task file to write (JSON Lines); replaced if it exists.</param>
    /// <exception cref="DataFormatException">The source is missing or malformed; nothing was written.</exception>
    /// <exception cref="IOException">An output file cannot be written.</exception>
    /// <exception cref="ArgumentException">Two of the paths are the same, or a corpus is asked of a format without passages.</exception>
    public static DataSetConversion Convert(DataSetFormat format, string source, string? corpus, string tasks)
    {
        string[] paths = [.. new[] { source, corpus, tasks }.OfType<string>().Select(Path.GetFullPath)];
        if (paths.Distinct(StringComparer.Ordinal).Count() < paths.Length)
            throw new ArgumentException("The data set, the corpus and the task file must be different files.");
        if (corpus is not null && !format.HasPassages())
            throw new ArgumentException($"The format {format.Name()} has no passages to make a corpus of.", nameof(corpus));
        long passages = 0, questions = 0, skipped = 0;

        void WriteTasks(Stream stream)
        {
            using var json = new JsonLineWriter(stream);
            foreach (DataSetItem item in DataSetFormats.Read(format, source))
            {
                if (item is QuestionItem question)
                {
                    json.Write(w => TaskLine(w, question.Objective, question.Weight));
                    questions++;
                }
                else if (item is UnanswerableItem)
                {
                    skipped++;
                }
            }
            if (questions == 0)
                throw new DataFormatException(source, "the data set holds no answerable question");
        }

        void WriteCorpus(Stream stream)
        {
            using var json = new JsonLineWriter(stream);
            var seen = new HashSet<UInt128>();
            foreach (PassageItem passage in DataSetFormats.Read(format, source).OfType<PassageItem>())
            {
                string contents = $"\"{passage.Title}\"\n{passage.Text}";
                if (!seen.Add(Hash(contents)))
                    continue;
                json.Write(w =>
                {
                    w.WriteString("id", $"{passages}");
                    w.WriteString("contents", contents);
                });
                passages++;
            }
        }

        if (corpus is null)
            UserFile.WriteWhole((tasks, WriteTasks));
        else
            UserFile.WriteWhole((tasks, WriteTasks), (corpus, WriteCorpus));
        return new DataSetConversion(passages, questions, skipped);
    }

    /// <summary>Writes the fields of a line with one question.</summary>
    internal static void TaskLine(Utf8JsonWriter json, Objective objective, double weight = 1)
    {
        json.WriteString("id", objective.Id);
        json.WriteString("question", objective.Question);
        json.WriteStartArray("golden_answers");
        foreach (string answer in objective.GoldenAnswers)
            json.WriteStringValue(answer);
        json.WriteEndArray();
        if (weight != 1)
            json.WriteNumber("weight", weight);
    }

    // Half of a SHA-256: two of 1e9 passages collide with probability 1e-21.
    private static UInt128 Hash(string text)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(text), hash);
        return new UInt128(BitConverter.ToUInt64(hash), BitConverter.ToUInt64(hash[8..]));
    }

    /// <summary>Writes JSON Lines.</summary>
    internal sealed class JsonLineWriter(Stream stream) : IDisposable
    {
        private readonly Utf8JsonWriter _json = new(stream, s_writing);

        /// <summary>Writes one object; the action writes its fields.</summary>
        public void Write(Action<Utf8JsonWriter> fields)
        {
            _json.Reset();
            _json.WriteStartObject();
            fields(_json);
            _json.WriteEndObject();
            _json.Flush();
            stream.WriteByte((byte)'\n');
        }

        public void Dispose() => _json.Dispose();
    }
}
