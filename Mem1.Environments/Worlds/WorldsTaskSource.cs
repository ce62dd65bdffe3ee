// Invariants: a task depends only on (index, objectives, seed); within a task asked entities are distinct and golden values are
// distinct.

using Mem1.Environments.Common;

namespace Mem1.Environments.Worlds;

/// <summary>
/// Tasks of the worlds family. An objective's question is "entity relation" and its golden answer one value, drawn anew for every task,
/// so nothing can be learned by heart. Thread-safe.
/// </summary>
public sealed class WorldsTaskSource : ITaskSource
{
    // Keeps the stream of tasks apart from that of worlds when a caller gives both the same seed.
    private const ulong Purpose = 0x7461736b;

    private readonly WorldsOptions _options;

    /// <summary>Makes the source.</summary>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WorldsTaskSource(WorldsOptions options)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _options = options;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">
    /// The index is negative, or the number of objectives is not in [1, <see cref="WorldsOptions.MaxObjectives"/>].
    /// </exception>
    public EnvironmentTask Get(long index, int objectives, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfLessThan(objectives, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(objectives, WorldsOptions.MaxObjectives);

        var random = new SeededRandom(Purpose, seed, (ulong)index, (ulong)objectives);
        int[] entities = [.. Enumerable.Range(0, WorldsVocabulary.Entities.Count)];
        random.Shuffle<int>(entities);
        int relations = WorldsVocabulary.Relations.Count;
        int? shared = random.Chance(_options.SameRelationProbability) ? random.Next(relations) : null;

        string id = $"worlds-s{seed}-n{objectives}-i{index}";
        var asked = new Objective[objectives];
        var used = new HashSet<string>(StringComparer.Ordinal);
        for (int k = 0; k < objectives; k++)
        {
            int relation = shared ?? random.Next(relations);
            string value;
            do
            {
                value = WorldsVocabulary.Value(relation, random.Next(WorldsVocabulary.ValuesPerRelation));
            }
            while (!used.Add(value));
            asked[k] = new Objective(
                $"{id}-{k}", $"{WorldsVocabulary.Entities[entities[k]]} {WorldsVocabulary.Relations[relation]}", [value]);
        }
        return new EnvironmentTask(id, asked);
    }
}
