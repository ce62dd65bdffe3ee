// Invariants:
//  * Cuts fall between tokens; the ids on both sides are the ones that came in, in order. Text is only looked at, never encoded again.
using Mem1.Model;

namespace Mem1.Actors;

/// <summary>Where the parts of a response lie, as counts of tokens.</summary>
public static class ResponseTokens
{
    /// <summary>
    /// Splits a response after the token that completes the tag which closes the internal state. Without that tag there is no internal
    /// state and all of it is action.
    /// </summary>
    public static (int[] State, int[] Action) Split(int[] tokens, string internalStateEnd, ITokenizer tokenizer)
    {
        var length = ResponseParts.LengthThrough(tokenizer, tokens, internalStateEnd);
        return length < 0 ? ([], tokens) : (tokens[..length], tokens[length..]);
    }

    /// <summary>What the next turn's context keeps of the two parts: all that follows the discarded tokens.</summary>
    public static (int[] State, int[] Action) Kept(int[] state, int[] action, string? discardedEnd, ITokenizer tokenizer)
    {
        var count = ResponseParts.Discarded(tokenizer, [.. state, .. action], discardedEnd);
        return count <= state.Length ? (state[count..], action) : ([], action[(count - state.Length)..]);
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
}
