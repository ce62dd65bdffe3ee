// Invariants: the result is that of Porter's own program (with his two published departures from the paper), which search engines use.

namespace Mem1.Environments.WebShop;

/// <summary>Porter's stemmer for English (Porter 1980, "An algorithm for suffix stripping").</summary>
internal static class PorterStemmer
{
    private static readonly (string Suffix, string Replacement)[] s_step2 =
    [
        ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"), ("alli", "al"),
        ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
        ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
    ];

    private static readonly (string Suffix, string Replacement)[] s_step3 =
    [
        ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
    ];

    private static readonly string[] s_step4 =
    [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive",
        "ize",
    ];

    /// <summary>The stem of a lower-case word; words of one or two characters stay as they are.</summary>
    public static string Stem(string word)
    {
        if (word.Length <= 2)
            return word;
        word = Plurals(word);
        word = PastAndGerund(word);
        if (word.EndsWith('y') && HasVowel(word.AsSpan(0, word.Length - 1)))
            word = word[..^1] + "i";
        word = Replace(word, s_step2);
        word = Replace(word, s_step3);
        word = Strip(word);
        return FinalE(word);
    }

    private static string Plurals(string word)
    {
        if (!word.EndsWith('s'))
            return word;
        if (Ends(word, "sses") || Ends(word, "ies"))
            return word[..^2];
        return word.Length >= 2 && word[^2] != 's' ? word[..^1] : word;
    }

    private static string PastAndGerund(string word)
    {
        if (Ends(word, "eed"))
            return Measure(word.AsSpan(0, word.Length - 3)) > 0 ? word[..^1] : word;
        string stem = Ends(word, "ed") ? word[..^2] : Ends(word, "ing") ? word[..^3] : word;
        if (stem.Length == word.Length || !HasVowel(stem))
            return word;
        if (Ends(stem, "at") || Ends(stem, "bl") || Ends(stem, "iz"))
            return stem + "e";
        if (DoubleConsonant(stem))
            return stem[^1] is 'l' or 's' or 'z' ? stem : stem[..^1];
        return Measure(stem) == 1 && ConsonantVowelConsonant(stem) ? stem + "e" : stem;
    }

    // The longest suffix decides, whether its condition holds or not.
    private static string Replace(string word, (string Suffix, string Replacement)[] rules)
    {
        (string Suffix, string Replacement) best = ("", "");
        foreach ((string Suffix, string Replacement) rule in rules)
        {
            if (rule.Suffix.Length > best.Suffix.Length && Ends(word, rule.Suffix))
                best = rule;
        }
        return best.Suffix.Length > 0 && Measure(word.AsSpan(0, word.Length - best.Suffix.Length)) > 0
            ? word[..^best.Suffix.Length] + best.Replacement
            : word;
    }

    private static string Strip(string word)
    {
        string suffix = "";
        foreach (string candidate in s_step4)
        {
            if (candidate.Length > suffix.Length && Ends(word, candidate))
                suffix = candidate;
        }
        if (suffix.Length == 0)
            return word;
        string stem = word[..^suffix.Length];
        if (suffix == "ion" && !(stem.Length > 0 && stem[^1] is 's' or 't'))
            return word;
        return Measure(stem) > 1 ? stem : word;
    }

    private static string FinalE(string word)
    {
        if (word.EndsWith('e'))
        {
            ReadOnlySpan<char> stem = word.AsSpan(0, word.Length - 1);
            int measure = Measure(stem);
            if (measure > 1 || (measure == 1 && !ConsonantVowelConsonant(stem)))
                word = word[..^1];
        }
        return word.EndsWith('l') && DoubleConsonant(word) && Measure(word) > 1 ? word[..^1] : word;
    }

    private static bool Ends(string word, string suffix) => word.EndsWith(suffix, StringComparison.Ordinal);

    private static bool IsConsonant(ReadOnlySpan<char> word, int at) => word[at] switch
    {
        'a' or 'e' or 'i' or 'o' or 'u' => false,
        'y' => at == 0 || !IsConsonant(word, at - 1),
        _ => true,
    };

    /// <summary>How often a vowel run is followed by a consonant run.</summary>
    private static int Measure(ReadOnlySpan<char> word)
    {
        int count = 0;
        bool vowel = false;
        for (int i = 0; i < word.Length; i++)
        {
            bool consonant = word[i] == 'y' ? i == 0 || vowel : IsConsonant(word, i);
            if (consonant && vowel)
                count++;
            vowel = !consonant;
        }
        return count;
    }

    private static bool HasVowel(ReadOnlySpan<char> word)
    {
        for (int i = 0; i < word.Length; i++)
        {
            if (!IsConsonant(word, i))
                return true;
        }
        return false;
    }

    private static bool DoubleConsonant(string word) =>
        word.Length >= 2 && word[^1] == word[^2] && IsConsonant(word, word.Length - 1);

    private static bool ConsonantVowelConsonant(ReadOnlySpan<char> word)
    {
        int last = word.Length - 1;
        return last >= 2 && IsConsonant(word, last) && !IsConsonant(word, last - 1) && IsConsonant(word, last - 2) &&
            word[last] is not ('w' or 'x' or 'y');
    }
}
