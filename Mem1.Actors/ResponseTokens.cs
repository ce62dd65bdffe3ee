// Invariants:
//  * Cuts fall between tokens; the ids on both sides are the ones that came in, in order. Text is only looked at, never encoded again.
using Mem1.Model;

namespace Mem1.Actors;

/// <summary>Where the parts of a response and of an observation lie, as counts of tokens.</summary>
internal static class ResponseTokens
{
    /// <summary>
    /// Splits a response after the token that completes the tag which closes the internal state. Without that tag there is no internal
    /// state and all of it is action.
    /// </summary>
    public static (int[] State, int[] Action) Split(int[] tokens, string internalStateEnd, ITokenizer tokenizer)
    {
        var length = FirstPrefixWith(internalStateEnd, tokens, tokenizer);
        return length < 0 ? ([], tokens) : (tokens[..length], tokens[length..]);
    }

    /// <summary>
    /// The response as the environment reads it: without the end-of-text token, and without what the last token carries beyond the
    /// first stop string.
    /// </summary>
    public static string Text(GenerationResult result, IReadOnlyList<string> stopStrings, ITokenizer tokenizer)
    {
        var count = result.Finish == FinishReason.EndOfText ? result.Tokens.Length - 1 : result.Tokens.Length;
        var text = tokenizer.Decode(result.Tokens.AsSpan(0, count));
        var end = text.Length;
        foreach (var stop in stopStrings)
        {
            var at = text.IndexOf(stop, StringComparison.Ordinal);
            if (at >= 0)
                end = Math.Min(end, at + stop.Length);
        }
        return text[..end];
    }

    /// <summary>
    /// Cuts an observation to a number of tokens by taking tokens out of its middle: the tokens from the last closing tag on stay at
    /// its end. Where these alone are too many, the closing tag alone stays.
    /// </summary>
    /// <param name="tokens">The observation.</param>
    /// <param name="limit">How many tokens are kept at most.</param>
    /// <param name="closing">The closing tag's own tokens, used where the tail is too long; shorter than the limit.</param>
    /// <param name="observationEnd">The closing tag.</param>
    /// <param name="tokenizer">Reads the tokens.</param>
    public static int[] Clip(int[] tokens, int limit, int[] closing, string observationEnd, ITokenizer tokenizer)
    {
        if (tokens.Length <= limit)
            return tokens;
        var start = LastSuffixWith(observationEnd, tokens, tokenizer);
        if (start < 0)
            return tokens[..limit];
        var tail = tokens.Length - start <= limit ? tokens[start..] : closing;
        return [.. tokens[..(limit - tail.Length)], .. tail];
    }

    // Whether a prefix holds the text never turns back to false as it grows (text is ASCII, so a cut character at the end cannot hide it),
    // hence bisection: n log n tokens decoded instead of n squared.
    private static int FirstPrefixWith(string text, int[] tokens, ITokenizer tokenizer)
    {
        if (!Holds(tokens))
            return -1;
        var (low, high) = (0, tokens.Length);
        while (high - low > 1)
        {
            var middle = low + ((high - low) / 2);
            if (Holds(tokens.AsSpan(0, middle)))
                high = middle;
            else
                low = middle;
        }
        return high;

        bool Holds(ReadOnlySpan<int> part) => tokenizer.Decode(part).Contains(text, StringComparison.Ordinal);
    }

    private static int LastSuffixWith(string text, int[] tokens, ITokenizer tokenizer)
    {
        if (!Holds(tokens))
            return -1;
        var (low, high) = (0, tokens.Length);
        while (high - low > 1)
        {
            var middle = low + ((high - low) / 2);
            if (Holds(tokens.AsSpan(middle)))
                low = middle;
            else
                high = middle;
        }
        return low;

        bool Holds(ReadOnlySpan<int> part) => tokenizer.Decode(part).Contains(text, StringComparison.Ordinal);
    }
}
