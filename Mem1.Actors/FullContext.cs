// Invariants: those of IEpisodeContext, and nothing is ever dropped: a context is the one before it with the last turn behind it.
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>The context of an agent that forgets nothing: the prompt and every turn so far. Starts at turn 0, with the prompt alone.</summary>
internal sealed class FullContext : IEpisodeContext
{
    private readonly List<ContextSegment> _segments;
    private readonly int _limit;
    private int _length;

    /// <exception cref="ArgumentException">The prompt is empty or leaves no room for a token.</exception>
    public FullContext(int[] prompt, int limit)
    {
        IEpisodeContext.Require(prompt, limit);
        _segments = [new ContextSegment(SegmentKind.Prompt, prompt)];
        (_limit, _length) = (limit, prompt.Length);
    }

    /// <inheritdoc/>
    public int Turn { get; private set; }

    /// <inheritdoc/>
    public int PromptLength => _segments[0].Tokens.Length;

    /// <inheritdoc/>
    public int Room => _limit - _length;

    /// <inheritdoc/>
    public IEnumerable<ContextSegment> Segments => _segments;

    /// <inheritdoc/>
    public bool NextFits(int kept, int information) => _length + kept + information < _limit;

    /// <inheritdoc/>
    public int[] ToArray() => [.. _segments.SelectMany(s => s.Tokens)];

    /// <inheritdoc/>
    public void Advance(int[] state, int[] action, int[] information)
    {
        if (!NextFits(state.Length + action.Length, information.Length))
            throw new InvalidOperationException("The context of the next turn does not fit; the episode should have ended.");
        Add(SegmentKind.InternalState, state);
        Add(SegmentKind.Action, action);
        Add(SegmentKind.Information, information);
        Turn++;
    }

    private void Add(SegmentKind kind, int[] tokens)
    {
        if (tokens.Length > 0)
            _segments.Add(new ContextSegment(kind, tokens));
        _length += tokens.Length;
    }
}
