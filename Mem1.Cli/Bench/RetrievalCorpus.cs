// Keeps: the same seed gives the same corpus and queries; word frequencies fall like those of English (Zipf), stop words included, because
// what a search costs depends on little else.
using System.Text;
using System.Text.Json;

namespace Mem1.Cli.Bench;

/// <summary>Passages and questions made of invented words.</summary>
internal sealed class RetrievalCorpus(ulong seed)
{
    /// <summary>Words of a passage: those of the literature's Wikipedia dumps have 100.</summary>
    public const int PassageWords = 100;

    // About the distinct terms of a million encyclopaedia passages that occur more than once.
    private const int Vocabulary = 400_000;

    // Two words in five of English running text are among Lucene's stop words.
    private const double StopWordShare = 0.4;

    private static readonly string[] s_stopWords =
        ["the", "of", "and", "in", "to", "a", "is", "was", "for", "as", "on", "with", "by", "that", "it", "at"];

    /// <summary>Writes passages as JSON Lines; the i-th is the same in a corpus of any size.</summary>
    public void Write(string file, int passages, CancellationToken cancellationToken)
    {
        using var stream = new FileStream(file, FileMode.Create, FileAccess.Write, FileShare.Read, 1 << 20);
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { SkipValidation = true });
        for (var i = 0; i < passages; i++)
        {
            if (i % 1024 == 0) cancellationToken.ThrowIfCancellationRequested();
            json.WriteStartObject();
            json.WriteString("id", $"{i}");
            json.WriteString("contents", Passage(i));
            json.WriteEndObject();
            json.Flush();
            stream.WriteByte((byte)'\n');
            json.Reset();
        }
    }

    /// <summary>A question about a passage: four of its words, two frequent ones, and stop words.</summary>
    public string Question(int number, int passages)
    {
        var random = Generator(number, purpose: 1);
        var words = Passage(random.Next(passages)).Split([' ', '\n']).Where(w => !s_stopWords.Contains(w)).ToArray();
        string About() => words[random.Next(words.Length)];
        return $"what is the {About()} of {About()} in the {Word(random.Next(200))} {About()} "
            + $"that was {Word(random.Next(200))} by {About()}";
    }

    /// <summary>Six of the most frequent words: the hardest case of ranking, since nearly every passage matches.</summary>
    public string FrequentWords(int number)
    {
        var random = Generator(number, purpose: 2);
        return string.Join(' ', Enumerable.Range(0, 6).Select(i => Word((10 * i) + random.Next(10))));
    }

    private string Passage(int number)
    {
        var random = Generator(number, purpose: 0);
        var text = new StringBuilder();
        text.Append('"').Append(Draw(random)).Append(' ').Append(Draw(random)).Append("\"\n");
        for (var i = 0; i < PassageWords; i++)
        {
            if (i > 0) text.Append(' ');
            text.Append(random.NextDouble() < StopWordShare
                ? s_stopWords[(int)Math.Pow(s_stopWords.Length, random.NextDouble()) - 1]
                : Draw(random));
        }

        return text.ToString();
    }

    private Random Generator(int number, int purpose) => new(HashOf(seed, number, purpose));

    // SplitMix64's finaliser, folded to the seed of a generator whose algorithm is fixed for given seeds.
    private static int HashOf(ulong seed, int number, int purpose)
    {
        var x = seed + (((ulong)number * 4) + (ulong)purpose + 1) * 0x9E3779B97F4A7C15;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return (int)((x ^ (x >> 31)) & 0x7FFFFFFF);
    }

    /// <summary>A word whose rank r has a probability that falls like 1/r.</summary>
    private static string Draw(Random random) => Word((int)Math.Min(Vocabulary - 1, Math.Pow(Vocabulary, random.NextDouble()) - 1));

    /// <summary>The word of a rank: syllables of a consonant and a vowel, closed by a letter that no stemming rule knows.</summary>
    private static string Word(int rank)
    {
        const string Consonants = "bcdfghjklmnprtvz", Vowels = "aeiou";
        Span<char> letters = stackalloc char[16];
        var length = 0;
        for (var rest = rank + 1; rest > 0; rest /= 80)
        {
            letters[length++] = Consonants[rest % 80 / 5];
            letters[length++] = Vowels[rest % 5];
        }

        letters[length++] = 'k';
        return new string(letters[..length]);
    }
}
