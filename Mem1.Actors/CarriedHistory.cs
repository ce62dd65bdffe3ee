// Invariants:
//  * All ids of the episode in order, each once: prompt, then the whole of every turn played. Ids are four bytes a token; what costs memory
//    are keys and values, and those are evicted turn by turn. This is what they can be computed from again.
//  * What a turn sees, before its predecessor's predecessor is evicted too, never exceeds the limit of visible tokens.
using Mem1.Model;

namespace Mem1.Actors;

/// <summary>The record of an episode whose context is carried from turn to turn instead of being read again.</summary>
internal sealed class CarriedHistory
{
    private readonly List<int> _tokens;
    private readonly List<CarriedTurn> _turns = [];
    private readonly int _prompt;
    private readonly int _visibleLimit;
    private readonly int _episodeLimit;
    private int _kept;

    /// <param name="prompt">Token ids.</param>
    /// <param name="visibleLimit">Tokens that may be visible at once.</param>
    /// <param name="episodeLimit">Tokens that the whole episode may have.</param>
    public CarriedHistory(int[] prompt, int visibleLimit, int episodeLimit)
    {
        _tokens = [.. prompt];
        _prompt = prompt.Length;
        (_visibleLimit, _episodeLimit) = (visibleLimit, episodeLimit);
    }

    /// <summary>How many tokens may be generated in this turn.</summary>
    public int Room => Math.Min(_visibleLimit - _prompt - _kept, _episodeLimit - _tokens.Count);

    /// <summary>The context of this turn's request.</summary>
    public int[] Context => [.. _tokens];

    /// <summary>How it came about.</summary>
    public CarriedTurns Turns => new(_prompt, [.. _turns]);

    /// <summary>Whether this turn, read whole, is within the limits and leaves the episode room for one more token.</summary>
    public bool NextFits(int generated, int information) =>
        _prompt + _kept + generated + information <= _visibleLimit && _tokens.Count + generated + information < _episodeLimit;

    /// <summary>Goes to the next turn.</summary>
    /// <param name="generated">Everything that was generated.</param>
    /// <param name="discarded">How many of its tokens, at the start, the next turn does not see.</param>
    /// <param name="information">The observation.</param>
    public void Add(int[] generated, int discarded, int[] information)
    {
        _tokens.AddRange(generated);
        _tokens.AddRange(information);
        _turns.Add(new CarriedTurn(generated.Length + information.Length, discarded));
        _kept = generated.Length + information.Length - discarded;
    }
}
