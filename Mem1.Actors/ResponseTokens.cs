// Invariants:
//  * Cuts fall between tokens; the ids on both sides are the ones that came in, in order. Text is only looked at, never encoded again.
using Mem1.Model;

namespace Mem1.Actors;

/// <summary>Where the parts of a response lie, as counts of tokens.</summary>
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
}
