using System.Text.Json;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Tests;

/// <summary>Expected values were taken from the Python original.</summary>
public sealed class NormalizerTests
{
    [Theory]
    [InlineData("The Beatles", "beatles")]
    [InlineData("A.B.C.", "abc")]
    [InlineData("U.S.A.", "usa")]
    [InlineData("  An   Apple a Day ", "apple day")]
    [InlineData("don't", "dont")]
    [InlineData("rock-and-roll", "rockandroll")]
    [InlineData("Jay-Z", "jayz")]
    [InlineData("...", "")]
    [InlineData("The", "")]
    [InlineData("a", "")]
    [InlineData("A the an", "")]
    [InlineData("1,000", "1000")]
    [InlineData("$1.5 million", "15 million")]
    [InlineData("5 %", "5")]
    [InlineData("and/or", "andor")]
    [InlineData("the-end", "theend")]
    [InlineData("The_Who", "thewho")]
    [InlineData("a-ha", "aha")]
    [InlineData("AC/DC", "acdc")]
    [InlineData("theatre", "theatre")]
    [InlineData("São Paulo", "são paulo")]
    [InlineData("“Hello”", "“hello”")]
    [InlineData("co‑op", "co‑op")]
    [InlineData("half\u00a0life", "half life")]
    [InlineData("x\ty\n z", "x y z")]
    [InlineData("Straße", "straße")]
    [InlineData("\u0130stanbul", "i\u0307stanbul")]
    [InlineData("ΟΔΟΣ", "οδος")]
    [InlineData("a\u001cb\u200bc", "b\u200bc")]
    [InlineData("l’a b", "l’ b")]
    [InlineData("the 'a' team", "team")]
    // Beyond the table: a combining mark and a joiner end a word in Python, a superscript digit does not; sigma inside a word.
    [InlineData("a\u0301 b", "\u0301 b")]
    [InlineData("the\u200d x", "\u200d x")]
    [InlineData("a² b", "a² b")]
    [InlineData("ΣΑΣ Σ ΑΣ.Β", "σας σ ασβ")]
    [InlineData("", "")]
    public void EqualsPython(string text, string expected) => Assert.Equal(expected, AnswerNormalizer.Normalize(text));

    /// <summary>data/normalize-python.json: random strings over awkward characters, with what the Python functions make of them.</summary>
    [Fact]
    public void EqualsPythonOnAwkwardCharacters()
    {
        string[][] cases = JsonSerializer.Deserialize<string[][]>(
            File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "data", "normalize-python.json")))!;
        Assert.True(cases.Length > 1000);
        string[] different =
        [
            .. cases.Where(c => AnswerNormalizer.Normalize(c[0]) != c[1])
                .Select(c => string.Join(" | ", c.Append(AnswerNormalizer.Normalize(c[0])).Select(t => JsonSerializer.Serialize(t)))),
        ];
        Assert.True(different.Length == 0, $"{different.Length} differ:\n{string.Join('\n', different.Take(40))}");
    }

    [Fact]
    public void DeletesExactlyTheAsciiPunctuation()
    {
        string all = string.Concat(Enumerable.Range(0x21, 0x5E).Select(c => (char)c));
        Assert.Equal("0123456789abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", AnswerNormalizer.Normalize(all));
    }

    [Fact]
    public void NormalizingTwiceChangesNothing()
    {
        var random = new Random(5);
        const string Alphabet = "aAnTthe .,;'\"-_ΣσΟ\u0130\u0301\u200d\u00a0\u001c²½é";
        for (int i = 0; i < 2000; i++)
        {
            string text = string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => Alphabet[random.Next(Alphabet.Length)]));
            string once = AnswerNormalizer.Normalize(text);
            Assert.Equal(once, AnswerNormalizer.Normalize(once));
        }
    }
}
