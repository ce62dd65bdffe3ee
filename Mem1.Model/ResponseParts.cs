// Keeps: the parts of a response are found the same way by the sampler, by the learner that checks it and for the expert's episodes; cuts
// fall between tokens, and text is only looked at, never encoded again.
namespace Mem1.Model;

/// <summary>Where tags lie within the tokens of a response.</summary>
public static class ResponseParts
{
    /// <summary>
    /// The number of tokens up to and including the one that completes a tag's first occurrence; -1 without the tag. A token may carry
    /// text beyond the tag; it belongs to the first part whole.
    /// </summary>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="tokens">The response.</param>
    /// <param name="tag">ASCII.</param>
    public static int LengthThrough(ITokenizer tokenizer, ReadOnlySpan<int> tokens, string tag)
    {
        if (!Holds(tokenizer, tokens, tag)) return -1;
        // Whether a prefix holds the tag never turns back to false as it grows (the tag is ASCII, so a cut character at the end cannot hide
        // it), hence bisection: n log n tokens decoded instead of n squared.
        var (low, high) = (0, tokens.Length);
        while (high - low > 1)
        {
            var middle = low + ((high - low) / 2);
            if (Holds(tokenizer, tokens[..middle], tag)) high = middle;
            else low = middle;
        }

        return high;
    }

    /// <summary>
    /// How many tokens at the start of a response the next turn's context drops: those up to and including the tag, all of them kept
    /// without it.
    /// </summary>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="tokens">The response.</param>
    /// <param name="discardedEnd">The tag; null for formats that keep all of a response.</param>
    public static int Discarded(ITokenizer tokenizer, ReadOnlySpan<int> tokens, string? discardedEnd) =>
        discardedEnd is null ? 0 : Math.Max(0, LengthThrough(tokenizer, tokens, discardedEnd));

    private static bool Holds(ITokenizer tokenizer, ReadOnlySpan<int> tokens, string tag) =>
        tokenizer.Decode(tokens).Contains(tag, StringComparison.Ordinal);
}
