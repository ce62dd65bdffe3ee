// Invariants: a task names its goal by number, so it means the same to every process with the same goals; every goal of the range is
// played once per epoch.

using System.Globalization;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>
/// The goals of a shop as tasks of one objective: the question is the instruction and the golden answer the target's identifier. An epoch
/// is one seeded permutation of the goals. Thread-safe.
/// </summary>
public sealed class WebShopTaskSource : ITaskSource
{
    private const string GoalPrefix = "goal-";

    // The original keeps the first 500 goals of its order for testing.
    private const int PublishedTestGoals = 500;

    // Of a shop with few goals at most this share is kept from training.
    private const int LeastTrainingShare = 5;

    private readonly ShopGoals _goals;
    private readonly string _name;
    private readonly int _first;

    /// <summary>Plays a range of the goals.</summary>
    /// <param name="name">First part of the tasks' ids.</param>
    /// <param name="goals">The goals.</param>
    /// <param name="first">Number of the first goal.</param>
    /// <param name="count">How many goals.</param>
    /// <exception cref="ArgumentOutOfRangeException">The range is empty or leaves the goals.</exception>
    public WebShopTaskSource(string name, ShopGoals goals, int first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, goals.Count - first);
        (_name, _goals, _first, Count) = (name, goals, first, count);
    }

    /// <inheritdoc/>
    public IReadOnlyList<int>? ObjectiveCounts { get; } = [1];

    /// <summary>Goals there are to choose from.</summary>
    public int Count { get; }

    /// <summary>The goals to test on: the first 500, as published, or a fifth of a smaller shop's.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer than two goals.</exception>
    public static WebShopTaskSource Test(ShopGoals goals) => new("test", goals, 0, TestCount(goals));

    /// <summary>The goals to train on: all others.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer than two goals.</exception>
    public static WebShopTaskSource Training(ShopGoals goals) => new("train", goals, TestCount(goals), goals.Count - TestCount(goals));

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">The index is negative, or more than one objective is asked for.</exception>
    public EnvironmentTask Get(long index, int objectives, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfNotEqual(objectives, 1);
        (long epoch, long position) = Math.DivRem(index, Count);
        int goal = _first + (int)new SeededPermutation(Count, SeededRandom.Mix(seed, (ulong)epoch))[position];
        return Task($"{_name}-s{seed}-i{index}", goal, _goals);
    }

    /// <summary>The task of one goal.</summary>
    internal static EnvironmentTask Task(string id, int goal, ShopGoals goals) =>
        new(id, [new Objective($"{GoalPrefix}{goal}", goals.Goals[goal].Instruction, [goals.Goals[goal].Asin])]);

    /// <summary>The goal of a task.</summary>
    /// <exception cref="ArgumentException">The task is not one of this shop.</exception>
    internal static int GoalOf(EnvironmentTask task, ShopGoals goals)
    {
        if (task.Objectives is [{ } only]
            && only.Id.StartsWith(GoalPrefix, StringComparison.Ordinal)
            && int.TryParse(only.Id.AsSpan(GoalPrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int goal)
            && goal < goals.Count && goals.Goals[goal].Instruction == only.Question)
        {
            return goal;
        }
        throw new ArgumentException($"Task {task.Id} is not one of this shop.", nameof(task));
    }

    private static int TestCount(ShopGoals goals) => Math.Min(PublishedTestGoals, Math.Max(1, goals.Count / LeastTrainingShare));
}
