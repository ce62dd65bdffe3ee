// Invariant: a match is found with the token that completes it, however the stop string is cut into tokens, because the tail that is
// decoded always holds at least as many characters before that token as the longest stop string has.
using System.Collections.Concurrent;

namespace Mem1.Model.Generation;

/// <summary>Finds stop strings in a growing row of tokens. Thread-safe; one per tokenizer.</summary>
internal sealed class StopMatcher(ITokenizer tokenizer)
{
    /// <summary>Stands for bytes that are no character on their own; such a token may complete any character.</summary>
    private const char Replacement = '\uFFFD';

    private readonly ConcurrentDictionary<int, string> _texts = new();

    /// <summary>Whether the last token completes one of the stop strings.</summary>
    /// <param name="generated">What was drawn so far, context excluded.</param>
    /// <param name="stops">Stop strings; empty ones never match.</param>
    public bool Completes(List<int> generated, IReadOnlyList<string> stops)
    {
        if (stops.Count == 0 || generated.Count == 0)
            return false;
        string text = _texts.GetOrAdd(generated[^1], static (id, t) => t.Decode([id]), tokenizer);
        int longest = 0;
        bool possible = false;
        for (int i = 0; i < stops.Count; i++)
        {
            if (stops[i].Length == 0)
                continue;
            longest = Math.Max(longest, stops[i].Length);
            // A stop string ends inside this token, so its last character is in the token's text.
            possible |= text.Contains(stops[i][^1]) || text.Contains(Replacement);
        }
        if (!possible)
            return false;
        string tail = Tail(generated, text.Length + longest);
        for (int i = 0; i < stops.Count; i++)
        {
            if (stops[i].Length > 0 && tail.Contains(stops[i], StringComparison.Ordinal))
                return true;
        }
        return false;
    }

    /// <summary>The text of as few last tokens as give the wanted number of characters.</summary>
    private string Tail(List<int> generated, int wanted)
    {
        ReadOnlySpan<int> all = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(generated);
        // Most tokens have a character or more; byte tokens may need up to four for one, hence the doubling.
        for (int take = Math.Min(all.Length, 16); ; take = Math.Min(all.Length, 2 * take))
        {
            string text = tokenizer.Decode(all[^take..]);
            if (text.Length >= wanted + 1 || take == all.Length)
                return text;
        }
    }
}
