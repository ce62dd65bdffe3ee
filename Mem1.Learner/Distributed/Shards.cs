// Keeps: every item belongs to exactly one rank; all ranks compute the same assignment from the same weights.
namespace Mem1.Learner;

/// <summary>Which items of a batch are whose.</summary>
internal static class Shards
{
    /// <summary>
    /// The items of a rank, in their order: heaviest first to whoever has least so far (longest processing time first), so that ranks wait
    /// little for each other.
    /// </summary>
    /// <param name="weights">Work of each item.</param>
    /// <param name="rank">Whose.</param>
    /// <param name="world">Number of ranks.</param>
    public static int[] Of(IReadOnlyList<long> weights, int rank, int world)
    {
        if (world == 1) return [.. Enumerable.Range(0, weights.Count)];
        var load = new long[world];
        var mine = new List<int>();
        foreach (var item in Enumerable.Range(0, weights.Count).OrderByDescending(i => weights[i]).ThenBy(i => i))
        {
            var least = Array.IndexOf(load, load.Min());
            load[least] += weights[item];
            if (least == rank) mine.Add(item);
        }

        mine.Sort();
        return [.. mine];
    }
}
