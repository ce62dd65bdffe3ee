// Invariants: a task depends only on (index, objectives, seed) and the questions; no question stands twice in a task unless there are
// fewer questions than objectives; every question is asked at least once per epoch, if all weigh the same.

using Mem1.Environments.Common;

namespace Mem1.Environments.Tasks;

/// <summary>
/// Composes N questions into one task (MEM1, section 4.1). Questions of one weight: an epoch is one seeded permutation of them, cut into
/// tasks of N; the last task of an epoch is filled up from its beginning. Questions of different weights: each is drawn in proportion to
/// its weight, and there are no epochs. Thread-safe; any index costs the same.
/// </summary>
public sealed class CompositeTaskSource : ITaskSource
{
    private readonly string _name;
    private readonly IReadOnlyList<Objective> _objectives;
    private readonly WeightedIndex? _weights;

    /// <summary>Makes the source.</summary>
    /// <param name="name">First part of the tasks' ids.</param>
    /// <param name="objectives">The questions to choose from; not empty.</param>
    /// <param name="weights">A weight above 0 for each question; null when all weigh the same.</param>
    public CompositeTaskSource(string name, IReadOnlyList<Objective> objectives, IReadOnlyList<double>? weights = null)
    {
        ArgumentOutOfRangeException.ThrowIfZero(objectives.Count, nameof(objectives));
        if (weights is not null && weights.Count != objectives.Count)
            throw new ArgumentException($"There are {weights.Count} weights for {objectives.Count} questions.", nameof(weights));
        _name = name;
        _objectives = objectives;
        _weights = weights is null || weights.All(w => w == weights[0]) ? null : new WeightedIndex(weights);
    }

    /// <summary>Questions there are to choose from.</summary>
    public int Count => _objectives.Count;

    /// <summary>Tasks of an epoch.</summary>
    /// <param name="objectives">Objectives per task.</param>
    public long TasksPerEpoch(int objectives) => Math.Max(1, (Count + objectives - 1L) / objectives);

    /// <inheritdoc/>
    public EnvironmentTask Get(long index, int objectives, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfLessThan(objectives, 1);
        int[] chosen = _weights is null ? OfEpoch(index, objectives, seed) : Drawn(_weights, index, objectives, seed);
        return new EnvironmentTask($"{_name}-s{seed}-n{objectives}-i{index}", [.. chosen.Select(i => _objectives[i])]);
    }

    private int[] OfEpoch(long index, int objectives, ulong seed)
    {
        (long epoch, long task) = Math.DivRem(index, TasksPerEpoch(objectives));
        var permutation = new SeededPermutation(Count, SeededRandom.Mix(seed, (ulong)epoch, (ulong)objectives));
        var chosen = new int[objectives];
        for (int k = 0; k < objectives; k++)
            chosen[k] = (int)permutation[((task * objectives) + k) % Count];
        return chosen;
    }

    private int[] Drawn(WeightedIndex weights, long index, int objectives, ulong seed)
    {
        // Draws until a new question comes; after this many, weights are so uneven that the next free question is taken instead.
        const int Attempts = 64;
        var random = new SeededRandom(seed, (ulong)index, (ulong)objectives);
        var used = new HashSet<int>();
        var chosen = new int[objectives];
        for (int k = 0; k < objectives; k++)
        {
            int drawn = weights.At(random.NextDouble());
            for (int attempt = 1; used.Contains(drawn) && used.Count < Count; attempt++)
                drawn = attempt < Attempts ? weights.At(random.NextDouble()) : (drawn + 1) % Count;
            used.Add(drawn);
            chosen[k] = drawn;
        }
        return chosen;
    }
}

/// <summary>
/// Tasks as they were composed. Those of one weight are given out in a new seeded order every epoch, others in proportion to their
/// weights. Thread-safe; any index costs the same.
/// </summary>
public sealed class ComposedTaskSource : ITaskSource
{
    private readonly string _name;
    private readonly SortedDictionary<int, (TaskEntry[] Entries, WeightedIndex? Weights)> _byCount = [];

    /// <summary>Makes the source.</summary>
    /// <param name="name">First part of the tasks' ids.</param>
    /// <param name="entries">The tasks; not empty.</param>
    public ComposedTaskSource(string name, IReadOnlyList<TaskEntry> entries)
    {
        ArgumentOutOfRangeException.ThrowIfZero(entries.Count, nameof(entries));
        _name = name;
        foreach (var group in entries.GroupBy(e => e.Task.Objectives.Count))
        {
            TaskEntry[] tasks = [.. group];
            bool even = tasks.All(t => t.Weight == tasks[0].Weight);
            _byCount[group.Key] = (tasks, even ? null : new WeightedIndex([.. tasks.Select(t => t.Weight)]));
        }
        ObjectiveCounts = [.. _byCount.Keys];
    }

    /// <inheritdoc/>
    public IReadOnlyList<int>? ObjectiveCounts { get; }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">No task has this many objectives; see <see cref="ObjectiveCounts"/>.</exception>
    public EnvironmentTask Get(long index, int objectives, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        if (!_byCount.TryGetValue(objectives, out var tasks))
            throw new ArgumentOutOfRangeException(nameof(objectives), objectives, "No task has this many objectives.");
        int chosen;
        if (tasks.Weights is { } weights)
        {
            chosen = weights.At(new SeededRandom(seed, (ulong)index, (ulong)objectives).NextDouble());
        }
        else
        {
            (long epoch, long position) = Math.DivRem(index, tasks.Entries.Length);
            chosen = (int)new SeededPermutation(tasks.Entries.Length, SeededRandom.Mix(seed, (ulong)epoch, (ulong)objectives))[position];
        }
        EnvironmentTask task = tasks.Entries[chosen].Task;
        return task with { Id = $"{_name}-s{seed}-n{objectives}-i{index}/{task.Id}" };
    }
}
