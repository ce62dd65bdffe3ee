// Keeps: text is a function of the seed; what is timed is Encode alone, in processor time of the process, so that what else runs on the
// machine counts little; the remembered pieces of a tokenizer start empty the first time.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Mem1.Model;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Bench;

/// <summary>One kind of text.</summary>
/// <param name="Text">What it is.</param>
/// <param name="Megabytes">Size as UTF-8.</param>
/// <param name="Tokens">Tokens it encodes to.</param>
/// <param name="FirstMegabytesPerSecond">The first time, with nothing remembered.</param>
/// <param name="MegabytesPerSecond">Best of the later times.</param>
internal sealed record TokenizerRow(string Text, double Megabytes, int Tokens, double FirstMegabytesPerSecond, double MegabytesPerSecond);

/// <summary>All of <c>mem1 bench tokenizer</c>.</summary>
internal sealed record TokenizerBenchReport(string Bench, string Tokenizer, int Vocabulary, MachineInfo Machine, IReadOnlyList<TokenizerRow> Rows);

/// <summary>Measures how fast text becomes tokens.</summary>
internal static class TokenizerBench
{
    private const ulong Seed = 1;

    private const int Passages = 8000, TrainingPassages = 400, Vocabulary = 4096;

    private const int RandomCharacters = 600_000;

    /// <summary>A clause in each of some scripts; clauses are drawn at random and numbers put between them.</summary>
    private static readonly string[] Clauses =
    [
        "the capital of the country was moved there in", "who designed the stadium, and when was it opened?", "la ville est située sur la rive gauche du fleuve",
        "die Straße wurde im Jahr gebaut und später verlängert", "el puente fue construido por los ingenieros del reino", "Город был основан в начале века",
        "該市位於河流的北岸，人口約為", "この駅は市の中心部にあります。", "도시는 강의 북쪽에 위치해 있다.", "تقع المدينة على ضفة النهر", "नगर नदी के तट पर स्थित है।",
        "İstanbul'un nüfusu artmaktadır", "<think>I know the answer.</think>\n<search>population of", "Doc 1(Title: \"River\") It flows\n\n",
    ];

    /// <summary>Measures a tokenizer, or one learnt from generated text if none is given.</summary>
    public static TokenizerBenchReport Run(string? folder, int repeat, Action<string> progress)
    {
        var words = new RetrievalCorpus(Seed);
        var generated = new StringBuilder();
        for (var i = 0; i < Passages; i++) generated.Append(words.Question(i, Passages)).Append('\n');
        ITokenizer Open() => folder is not null
            ? TokenizerFiles.Load(folder)
            : BpeTrainer.Train(
                Enumerable.Range(0, TrainingPassages).Select(i => words.Question(i, Passages)).Concat(Clauses), Vocabulary, ["<|endoftext|>"], "<|endoftext|>");
        (string Name, string Text)[] texts =
        [
            ("questions of generated words", generated.ToString()), ("clauses in twelve languages", Mixed()), ("random characters of all scripts", Random()),
        ];
        using var process = Process.GetCurrentProcess();
        var rows = new List<TokenizerRow>();
        var vocabulary = 0;
        foreach (var (name, text) in texts)
        {
            progress(name);
            var tokenizer = Open();
            vocabulary = tokenizer.VocabularySize;
            tokenizer.Encode("warm"); // the code, not the text
            var megabytes = Encoding.UTF8.GetByteCount(text) / 1e6;
            var tokens = 0;
            double Time()
            {
                var before = process.TotalProcessorTime;
                // A prompt or an observation at a time, as a rollout encodes.
                tokens = text.Chunk(4000).Sum(c => tokenizer.Encode(new string(c)).Length);
                process.Refresh();
                return megabytes / Math.Max(1e-3, (process.TotalProcessorTime - before).TotalSeconds);
            }

            var first = Time();
            var best = first;
            for (var i = 0; i < repeat; i++) best = Math.Max(best, Time());
            rows.Add(new TokenizerRow(name, megabytes, tokens, first, best));
        }

        var called = folder is null ? "learnt from generated text" : Path.GetFileName(Path.GetFullPath(folder));
        return new TokenizerBenchReport("tokenizer", called, vocabulary, MachineInfo.Describe(), rows);
    }

    /// <summary>The table for people.</summary>
    public static string Table(TokenizerBenchReport report)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        text.WriteLine($"{report.Machine}");
        text.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Tokenizer {report.Tokenizer} of {report.Vocabulary:N0} tokens, MB of UTF-8 per second of processor time."));
        text.WriteLine();
        text.WriteLine("text                                   MB    tokens   first time   best");
        foreach (var row in report.Rows)
        {
            text.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{row.Text,-36} {row.Megabytes,4:0.0}  {row.Tokens,8}   {row.FirstMegabytesPerSecond,10:0.0}  {row.MegabytesPerSecond,5:0.0}"));
        }

        return text.ToString();
    }

    private static string Mixed()
    {
        var text = new StringBuilder();
        for (ulong i = 0; text.Length < 1_000_000; i++)
        {
            var bits = RandomStream.Bits(Seed, i);
            text.Append(Clauses[bits % (ulong)Clauses.Length]).Append(CultureInfo.InvariantCulture, $" {(bits >> 32) % 3000}. ");
        }

        return text.ToString();
    }

    /// <summary>Hardly any piece comes twice: what encoding costs when remembering does not help.</summary>
    private static string Random()
    {
        (int First, int Last)[] ranges =
        [
            (0x20, 0x7E), (0x20, 0x7E), (0xA1, 0x24F), (0x391, 0x3C9), (0x410, 0x44F), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F600, 0x1F64F),
        ];
        var text = new StringBuilder();
        for (ulong i = 0; text.Length < RandomCharacters; i++)
        {
            var bits = RandomStream.Bits(Seed + 1, i);
            var (first, last) = ranges[bits % (ulong)ranges.Length];
            for (var run = 1 + (int)((bits >> 8) % 8); run > 0; run--)
            {
                bits = RandomStream.Mix(bits);
                text.Append(char.ConvertFromUtf32(first + (int)(bits % (ulong)(last - first + 1))));
            }

            if (bits % 3 == 0) text.Append(' ');
        }

        return text.ToString();
    }
}
