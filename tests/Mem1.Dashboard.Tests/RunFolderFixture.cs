using System.Globalization;

namespace Mem1.Dashboard.Tests;

/// <summary>A run's folder that a test writes.</summary>
internal sealed class RunFolderFixture : IDisposable
{
    public RunFolderFixture()
    {
        Path = Directory.CreateTempSubdirectory("mem1-dashboard-").FullName;
        File.WriteAllText(System.IO.Path.Combine(Path, "config.yaml"), "name: test\n");
    }

    public string Path { get; }

    public string MetricsPath => System.IO.Path.Combine(Path, "metrics.jsonl");

    public string TrajectoriesPath => System.IO.Path.Combine(Path, "trajectories.jsonl");

    public static string Metrics(long update, double reward, string more = "") => string.Create(
        CultureInfo.InvariantCulture,
        $"{{\"update\":{update},\"reward_mean\":{reward},\"em_1\":0.5,\"kl\":0.001,"
        + $"\"explained_variance\":null,\"rollout_tokens_per_s\":10{more}}}");

    public static string Trajectory(long update, string episode, string state = "I know nothing.", string action = "<search>x</search>") =>
        Json.Write(new
        {
            Update = update,
            EpisodeId = episode,
            TaskId = "t",
            Reward = 0.5,
            End = "answered",
            ExactMatch = new[] { 1.0, 0.0 },
            F1 = new[] { 1.0, 0.0 },
            Answer = "a",
            Prompt = "Find it.",
            PromptTokens = 3,
            Turns = new[]
            {
                new
                {
                    InternalState = state, Action = action, Information = "found",
                    ContextTokens = 0, GeneratedTokens = 5, ObservationTokens = 2,
                },
                new
                {
                    InternalState = state + " more", Action = "<answer>a</answer>", Information = "",
                    ContextTokens = 7, GeneratedTokens = 4, ObservationTokens = 0,
                },
            },
        });

    public void AppendMetrics(params string[] lines) => File.AppendAllLines(MetricsPath, lines);

    public void AppendTrajectories(params string[] lines) => File.AppendAllLines(TrajectoriesPath, lines);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
