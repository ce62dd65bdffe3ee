// Keeps: what a token sees is said by three numbers, whatever the layout, so that one attention path serves all of them and no [S, S] mask
// ever exists; a batch that points outside itself cannot be made.
namespace Mem1.Model;

/// <summary>
/// What one token of a row attends to: the first <paramref name="Trunk"/> tokens of the row's trunk, the previous row's tokens from
/// <paramref name="Previous"/> on, and its own row's tokens from <paramref name="Own"/> up to and including itself.
/// </summary>
/// <param name="Trunk">Trunk tokens seen, from the first.</param>
/// <param name="Previous">First token of the previous row that is seen; <see cref="Nothing"/> sees none of it.</param>
/// <param name="Own">First token of the own row that is seen.</param>
public readonly record struct TokenView(int Trunk, int Previous, int Own)
{
    /// <summary>For <see cref="Previous"/>: nothing of the previous row.</summary>
    public const int Nothing = int.MaxValue;
}

/// <summary>How a row goes on from another one (layouts in which a turn reads the turn before as it was computed there).</summary>
/// <param name="Previous">The row it reads; -1 for none. That row must be another one and of the same trunk.</param>
/// <param name="Start">Position of the row's first token; the others follow it.</param>
/// <param name="TrunkBefore">Trunk tokens in what the convolutions run over before the row, from the first.</param>
/// <param name="PreviousFrom">First token of the previous row in what the convolutions run over, between those and the row.</param>
/// <param name="Views">One per token of the row.</param>
public sealed record RowLink(int Previous, int Start, int TrunkBefore, int PreviousFrom, TokenView[] Views);

/// <summary>
/// Turns of trajectories as rows that share the prompts they began with, so that cost and memory grow linearly in the number of turns and
/// no [S, S] mask ever exists.
/// </summary>
/// <remarks>
/// Without links, a trunk is a prompt without its last token; a row is that last token followed by everything the turn adds (kept context,
/// then what was generated). Keeping the prompt's last token in the row means that every prediction, the first included, is made inside a
/// row. A row's token sees its trunk and the row's own earlier tokens: the visibility rule of the <c>segments</c> layout.
/// With links (<see cref="RowLink"/>), a row also reads keys and values of one other row, layer by layer, and each token says what it sees:
/// the single-copy layouts.
/// </remarks>
public sealed class TurnBatch
{
    /// <summary>Makes a batch. Rows must not be empty; trunks may be.</summary>
    /// <param name="trunks">T arrays of token ids.</param>
    /// <param name="rows">R arrays of token ids.</param>
    /// <param name="trunkOfRow">R indices into <paramref name="trunks"/>.</param>
    /// <param name="links">R links, or null: every row sees its whole trunk and itself, causally.</param>
    /// <exception cref="ArgumentException">A row is empty, points to no trunk, or its link points outside the batch.</exception>
    public TurnBatch(
        IReadOnlyList<int[]> trunks, IReadOnlyList<int[]> rows, IReadOnlyList<int> trunkOfRow, IReadOnlyList<RowLink>? links = null)
    {
        if (rows.Count == 0 || rows.Count != trunkOfRow.Count)
            throw new ArgumentException("A turn batch needs at least one row and one trunk index per row.", nameof(rows));
        for (var r = 0; r < rows.Count; r++)
        {
            if (rows[r].Length == 0) throw new ArgumentException($"Row {r} is empty.", nameof(rows));
            if ((uint)trunkOfRow[r] >= (uint)trunks.Count)
                throw new ArgumentException($"Row {r} points to trunk {trunkOfRow[r]} of {trunks.Count}.", nameof(trunkOfRow));
        }

        if (links is not null) Check(trunks, rows, trunkOfRow, links);
        Trunks = trunks;
        Rows = rows;
        TrunkOfRow = trunkOfRow;
        Links = links;
        // A trunk width of at least 1 keeps every tensor non-empty; the pad column is masked like any other pad.
        TrunkWidth = Math.Max(1, trunks.Max(t => t.Length));
        RowWidth = rows.Max(r => r.Length);
    }

    /// <summary>Prompts without their last token; whole prompts in a linked batch.</summary>
    public IReadOnlyList<int[]> Trunks { get; }

    /// <summary>The last prompt token and the turn's own tokens; in a linked batch the turn's tokens.</summary>
    public IReadOnlyList<int[]> Rows { get; }

    /// <summary>For each row, its trunk.</summary>
    public IReadOnlyList<int> TrunkOfRow { get; }

    /// <summary>For each row, what it goes on from; null when every row stands on its trunk alone.</summary>
    public IReadOnlyList<RowLink>? Links { get; }

    /// <summary>Padded width of the trunks, P.</summary>
    public int TrunkWidth { get; }

    /// <summary>Padded width of the rows, L.</summary>
    public int RowWidth { get; }

    /// <summary>Index of a row's token in the flattened [R * L] order of <see cref="TorchDecoder.Forward"/>'s result.</summary>
    public long FlatIndex(int row, int offset) => ((long)row * RowWidth) + offset;

    /// <summary>Position of a row's first token.</summary>
    internal int Start(int row) => Links is null ? Trunks[TrunkOfRow[row]].Length : Links[row].Start;

    /// <summary>What a token of a row sees.</summary>
    internal TokenView View(int row, int offset) =>
        Links is null ? new TokenView(Trunks[TrunkOfRow[row]].Length, TokenView.Nothing, 0) : Links[row].Views[offset];

    /// <summary>How many tokens a token of a row sees, itself included.</summary>
    internal int Visible(int row, int offset)
    {
        var view = View(row, offset);
        var previous = Links is null || Links[row].Previous < 0 ? 0 : Math.Max(0, Rows[Links[row].Previous].Length - view.Previous);
        return view.Trunk + previous + offset - view.Own + 1;
    }

    private static void Check(
        IReadOnlyList<int[]> trunks, IReadOnlyList<int[]> rows, IReadOnlyList<int> trunkOfRow, IReadOnlyList<RowLink> links)
    {
        if (links.Count != rows.Count) throw new ArgumentException("A linked batch needs one link per row.", nameof(links));
        for (var r = 0; r < rows.Count; r++)
        {
            var (link, trunk) = (links[r], trunks[trunkOfRow[r]].Length);
            if (link.Previous >= rows.Count || link.Previous == r || link.Previous < -1
                || (link.Previous >= 0 && trunkOfRow[link.Previous] != trunkOfRow[r]))
            {
                throw new ArgumentException(
                    $"Row {r} goes on from row {link.Previous}, which is none of its trunk's others.", nameof(links));
            }

            var previous = link.Previous < 0 ? 0 : rows[link.Previous].Length;
            if (link.Views.Length != rows[r].Length || link.Start < 0 || (uint)link.TrunkBefore > (uint)trunk
                || (uint)link.PreviousFrom > (uint)previous)
                throw new ArgumentException($"The link of row {r} does not fit the row or its trunk.", nameof(links));
            for (var i = 0; i < link.Views.Length; i++)
            {
                var view = link.Views[i];
                if ((uint)view.Trunk > (uint)trunk || view.Previous < 0 || (uint)view.Own > (uint)i)
                    throw new ArgumentException($"Token {i} of row {r} sees what is not there, or what comes after it.", nameof(links));
            }
        }
    }
}
