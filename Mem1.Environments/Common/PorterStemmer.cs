// Invariants: a stem is never longer than its word and overwrites it in place; the result depends on the letters alone.

namespace Mem1.Environments.Common;

/// <summary>
/// The suffix stripper of M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two changes that its author
/// made in the published programs and that Lucene has too: "bli" for "abli", and the suffix "logi".
/// </summary>
internal static class PorterStemmer
{
    // No term of the analysers is longer; a longer word costs an array.
    private const int StackLimit = 256;

    private static readonly (string Suffix, string Replacement)[] s_step2 =
    [
        ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"), ("alli", "al"),
        ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
        ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
    ];

    private static readonly (string Suffix, string Replacement)[] s_step3 =
        [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

    // A suffix that ends in another one ("ement" in "ment" in "ent") stands before it.
    private static readonly string[] s_step4 =
    [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive",
        "ize",
    ];

    /// <summary>The stem of a lower-case word.</summary>
    public static string Stem(string word)
    {
        Span<char> letters = word.Length <= StackLimit ? stackalloc char[word.Length] : new char[word.Length];
        word.CopyTo(letters);
        return letters[..Stem(letters)].ToString();
    }

    /// <summary>Stems a lower-case word in place and returns the length of its stem.</summary>
    public static int Stem(Span<char> word)
    {
        // Shorter words are left alone, as in all published versions.
        if (word.Length <= 2)
            return word.Length;
        int length = Plural(word, word.Length);
        length = PastAndGerund(word, length);
        if (word[length - 1] == 'y' && HasVowel(word, length - 1))
            word[length - 1] = 'i';
        length = Replace(word, length, s_step2);
        length = Replace(word, length, s_step3);
        length = Strip(word, length);
        return Tidy(word, length);
    }

    // Step 1a.
    private static int Plural(Span<char> word, int length)
    {
        if (word[length - 1] != 's')
            return length;
        if (Ends(word, length, "sses") || Ends(word, length, "ies"))
            return length - 2;
        return word[length - 2] == 's' ? length : length - 1;
    }

    // Step 1b.
    private static int PastAndGerund(Span<char> word, int length)
    {
        if (Ends(word, length, "eed"))
            return Measure(word, length - 3) > 0 ? length - 1 : length;
        int stem = Ends(word, length, "ed") ? length - 2 : Ends(word, length, "ing") ? length - 3 : -1;
        if (stem < 0 || !HasVowel(word, stem))
            return length;
        if (Ends(word, stem, "at") || Ends(word, stem, "bl") || Ends(word, stem, "iz"))
        {
            word[stem] = 'e';
            return stem + 1;
        }
        if (DoubleConsonant(word, stem))
            return word[stem - 1] is 'l' or 's' or 'z' ? stem : stem - 1;
        if (Measure(word, stem) == 1 && ConsonantVowelConsonant(word, stem))
        {
            word[stem] = 'e';
            return stem + 1;
        }
        return stem;
    }

    // Steps 2 and 3. The first suffix that fits decides, whether or not its condition holds.
    private static int Replace(Span<char> word, int length, (string Suffix, string Replacement)[] rules)
    {
        foreach ((string suffix, string replacement) in rules)
        {
            if (!Ends(word, length, suffix))
                continue;
            int stem = length - suffix.Length;
            if (Measure(word, stem) == 0)
                return length;
            replacement.CopyTo(word[stem..]);
            return stem + replacement.Length;
        }
        return length;
    }

    // Step 4.
    private static int Strip(ReadOnlySpan<char> word, int length)
    {
        foreach (string suffix in s_step4)
        {
            if (!Ends(word, length, suffix))
                continue;
            int stem = length - suffix.Length;
            bool fits = suffix != "ion" || (stem > 0 && word[stem - 1] is 's' or 't');
            return fits && Measure(word, stem) > 1 ? stem : length;
        }
        return length;
    }

    // Step 5.
    private static int Tidy(ReadOnlySpan<char> word, int length)
    {
        if (word[length - 1] == 'e')
        {
            int measure = Measure(word, length - 1);
            if (measure > 1 || (measure == 1 && !ConsonantVowelConsonant(word, length - 1)))
                length--;
        }
        return word[length - 1] == 'l' && DoubleConsonant(word, length) && Measure(word, length - 1) > 1 ? length - 1 : length;
    }

    private static bool Ends(ReadOnlySpan<char> word, int length, string suffix) =>
        length >= suffix.Length && word[length - 1] == suffix[^1] && word[..length].EndsWith(suffix);

    private static bool Consonant(ReadOnlySpan<char> word, int at) => word[at] switch
    {
        'a' or 'e' or 'i' or 'o' or 'u' => false,
        'y' => at == 0 || !Consonant(word, at - 1),
        _ => true,
    };

    private static bool HasVowel(ReadOnlySpan<char> word, int length)
    {
        for (int i = 0; i < length; i++)
        {
            if (!Consonant(word, i))
                return true;
        }
        return false;
    }

    /// <summary>How often a consonant follows a vowel: m in [C](VC)^m[V].</summary>
    private static int Measure(ReadOnlySpan<char> word, int length)
    {
        int measure = 0;
        bool vowel = false;
        for (int i = 0; i < length; i++)
        {
            // As Consonant(word, i), without its walk back over a run of "y".
            bool isVowel = word[i] is 'a' or 'e' or 'i' or 'o' or 'u' || (word[i] == 'y' && i > 0 && !vowel);
            if (vowel && !isVowel)
                measure++;
            vowel = isVowel;
        }
        return measure;
    }

    private static bool DoubleConsonant(ReadOnlySpan<char> word, int length) =>
        length >= 2 && word[length - 1] == word[length - 2] && Consonant(word, length - 1);

    private static bool ConsonantVowelConsonant(ReadOnlySpan<char> word, int length) =>
        length >= 3 && Consonant(word, length - 1) && !Consonant(word, length - 2) && Consonant(word, length - 3)
        && word[length - 1] is not ('w' or 'x' or 'y');
}
