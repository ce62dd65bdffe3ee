// Keeps: what an agent sees at a turn is the prompt and a function of the turns before it; policies hold no state of their own, so an episode
// can be played beside others in any order. Tokens are kept as they were generated or observed; a cut falls between tokens.
using System.Globalization;

namespace Mem1.Cli.Evaluation;

/// <summary>A turn that was played.</summary>
/// <param name="Response">What was generated, whole.</param>
/// <param name="Kept">What the environment's format keeps of it (<see cref="Environments.IEnvironmentFactory.DiscardedEnd"/>).</param>
/// <param name="Observation">The environment's answer, clipped to the limit.</param>
/// <param name="Text">Response and observation as text.</param>
internal sealed record PastTurn(int[] Response, int[] Kept, int[] Observation, string Text)
{
    /// <summary>Tokens of the turn, whole.</summary>
    public int Length => Response.Length + Observation.Length;
}

/// <summary>What has happened in an episode.</summary>
internal sealed class EpisodeHistory
{
    private readonly List<PastTurn> _turns = [];

    /// <summary>The environment's prompt as text.</summary>
    public required string Prompt { get; init; }

    /// <summary>Turns in time order.</summary>
    public IReadOnlyList<PastTurn> Turns => _turns;

    /// <summary>The summary in place of the first <see cref="Summarised"/> turns.</summary>
    public int[] Summary { get; private set; } = [];

    /// <summary>How many turns the summary stands for.</summary>
    public int Summarised { get; private set; }

    /// <summary>Adds the turn just played.</summary>
    public void Add(PastTurn turn) => _turns.Add(turn);

    /// <summary>Puts a summary in the place of every turn so far.</summary>
    public void Summarise(int[] summary) => (Summary, Summarised) = (summary, _turns.Count);
}

/// <summary>Decides what of the turns so far follows the prompt in the next context.</summary>
internal interface IContextPolicy
{
    /// <summary>As on the command line.</summary>
    string Name { get; }

    /// <summary>Whether it forgets: whether the original's figures for compressed contexts are the ones to compare with.</summary>
    bool Forgets => true;

    /// <summary>The tokens that follow the prompt.</summary>
    int[] Select(EpisodeHistory history);

    /// <summary>Whether the model is to write a summary before the next turn.</summary>
    bool SummariseNow(EpisodeHistory history) => false;
}

/// <summary>Reads policies as the command line names them.</summary>
internal static class ContextPolicies
{
    // Without a number: a turn or two of ordinary questions over passages, what the paper's own context holds (last turn), and the
    // three notes that A-MEM's client takes.
    private const int StandardTruncation = 512, StandardWindow = 2, StandardSummary = 2, StandardRetrieval = 3;

    /// <summary>Reads "mem1,full,window:2".</summary>
    /// <exception cref="UserErrorException">A name is unknown, a number is missing or wrong, or a policy comes twice.</exception>
    public static IReadOnlyList<IContextPolicy> Parse(string list)
    {
        IContextPolicy[] policies = [.. list.Split(',', StringSplitOptions.TrimEntries).Select(One)];
        return policies.GroupBy(p => p.Name).FirstOrDefault(g => g.Count() > 1) is { } twice
            ? throw new UserErrorException($"--agents names {twice.Key} twice.")
            : policies;
    }

    private static IContextPolicy One(string text)
    {
        var parts = text.Split(':');
        int Number(int standard)
        {
            if (parts.Length == 1) return standard;
            return parts.Length == 2 && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n > 0 ? n
                : throw new UserErrorException($"--agents has \"{text}\"; after {parts[0]}: a whole number above 0 is expected.");
        }

        return parts[0] switch
        {
            "mem1" when parts.Length == 1 => new LastTurnPolicy(),
            "full" when parts.Length == 1 => new FullPolicy(),
            "truncate" => new TruncatePolicy(Number(StandardTruncation)),
            "window" => new WindowPolicy(Number(StandardWindow)),
            "summary" => new SummaryPolicy(Number(StandardSummary)),
            "retrieve" => new RetrievePolicy(Number(StandardRetrieval)),
            _ => throw new UserErrorException(
                $"--agents has \"{text}\"; the agents are mem1, full, truncate:TOKENS, window:TURNS, summary:TURNS and retrieve:TURNS."),
        };
    }

    public static IEnumerable<int> Whole(IEnumerable<PastTurn> turns) => turns.SelectMany(t => t.Response.Concat(t.Observation));

    private sealed class LastTurnPolicy : IContextPolicy
    {
        public string Name => "mem1";

        public int[] Select(EpisodeHistory history) => history.Turns is [.., var last] ? [.. last.Kept, .. last.Observation] : [];
    }

    private sealed class FullPolicy : IContextPolicy
    {
        public string Name => "full";

        public bool Forgets => false;

        public int[] Select(EpisodeHistory history) => [.. Whole(history.Turns)];
    }

    private sealed class TruncatePolicy(int tokens) : IContextPolicy
    {
        public string Name => string.Create(CultureInfo.InvariantCulture, $"truncate:{tokens}");

        public int[] Select(EpisodeHistory history)
        {
            int[] all = [.. Whole(history.Turns)];
            return all.Length <= tokens ? all : all[^tokens..];
        }
    }

    private sealed class WindowPolicy(int turns) : IContextPolicy
    {
        public string Name => string.Create(CultureInfo.InvariantCulture, $"window:{turns}");

        public int[] Select(EpisodeHistory history) => [.. Whole(history.Turns.TakeLast(turns))];
    }

    private sealed class SummaryPolicy(int turns) : IContextPolicy
    {
        public string Name => string.Create(CultureInfo.InvariantCulture, $"summary:{turns}");

        public int[] Select(EpisodeHistory history) => [.. history.Summary, .. Whole(history.Turns.Skip(history.Summarised))];

        public bool SummariseNow(EpisodeHistory history) => history.Turns.Count - history.Summarised >= turns;
    }

    private sealed class RetrievePolicy(int turns) : IContextPolicy
    {
        public string Name => string.Create(CultureInfo.InvariantCulture, $"retrieve:{turns}");

        public int[] Select(EpisodeHistory history)
        {
            if (history.Turns.Count == 0) return [];
            PastTurn[] older = [.. history.Turns.SkipLast(1)];
            var last = history.Turns[^1];
            // The question is part of the query: without it, what is found follows the last observation alone.
            var found = TurnMemory.Best([.. older.Select(t => t.Text)], $"{history.Prompt}\n{last.Text}", turns);
            return [.. Whole(found.Order().Select(i => older[i]).Append(last))];
        }
    }
}
