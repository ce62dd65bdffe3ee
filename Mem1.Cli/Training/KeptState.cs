using System.Text.Json;
using Mem1.Learner;

namespace Mem1.Cli.Training;

/// <summary>What a run keeps in its checkpoints beside what the learner does.</summary>
internal static class KeptState
{
    /// <summary>Something by its name; null if the checkpoint has none.</summary>
    /// <exception cref="UserErrorException">It is not what it should be.</exception>
    public static T? Kept<T>(this TrainingState state, string name)
        where T : class
    {
        try
        {
            return state.Extra.TryGetValue(name, out var json) ? json.Deserialize<T>() : null;
        }
        catch (JsonException e)
        {
            throw new UserErrorException(
                $"the checkpoint's state.json is damaged: extra.{name} is not what it should be; go on from an earlier one.", e);
        }
    }
}
