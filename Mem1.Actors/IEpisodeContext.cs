// Invariants:
//  * Tokens in, tokens out: what was generated or observed is stored and served as the same ids; no text passes through here.
//  * Length + 1 <= limit at all times: there is always room for one more token.
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>A part of a context.</summary>
internal readonly record struct ContextSegment(SegmentKind Kind, int[] Tokens);

/// <summary>What the policy continues in each turn of an episode.</summary>
internal interface IEpisodeContext
{
    /// <summary>Turns played so far; the number of the turn whose context this is.</summary>
    int Turn { get; }

    /// <summary>Tokens of the prompt.</summary>
    int PromptLength { get; }

    /// <summary>How many tokens may be generated on the context; at least 1.</summary>
    int Room { get; }

    /// <summary>The parts in order, prompt first; parts without tokens are left out.</summary>
    IEnumerable<ContextSegment> Segments { get; }

    /// <summary>Whether the context of the next turn would leave room for one token.</summary>
    /// <param name="kept">Tokens kept of the response.</param>
    /// <param name="information">Tokens of the observation.</param>
    bool NextFits(int kept, int information);

    /// <summary>The tokens the policy continues.</summary>
    int[] ToArray();

    /// <summary>Goes to the next turn.</summary>
    /// <param name="state">What is kept of the internal state.</param>
    /// <param name="action">What is kept of the action.</param>
    /// <param name="information">The observation.</param>
    /// <exception cref="InvalidOperationException">They do not fit; ask <see cref="NextFits"/> first.</exception>
    void Advance(int[] state, int[] action, int[] information);

    /// <summary>Whether a prompt leaves room for one token.</summary>
    static bool PromptFits(int[] prompt, int limit) => prompt.Length < limit;

    /// <summary>Throws unless a prompt can begin a context.</summary>
    /// <exception cref="ArgumentException">The prompt is empty or leaves no room for a token.</exception>
    static void Require(int[] prompt, int limit)
    {
        if (prompt.Length == 0)
            throw new ArgumentException("The prompt has no tokens.", nameof(prompt));
        if (!PromptFits(prompt, limit))
            throw new ArgumentException($"A prompt of {prompt.Length} tokens leaves no room within {limit}.", nameof(prompt));
    }
}
