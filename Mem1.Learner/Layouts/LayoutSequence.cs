// Keeps: one entry per token of the sequence in every list; what a token sees are at most three spans that end at or before itself, so a
// mask is never stored, only answered for.
namespace Mem1.Learner;

/// <summary>What a token of a trajectory is.</summary>
public enum TokenKind
{
    /// <summary>Of the task.</summary>
    Prompt,
    /// <summary>Of the memory the model rewrites every turn.</summary>
    InternalState,
    /// <summary>Of a search or an answer.</summary>
    Action,
    /// <summary>Of what the environment said.</summary>
    Information,
}

/// <summary>Tokens <paramref name="From"/> up to but not including <paramref name="To"/> of a sequence.</summary>
public readonly record struct TokenSpan(int From, int To);

/// <summary>One token of a laid-out trajectory.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Position">Its position, as rotary embeddings count.</param>
/// <param name="Turn">The turn it belongs to; -1 for the prompt.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Copy">Whether it repeats a token of the turn before as context.</param>
/// <param name="Predictor">
/// The token whose output predicts it, where it carries a loss (it was generated, and this is not a copy); -1 elsewhere.
/// </param>
public readonly record struct LayoutToken(int Id, int Position, int Turn, TokenKind Kind, bool Copy, int Predictor)
{
    /// <summary>The loss mask.</summary>
    public bool Loss => Predictor >= 0;
}

/// <summary>A trajectory as one sequence: tokens, positions, visibility and loss mask.</summary>
public sealed class LayoutSequence
{
    private readonly List<LayoutToken> _tokens = [];
    private readonly List<TokenSpan[]> _seen = [];

    /// <summary>The tokens in order.</summary>
    public IReadOnlyList<LayoutToken> Tokens => _tokens;

    /// <summary>What a token attends to, itself included: spans in order that do not overlap.</summary>
    public IReadOnlyList<TokenSpan> Seen(int token) => _seen[token];

    /// <summary>Whether a token attends to another (or to itself).</summary>
    public bool Sees(int token, int other) => Array.Exists(_seen[token], s => other >= s.From && other < s.To);

    /// <summary>How many tokens a token attends to, itself included.</summary>
    public int Visible(int token) => _seen[token].Sum(s => s.To - s.From);

    internal int Count => _tokens.Count;

    internal void Add(LayoutToken token, params ReadOnlySpan<TokenSpan> seen)
    {
        var kept = new List<TokenSpan>(seen.Length);
        foreach (var span in seen)
        {
            if (span.To <= span.From) continue;
            if (kept.Count > 0 && kept[^1].To == span.From) kept[^1] = new TokenSpan(kept[^1].From, span.To);
            else kept.Add(span);
        }

        _tokens.Add(token);
        _seen.Add([.. kept]);
    }

    /// <summary>The prompt, causal, as every layout begins.</summary>
    internal static LayoutSequence OfPrompt(int[] prompt)
    {
        var sequence = new LayoutSequence();
        for (var i = 0; i < prompt.Length; i++)
            sequence.Add(new LayoutToken(prompt[i], i, -1, TokenKind.Prompt, Copy: false, Predictor: -1), new TokenSpan(0, i + 1));
        return sequence;
    }

    /// <summary>What the token at an offset of generated ++ observation of a turn is.</summary>
    internal static TokenKind KindOf(Turn turn, int offset) => offset < turn.StateLength ? TokenKind.InternalState
        : offset < turn.Generated.Length ? TokenKind.Action
        : TokenKind.Information;
}
