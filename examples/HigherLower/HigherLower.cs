// A whole environment in one file: find a number from 0 to 15 by asking. Nothing older than the last turn is shown to the agent, so it has
// to carry the bounds it knows in its <think> block.
//
//   prompt:      Find a number from 0 to 15.
//   response:    <think> 0 15 </think> <ask> 7 </ask>
//   observation: <said> higher </said>
//   last:        <think> 8 8 </think> <answer> 8 </answer>

using System.Globalization;
using Mem1.Environments;

namespace HigherLower;

/// <summary>What <c>mem1 train --env HigherLower.dll</c> looks for.</summary>
public sealed class HigherLowerModule : IEnvironmentModule
{
    public IEnvironmentFactory Factory { get; } = new HigherLowerFactory();

    public ITaskSource Training { get; } = new Numbers();

    public ITaskSource HeldOut => Training; // the same numbers, drawn with another seed

    public IExpert Expert { get; } = new Bisection();
}

/// <summary>The numbers to find. The same index and seed must give the same task.</summary>
internal sealed class Numbers : ITaskSource
{
    public IReadOnlyList<int> ObjectiveCounts => [1];

    public EnvironmentTask Get(long index, int objectives, ulong seed)
    {
        // Any mixing will do as long as it depends on index and seed alone.
        ulong mixed = ((ulong)index + (seed * 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9;
        string number = $"{(mixed ^ (mixed >> 31)) % 16}";
        return new EnvironmentTask($"number-{index}", [new Objective($"{index}", "Find a number from 0 to 15.", [number])]);
    }
}

internal sealed class HigherLowerFactory : IEnvironmentFactory
{
    public string Name => "higher-lower";

    public IReadOnlyList<string> StopStrings => ["</ask>", "</answer>"];

    public string InternalStateEnd => "</think>";

    public string ObservationEnd => "</said>";

    public IEnvironment Create(EnvironmentTask task, ulong seed) => new Episode(task.Objectives[0]);
}

/// <summary>One episode.</summary>
internal sealed class Episode(Objective objective) : IEnvironment
{
    private readonly int _number = int.Parse(objective.GoldenAnswers[0], CultureInfo.InvariantCulture);
    private int _turn;

    public string Prompt => objective.Question + "\n";

    public int MaxTurns => 6;

    public ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
    {
        string action = response.Split("</think>", 2)[^1];
        if (Between(action, "<answer>", "</answer>") is { } answer)
            return ValueTask.FromResult(End(EpisodeEnd.Answered, answer));
        if (Between(action, "<ask>", "</ask>") is not { } asked || !int.TryParse(asked, CultureInfo.InvariantCulture, out int guess))
            return ValueTask.FromResult(End(truncated ? EpisodeEnd.Length : EpisodeEnd.InvalidFormat));
        if (++_turn == MaxTurns)
            return ValueTask.FromResult(End(EpisodeEnd.TurnLimit));
        string said = guess < _number ? "higher" : guess > _number ? "lower" : "right";
        return ValueTask.FromResult(new TurnResult($"<said> {said} </said>", EpisodeEnd.None, null));
    }

    public TurnResult Abort(EpisodeEnd reason) => End(reason);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private TurnResult End(EpisodeEnd end, string answer = "")
    {
        double right = answer == objective.GoldenAnswers[0] ? 1 : 0;
        return new TurnResult("", end, new EpisodeScore(right, [right], [right], answer) { AnswerCount = answer.Length > 0 ? 1 : 0 });
    }

    private static string? Between(string text, string open, string close)
    {
        int start = text.IndexOf(open, StringComparison.Ordinal), end = text.IndexOf(close, StringComparison.Ordinal);
        return start >= 0 && end > start ? text[(start + open.Length)..end].Trim() : null;
    }
}

/// <summary>Plays by bisection, but guesses the answer one time in five: something to improve on.</summary>
internal sealed class Bisection : IExpert
{
    public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => new Game(new Random((int)(seed % int.MaxValue)));

    private sealed class Game(Random random) : IExpertEpisode
    {
        private int _low, _high = 15, _asked;

        public string Respond(string? observation)
        {
            if (observation is not null)
            {
                if (observation.Contains("higher", StringComparison.Ordinal)) _low = _asked + 1;
                else if (observation.Contains("lower", StringComparison.Ordinal)) _high = _asked - 1;
                else _low = _high = _asked;
            }
            _asked = (_low + _high) / 2;
            return _low == _high || random.Next(5) == 0
                ? $"<think> {_low} {_high} </think> <answer> {_asked} </answer>"
                : $"<think> {_low} {_high} </think> <ask> {_asked} </ask>";
        }
    }
}
