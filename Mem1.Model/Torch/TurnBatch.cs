namespace Mem1.Model;

/// <summary>
/// Turns of trajectories as rows that share the prompts they began with, so that cost and memory grow linearly in the number of turns and
/// no [S, S] mask ever exists.
/// </summary>
/// <remarks>
/// A trunk is a prompt without its last token; a row is that last token followed by everything the turn adds (kept context, then what was
/// generated). Keeping the prompt's last token in the row means that every prediction, the first included, is made inside a row.
/// A row's token sees its trunk and the row's own earlier tokens: the visibility rule of the <c>segments</c> layout.
/// </remarks>
public sealed class TurnBatch
{
    /// <summary>Makes a batch. Rows must not be empty; trunks may be.</summary>
    /// <param name="trunks">T arrays of token ids.</param>
    /// <param name="rows">R arrays of token ids.</param>
    /// <param name="trunkOfRow">R indices into <paramref name="trunks"/>.</param>
    /// <exception cref="ArgumentException">A row is empty or points to no trunk.</exception>
    public TurnBatch(IReadOnlyList<int[]> trunks, IReadOnlyList<int[]> rows, IReadOnlyList<int> trunkOfRow)
    {
        if (rows.Count == 0 || rows.Count != trunkOfRow.Count)
            throw new ArgumentException("A turn batch needs at least one row and one trunk index per row.", nameof(rows));
        for (var r = 0; r < rows.Count; r++)
        {
            if (rows[r].Length == 0) throw new ArgumentException($"Row {r} is empty.", nameof(rows));
            if ((uint)trunkOfRow[r] >= (uint)trunks.Count)
                throw new ArgumentException($"Row {r} points to trunk {trunkOfRow[r]} of {trunks.Count}.", nameof(trunkOfRow));
        }

        Trunks = trunks;
        Rows = rows;
        TrunkOfRow = trunkOfRow;
        // A trunk width of at least 1 keeps every tensor non-empty; the pad column is masked like any other pad.
        TrunkWidth = Math.Max(1, trunks.Max(t => t.Length));
        RowWidth = rows.Max(r => r.Length);
    }

    /// <summary>Prompts without their last token.</summary>
    public IReadOnlyList<int[]> Trunks { get; }

    /// <summary>The last prompt token and the turn's own tokens.</summary>
    public IReadOnlyList<int[]> Rows { get; }

    /// <summary>For each row, its trunk.</summary>
    public IReadOnlyList<int> TrunkOfRow { get; }

    /// <summary>Padded width of the trunks, P.</summary>
    public int TrunkWidth { get; }

    /// <summary>Padded width of the rows, L.</summary>
    public int RowWidth { get; }

    /// <summary>Index of a row's token in the flattened [R * L] order of <see cref="TorchDecoder.Forward"/>'s result.</summary>
    public long FlatIndex(int row, int offset) => ((long)row * RowWidth) + offset;
}
