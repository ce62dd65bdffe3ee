// Keeps: whether an episode is kept depends on what it scored alone, never on the name of its file; an episode that is kept is written as
// it was, so that training on it sees the layout it was played in.
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Environments;

namespace Mem1.Learner;

/// <summary>Which episodes are worth imitating.</summary>
public sealed record DistillationOptions
{
    /// <summary>Smallest reward.</summary>
    public double? MinReward { get; init; }
    /// <summary>Every objective must be answered exactly.</summary>
    public bool AllCorrect { get; init; }
    /// <summary>Number of objectives of episodes whose file does not say; their score counts the right ones.</summary>
    public int? Objectives { get; init; }
    /// <summary>Every response must hold a closed state and end with the end of an action; null does not look.</summary>
    public IReadOnlyList<string>? ActionEnds { get; init; }
}

/// <summary>What became of the episodes.</summary>
/// <param name="Read">Lines read.</param>
/// <param name="Kept">Lines written.</param>
/// <param name="Below">Left out because of their score.</param>
/// <param name="Malformed">Left out because of the form of a response.</param>
/// <param name="Repeated">Left out because the very same episode was written before.</param>
public sealed record DistillationReport(int Read, int Kept, int Below, int Malformed, int Repeated);

/// <summary>Picks the episodes of a teacher that a student is to imitate.</summary>
public static class DistillationFilter
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Whether the score of an episode is good enough.</summary>
    /// <param name="episode">With its score.</param>
    /// <param name="options">What is asked.</param>
    /// <param name="file">Named in errors.</param>
    /// <param name="line">Named in errors.</param>
    /// <exception cref="DataFormatException">The file does not say what is asked for.</exception>
    public static bool IsGood(TrajectoryText episode, DistillationOptions options, string file, long line)
    {
        if (options.MinReward is { } least)
        {
            var reward = episode.Reward
                ?? throw new DataFormatException(file, "the episode has no reward, which --min-reward asks for", line, "reward");
            if (!(reward >= least)) return false;
        }

        if (!options.AllCorrect) return true;
        if (episode.ExactMatch is { Count: > 0 } each) return each.All(e => e >= 1);
        if (options.Objectives is not { } objectives || episode.Reward is not { } right)
        {
            throw new DataFormatException(
                file, "the episode does not say which objectives were answered; --objectives N says how many there are", line, "exact_match");
        }

        return right >= objectives;
    }

    /// <summary>Whether every response has a state and an action, each closed.</summary>
    /// <param name="episode">Which.</param>
    /// <param name="actionEnds">Closing tags of actions.</param>
    public static bool IsWellFormed(TrajectoryText episode, IReadOnlyList<string> actionEnds) => episode.Turns.All(t =>
        t.InternalState.Length > 0 && actionEnds.Any(end => t.Action.TrimEnd().EndsWith(end, StringComparison.Ordinal)));

    /// <summary>Writes the good episodes of some files, in order, each once.</summary>
    /// <param name="files">trajectories.jsonl of runs, or rollouts of the original implementation.</param>
    /// <param name="options">What is asked.</param>
    /// <param name="output">Where they go.</param>
    /// <exception cref="DataFormatException">Names the file, the line and the field at fault.</exception>
    public static DistillationReport Run(IEnumerable<string> files, DistillationOptions options, TextWriter output)
    {
        int read = 0, kept = 0, below = 0, malformed = 0, repeated = 0;
        var written = new HashSet<string>(StringComparer.Ordinal);
        foreach (var file in files)
        {
            foreach (var (line, document) in SftExamples.Lines(file))
            {
                using (document)
                {
                    read++;
                    var episode = TrajectoryText.Parse(document.RootElement, file, line);
                    var text = JsonSerializer.Serialize(
                        new { episode.TaskId, episode.Reward, episode.ExactMatch, episode.Prompt, episode.Turns }, Readable);
                    if (!IsGood(episode, options, file, line)) below++;
                    else if (options.ActionEnds is { } ends && !IsWellFormed(episode, ends)) malformed++;
                    else if (!written.Add(JsonSerializer.Serialize(new { episode.Prompt, episode.Turns }))) repeated++;
                    else
                    {
                        output.WriteLine(text);
                        kept++;
                    }
                }
            }
        }

        return new DistillationReport(read, kept, below, malformed, repeated);
    }
}
