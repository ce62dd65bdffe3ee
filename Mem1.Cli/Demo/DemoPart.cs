// One agent and one seed: training, then evaluation, in a process of its own (libtorch computes on one thread, so two of them use two cores).
// Keeps: standard output carries progress for the parent, a JSON object a line, and nothing else; a parent that dies, however, closes
// standard input, and the part saves and ends as if it had been told to.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Configuration;
using Mem1.Cli.Evaluation;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Demo;

/// <summary>What a part tells its parent.</summary>
/// <param name="Share">Done of all its work, 0 to 1, by what phases usually take.</param>
/// <param name="What">In a few words.</param>
internal sealed record PartProgress(double Share, string What);

/// <summary>The body of a part's process.</summary>
internal static class DemoPart
{
    // Shares of a part's time, measured; they only steer the estimate of what is left.
    private const double CloningShare = 0.55, TrainingShare = 0.35;

    /// <summary>Trains and evaluates, going on from whatever is there. Blocks: call it on a thread of its own.</summary>
    /// <param name="folder">Of the demonstration.</param>
    /// <param name="agent">One of <see cref="DemoPlan.Agents"/>.</param>
    /// <param name="seed">Of the plan.</param>
    /// <param name="threads">That decode.</param>
    /// <param name="cancellationToken">Saves and ends.</param>
    /// <returns>Exit code.</returns>
    public static int Run(string folder, string agent, ulong seed, int threads, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var parent = new Thread(() => WaitForEnd(stop)) { IsBackground = true, Name = "parent" };
        parent.Start();
        var plan = DemoFolder.ReadPlan(folder);
        var name = DemoPlan.Name(agent, seed);
        var before = DemoFolder.ReadCost(folder, name);
        var watch = Stopwatch.StartNew();
        using var reporter = new ProgressLines(Console.Out);
        var done = false;
        try
        {
            Train(plan, folder, agent, seed, threads, reporter, stop.Token);
            if (!stop.IsCancellationRequested)
            {
                Evaluate(plan, folder, agent, seed, threads, reporter, stop.Token);
                done = true;
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // Whatever is finished is on the disk.
        }
        finally
        {
            DemoFolder.WriteCost(folder, name, new PartCost(
                before.CpuSeconds + Environment.CpuUsage.TotalTime.TotalSeconds, before.Seconds + watch.Elapsed.TotalSeconds, done));
        }

        return 0;
    }

    private static void Train(
        DemoPlan plan, string folder, string agent, ulong seed, int threads, ProgressLines reporter, CancellationToken cancellationToken)
    {
        var runs = DemoFolder.Runs(folder);
        var name = DemoPlan.Name(agent, seed);
        var begun = RunFolder.Exists(runs, name);
        using var run = begun ? RunFolder.Resume(runs, name) : RunFolder.Create(runs, name, chosen: true);
        if (!begun) run.WriteConfig(plan.Training(agent, seed, threads));
        // Threads change nothing that is computed; a run that goes on uses as many as this start was given.
        var (config, given) = ConfigFile.Read(run.ConfigPath, [$"rollout.threads={threads.ToString(CultureInfo.InvariantCulture)}"]);
        Commands.TrainCommand.Require(config);
        new TrainRun(config, given, run, reporter, resume: begun, cloneOnly: false).Run(cancellationToken);
    }

    private static void Evaluate(
        DemoPlan plan, string folder, string agent, ulong seed, int threads, ProgressLines reporter, CancellationToken cancellationToken)
    {
        var name = DemoPlan.Name(agent, seed);
        var run = Path.Combine(DemoFolder.Runs(folder), name);
        (string Model, string Out, double Temperature)[] evaluations = plan.Environment == DemoEnvironment.Worlds ? [(run, name, 0)] :
        [
            .. EnvironmentDemo.Moments.SelectMany(moment => EnvironmentDemo.Decodings.Select(decoding => (
                moment == "before" ? Path.Combine(run, "checkpoints", "step-0") : run, EnvironmentDemo.Evaluation(name, moment, decoding.Name),
                decoding.Temperature))),
        ];
        for (var i = 0; i < evaluations.Length; i++)
        {
            var (model, output, temperature) = evaluations[i];
            var before = i;
            EvaluationRun.RunAsync(
                new EvaluationOptions
                {
                    Model = model,
                    Objectives = plan.Objectives,
                    Agents = ContextPolicies.Parse(agent),
                    Episodes = plan.Episodes,
                    Seed = seed,
                    Temperature = temperature,
                    Out = DemoFolder.Evaluation(folder, output),
                    Resume = true,
                    Threads = threads,
                },
                (played, all) => reporter.Tell(
                    CloningShare + TrainingShare + ((1 - CloningShare - TrainingShare) * (((double)played / all) + before) / evaluations.Length),
                    $"evaluating, {played + (all * before)} of {all * evaluations.Length} episodes"),
                reporter.Note, cancellationToken).GetAwaiter().GetResult();
        }
    }

    private static void WaitForEnd(CancellationTokenSource stop)
    {
        try
        {
            while (Console.In.Read() >= 0)
            {
            }

            stop.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // The part ended first.
        }
    }

    /// <summary>Turns what a training run reports into lines for the parent.</summary>
    private sealed class ProgressLines(TextWriter output) : IRunReporter
    {
        // More often than this nobody reads it.
        private static readonly TimeSpan s_between = TimeSpan.FromMilliseconds(500);

        private readonly Lock _lock = new();
        private readonly Stopwatch _since = new();
        private string _phase = "";

        public bool IsForMachines => true;

        public void Phase(string what)
        {
            _phase = what;
            if (what.StartsWith("training", StringComparison.Ordinal)) Tell(CloningShare, "training");
        }

        public void Progress(double share, string detail)
        {
            if (_phase.StartsWith("cloning", StringComparison.Ordinal)) Tell(CloningShare * share, $"{_phase}, {detail}");
        }

        public void Note(string sentence) => Console.Error.WriteLine(sentence);

        public void Sampling(long update, int done, int of)
        {
        }

        public void Updated(UpdateMetrics metrics, int last) => Tell(
            CloningShare + (TrainingShare * metrics.Update / last),
            string.Create(CultureInfo.InvariantCulture, $"update {metrics.Update} of {last}, reward {metrics.RewardMean:0.000}"));

        public void Closing(RunSummary summary)
        {
        }

        public void Tell(double share, string what)
        {
            lock (_lock)
            {
                if (_since.IsRunning && _since.Elapsed < s_between) return;
                _since.Restart();
                try
                {
                    output.WriteLine(JsonSerializer.Serialize(new PartProgress(share, what)));
                    output.Flush();
                }
                catch (IOException)
                {
                    // Nobody listens any more; the end of standard input says so as well.
                }
            }
        }

        public void Dispose()
        {
        }
    }
}
