// An environment of a user's own with a mistake that can be called up: it hands back null, which brings the actor of that episode down. It
// is loaded from this assembly by real processes (--env). Keeps: one crash each time it is called up, and the moment of it on record.
using System.Globalization;
using Mem1.Environments;

namespace Mem1.Dashboard.Tests;

/// <summary>Every episode is one response long, in the words of the built-in model; whatever it says is worth nothing.</summary>
public sealed class FragileModule : IEnvironmentModule, IEnvironmentFactory, ITaskSource
{
    /// <summary>Environment variable with the file whose presence calls the mistake up.</summary>
    public const string Variable = "MEM1_TEST_FRAGILE";

    /// <summary>To the name of that file: where the moment of the crash is written, in milliseconds of Unix time.</summary>
    public const string At = ".at";

    public IEnvironmentFactory Factory => this;

    public ITaskSource Training => this;

    public ITaskSource HeldOut => this;

    public IReadOnlyList<int>? ObjectiveCounts => [1];

    public string Name => "fragile";

    public IReadOnlyList<string> StopStrings => ["</search>", "</answer>"];

    public string InternalStateEnd => "</think>";

    public string ObservationEnd => "</information>";

    public IEnvironment Create(EnvironmentTask task, ulong seed) => new Episode();

    public EnvironmentTask Get(long index, int objectives, ulong seed) =>
        new(string.Create(CultureInfo.InvariantCulture, $"fragile-{index}"), [new Objective("0", "Chad capital", ["Fiji"])]);

    private sealed class Episode : IEnvironment
    {
        private static readonly string? s_call = Environment.GetEnvironmentVariable(Variable);

        public string Prompt => "<task> Chad capital ; <end>";

        public int MaxTurns => 1;

        public ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
        {
            if (s_call is { Length: > 0 } && File.Exists(s_call))
            {
                try
                {
                    File.Move(s_call, s_call + ".heard");
                    var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture);
                    File.WriteAllText(s_call + At, now);
                    return ValueTask.FromResult<TurnResult>(null!);
                }
                catch (IOException)
                {
                    // Another episode was faster.
                }
            }

            return ValueTask.FromResult(Abort(EpisodeEnd.TurnLimit));
        }

        public TurnResult Abort(EpisodeEnd reason) => new("", reason, new EpisodeScore(0, [0], [0], ""));

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
