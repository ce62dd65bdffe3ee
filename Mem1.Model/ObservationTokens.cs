// Keeps: an observation becomes tokens once, the same way for the sampler and for the expert's episodes; cuts fall between tokens, and the
// ids on both sides are the ones that came in, in order.
namespace Mem1.Model;

/// <summary>Turns an observation into tokens once, within a limit, with its closing tag kept.</summary>
public static class ObservationTokens
{
    /// <summary>Encodes an observation and cuts it to a limit as <see cref="Clip"/> does.</summary>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="text">The observation, tags included.</param>
    /// <param name="closingTag">The tag that must survive.</param>
    /// <param name="limit">Largest number of tokens.</param>
    /// <exception cref="ArgumentException">The limit cannot hold the closing tag.</exception>
    public static int[] Encode(ITokenizer tokenizer, string text, string closingTag, int limit) =>
        Clip(tokenizer, tokenizer.Encode(text), closingTag, limit);

    /// <summary>
    /// Cuts an observation to a number of tokens by taking tokens out of its middle: those from the last closing tag on stay at its end,
    /// because a block that is never closed would stay open for good. Where these alone are too many, the closing tag alone stays.
    /// Without a closing tag the first tokens stay.
    /// </summary>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="tokens">The observation.</param>
    /// <param name="closingTag">The tag that must survive.</param>
    /// <param name="limit">Largest number of tokens.</param>
    /// <returns>The same array if it is within the limit.</returns>
    /// <exception cref="ArgumentException">The limit cannot hold the closing tag.</exception>
    public static int[] Clip(ITokenizer tokenizer, int[] tokens, string closingTag, int limit)
    {
        if (tokens.Length <= limit) return tokens;
        var start = LastSuffixWith(tokenizer, tokens, closingTag);
        if (start < 0) return tokens[..limit];
        var tail = tokens[start..];
        if (tail.Length > limit) tail = tokenizer.Encode(closingTag);
        if (tail.Length > limit)
            throw new ArgumentException($"An observation limit of {limit} tokens cannot hold the closing tag ({tail.Length} tokens).", nameof(limit));
        return [.. tokens[..(limit - tail.Length)], .. tail];
    }

    // Whether a suffix holds the text never turns back to false as it grows (text is ASCII, so a cut character at the start cannot hide it),
    // hence bisection: n log n tokens decoded instead of n squared.
    private static int LastSuffixWith(ITokenizer tokenizer, int[] tokens, string text)
    {
        if (!Holds(0)) return -1;
        var (low, high) = (0, tokens.Length);
        while (high - low > 1)
        {
            var middle = low + ((high - low) / 2);
            if (Holds(middle)) low = middle;
            else high = middle;
        }

        return low;

        bool Holds(int from) => tokenizer.Decode(tokens.AsSpan(from)).Contains(text, StringComparison.Ordinal);
    }
}
