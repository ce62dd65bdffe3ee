// Keeps: the pieces handed out, joined, are the text of all tokens up to the stop string, whatever the tokens were cut into; no piece ends
// within a character, nor gives away text that may turn out to be part of a stop string.
using System.Runtime.InteropServices;
using System.Text;
using Mem1.Model;

namespace Mem1.Cli.Serve;

/// <summary>The text of one continuation as its tokens arrive.</summary>
/// <param name="tokenizer">The model's.</param>
/// <param name="stops">Stop strings.</param>
/// <param name="keepStop">Whether the stop string stays.</param>
internal sealed class ChoiceText(ITokenizer tokenizer, IReadOnlyList<string> stops, bool keepStop)
{
    private readonly List<int> _tokens = [];
    private readonly StringBuilder _text = new();
    private readonly int _held = stops.Count == 0 ? 0 : stops.Max(s => s.Length) - 1;

    // Tokens before _from are done with; those from there to _read are in the text and give the next ones their surroundings (a space
    // between words, say).
    private int _from, _read, _given;

    /// <summary>Characters so far, those held back included.</summary>
    public int Length => _text.Length;

    /// <summary>The stop string that ended it, if one did.</summary>
    public string? Stop { get; private set; }

    /// <summary>Takes a token in.</summary>
    /// <returns>The text that is certain now and was not handed out before.</returns>
    public string Add(int token)
    {
        // The end of a text has no text.
        if (token == tokenizer.EndOfText) return "";
        _tokens.Add(token);
        var all = CollectionsMarshal.AsSpan(_tokens);
        var grown = tokenizer.Decode(all[_from..]);
        // A replacement character at the end may become a whole one with the next token.
        if (grown.EndsWith('\uFFFD')) return "";
        Take(grown);
        // The token that completes a stop string may bring all of it, and more; End cuts there.
        var upTo = Math.Min(_text.Length - _held, Completed());
        if (upTo > 0 && upTo < _text.Length && char.IsHighSurrogate(_text[upTo - 1])) upTo--;
        return Give(upTo);
    }

    /// <summary>All tokens are in.</summary>
    /// <param name="stopped">Whether a stop string ended it.</param>
    /// <returns>The rest of the text.</returns>
    public string End(bool stopped)
    {
        Take(tokenizer.Decode(CollectionsMarshal.AsSpan(_tokens)[_from..]));
        if (!stopped) return Give(_text.Length);
        var text = _text.ToString();
        var (at, found) = stops.Select(s => (At: text.IndexOf(s, StringComparison.Ordinal), Stop: s)).Where(s => s.At >= 0)
            .OrderBy(s => s.At + (keepStop ? s.Stop.Length : 0)).FirstOrDefault((text.Length, null!));
        Stop = found;
        return Give(keepStop && found is not null ? at + found.Length : at);
    }

    /// <summary>Where the first stop string that is whole begins; beyond all text without one.</summary>
    private int Completed()
    {
        // Nothing of a stop string has been given away, so it lies in what has not.
        var rest = _text.ToString(_given, _text.Length - _given);
        return stops.Select(s => rest.IndexOf(s, StringComparison.Ordinal)).Where(at => at >= 0).Select(at => at + _given)
            .DefaultIfEmpty(int.MaxValue).Min();
    }

    private void Take(string grown)
    {
        var known = tokenizer.Decode(CollectionsMarshal.AsSpan(_tokens)[_from.._read]).Length;
        _text.Append(grown, known, Math.Max(0, grown.Length - known));
        (_from, _read) = (_read, _tokens.Count);
    }

    private string Give(int upTo)
    {
        if (upTo <= _given) return "";
        var piece = _text.ToString(_given, upTo - _given);
        _given = upTo;
        return piece;
    }
}
