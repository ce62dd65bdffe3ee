namespace Mem1.Model;

/// <summary>Turns an observation into tokens once, within a limit, with its closing tag kept.</summary>
public static class ObservationTokens
{
    /// <summary>
    /// Encodes an observation. When it is longer than the limit, its text is cut before the closing tag so that the tag (and what follows it)
    /// still ends the block; a cut observation without the tag would leave the block open for good.
    /// </summary>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="text">The observation, tags included.</param>
    /// <param name="closingTag">The tag that must survive.</param>
    /// <param name="limit">Largest number of tokens; at least that of the closing tag.</param>
    /// <exception cref="ArgumentException">The limit cannot hold the closing tag.</exception>
    public static int[] Encode(ITokenizer tokenizer, string text, string closingTag, int limit)
    {
        var tokens = tokenizer.Encode(text);
        if (tokens.Length <= limit) return tokens;
        var close = text.LastIndexOf(closingTag, StringComparison.Ordinal);
        if (close < 0) return tokens[..limit];
        var tail = tokenizer.Encode(text[close..]);
        if (tail.Length > limit)
            throw new ArgumentException($"An observation limit of {limit} tokens cannot hold the closing tag ({tail.Length} tokens).", nameof(limit));
        return [.. tokenizer.Encode(text[..close])[..(limit - tail.Length)], .. tail];
    }
}
