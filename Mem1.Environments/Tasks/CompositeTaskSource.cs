// Invariants: a task depends only on (index, objectives, seed) and the questions; no question stands twice in a task unless there are
// fewer questions than objectives; every question is asked at least once per epoch.

using Mem1.Environments.Common;

namespace Mem1.Environments.Tasks;

/// <summary>
/// Composes N questions into one task (MEM1, section 4.1). An epoch is one seeded permutation of the questions, cut into tasks of N; the
/// last task of an epoch is filled up from its beginning. Thread-safe; any index costs the same.
/// </summary>
public sealed class CompositeTaskSource : ITaskSource
{
    private readonly string _name;
    private readonly IReadOnlyList<Objective> _objectives;

    /// <summary>Makes the source.</summary>
    /// <param name="name">First part of the tasks' ids.</param>
    /// <param name="objectives">The questions to choose from; not empty.</param>
    public CompositeTaskSource(string name, IReadOnlyList<Objective> objectives)
    {
        ArgumentOutOfRangeException.ThrowIfZero(objectives.Count, nameof(objectives));
        _name = name;
        _objectives = objectives;
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
        (long epoch, long task) = Math.DivRem(index, TasksPerEpoch(objectives));
        var permutation = new SeededPermutation(Count, SeededRandom.Mix(seed, (ulong)epoch, (ulong)objectives));
        var chosen = new Objective[objectives];
        for (int k = 0; k < objectives; k++)
            chosen[k] = _objectives[(int)permutation[((task * objectives) + k) % Count]];
        return new EnvironmentTask($"{_name}-s{seed}-n{objectives}-i{index}", chosen);
    }
}
