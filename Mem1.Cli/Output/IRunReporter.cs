using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Output;

/// <summary>Result of an evaluation: mean exact match (share of objectives) by number of objectives.</summary>
/// <param name="ExactMatch">By number of objectives.</param>
/// <param name="Episodes">Episodes played for each number of objectives.</param>
public sealed record EvaluationResult(IReadOnlyDictionary<int, double> ExactMatch, IReadOnlyDictionary<int, int> Episodes);

/// <summary>What a run shows while it goes. Called from several threads; implementations lock.</summary>
internal interface IRunReporter : IDisposable
{
    /// <summary>Whether it prints JSON rather than for people.</summary>
    bool IsForMachines { get; }

    /// <summary>A phase begins ("cloning", "evaluating", ...).</summary>
    void Phase(string what);

    /// <summary>The learner is about to listen; whoever has more to serve at its port adds it.</summary>
    LearnerHostOptions Hosting(LearnerHostOptions options) => options;

    /// <summary>The learner serves; the session may be looked at from any thread, also after its end.</summary>
    void Serving(RunSession session)
    {
    }

    /// <summary>Progress of the phase, with the share done in [0, 1] and a few words.</summary>
    void Progress(double share, string detail);

    /// <summary>A sentence worth keeping on the screen.</summary>
    void Note(string sentence);

    /// <summary>Episodes finished of the batch being sampled.</summary>
    void Sampling(long update, int done, int of);

    /// <summary>An update is done.</summary>
    void Updated(UpdateMetrics metrics, int last);

    /// <summary>The run is over.</summary>
    void Closing(RunSummary summary);
}

/// <summary>What the closing table says; <c>GoOnWith</c> is the command that continues an interrupted run, null for a finished
/// one.</summary>
internal sealed record RunSummary(
    string Folder, string? GoOnWith, long Updates, double FirstReward, double LastReward, int Window,
    EvaluationResult? Before, EvaluationResult? After, double? ParityMax, TimeSpan Elapsed, long PeakRssBytes);
