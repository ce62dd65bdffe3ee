using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>Reads a lease as it came over the wire.</summary>
internal static class LeaseReader
{
    /// <summary>What makes a lease unplayable, as one sentence; null when nothing does.</summary>
    public static string? Problem(TaskLease lease)
    {
        if (lease.EpisodeId.Length == 0)
            return "episode_id is empty.";
        if (lease.Attempt < 1)
            return $"attempt is {lease.Attempt}; it counts from 1.";
        if (lease.Task is null || lease.Task.Objectives.Count == 0)
            return "task has no objectives.";
        foreach (var objective in lease.Task.Objectives)
        {
            if (objective.GoldenAnswers.Count == 0)
                return $"objective {objective.Id} has no golden answers.";
        }
        if (lease.Sampling is not { } sampling)
            return "sampling is missing.";
        if (sampling.MaxNewTokens < 1)
            return $"sampling.max_new_tokens is {sampling.MaxNewTokens}; it must be at least 1.";
        if (!(sampling.TopP is > 0 and <= 1))
            return $"sampling.top_p is {sampling.TopP}; it must lie in (0, 1].";
        if (!(sampling.Temperature >= 0 && float.IsFinite(sampling.Temperature)))
            return $"sampling.temperature is {sampling.Temperature}; it must be 0 or more.";
        return null;
    }

    /// <summary>The task as the environment's factory takes it.</summary>
    public static EnvironmentTask Task(TaskLease lease) => new(
        lease.TaskId,
        [.. lease.Task.Objectives.Select(o => new Objective(o.Id, o.Question, [.. o.GoldenAnswers]))])
    {
        Environment = lease.Task.Environment,
    };
}
