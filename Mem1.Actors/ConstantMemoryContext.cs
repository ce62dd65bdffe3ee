// Invariants:
//  * The context is the prompt and the segments of the last turn, nothing older: its length is bounded by
//    prompt + response + observation whatever the number of turns.
//  * Those of IEpisodeContext.
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>
/// The constant memory of an episode: prompt ++ what is kept of the last turn's internal state and action ++ its information.
/// </summary>
internal sealed class ConstantMemoryContext : IEpisodeContext
{
    private readonly int[] _prompt;
    private readonly int _limit;
    private int[] _state = [];
    private int[] _action = [];
    private int[] _information = [];

    /// <summary>Starts at turn 0, with the prompt alone.</summary>
    /// <exception cref="ArgumentException">The prompt is empty or leaves no room for a token.</exception>
    public ConstantMemoryContext(int[] prompt, int limit)
    {
        IEpisodeContext.Require(prompt, limit);
        _prompt = prompt;
        _limit = limit;
    }

    /// <summary>Turns played so far; the number of the turn whose context this is.</summary>
    public int Turn { get; private set; }

    /// <inheritdoc/>
    public int PromptLength => _prompt.Length;

    /// <summary>Tokens in the context.</summary>
    public int Length => _prompt.Length + _state.Length + _action.Length + _information.Length;

    /// <summary>How many tokens may be generated on the context; at least 1.</summary>
    public int Room => _limit - Length;

    /// <summary>The parts in order, prompt first; parts without tokens are left out.</summary>
    public IEnumerable<ContextSegment> Segments
    {
        get
        {
            yield return new ContextSegment(SegmentKind.Prompt, _prompt);
            if (_state.Length > 0)
                yield return new ContextSegment(SegmentKind.InternalState, _state);
            if (_action.Length > 0)
                yield return new ContextSegment(SegmentKind.Action, _action);
            if (_information.Length > 0)
                yield return new ContextSegment(SegmentKind.Information, _information);
        }
    }

    /// <summary>Whether the context of the next turn would leave room for one token.</summary>
    /// <param name="kept">Tokens kept of the response.</param>
    /// <param name="information">Tokens of the observation.</param>
    public bool NextFits(int kept, int information) => _prompt.Length + kept + information < _limit;

    /// <summary>The tokens the policy continues.</summary>
    public int[] ToArray() => [.. _prompt, .. _state, .. _action, .. _information];

    /// <summary>Goes to the next turn: keeps the prompt and these segments, forgets everything else.</summary>
    /// <exception cref="InvalidOperationException">They do not fit; ask <see cref="NextFits"/> first.</exception>
    public void Advance(int[] state, int[] action, int[] information)
    {
        if (!NextFits(state.Length + action.Length, information.Length))
            throw new InvalidOperationException("The context of the next turn does not fit; the episode should have ended.");
        _state = state;
        _action = action;
        _information = information;
        Turn++;
    }
}
