// Keeps: parts are processes of this program, as many at a time as asked for; none outlives this one (a part whose standard input ends saves
// and ends); a part that is finished is not started again.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Demo;

/// <summary>Trains and evaluates everything a plan asks for.</summary>
/// <param name="folder">Held by the caller.</param>
/// <param name="jobs">Parts at once.</param>
/// <param name="say">Told, in a line each, how far everything is.</param>
internal sealed class DemoRun(DemoFolder folder, int jobs, Action<string> say)
{
    // Of the status lines; a reader of a log wants no more.
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(10);

    // A part that was told to end finishes its update or step and saves first.
    private static readonly TimeSpan s_farewell = TimeSpan.FromMinutes(2);

    private readonly Lock _lock = new();
    private readonly List<Part> _parts =
    [
        .. folder.Plan.Seeds.SelectMany(s => folder.Plan.Trained.Select(a => new Part(a, s)
        {
            Progress = DemoFolder.ReadCost(folder.FullPath, DemoPlan.Name(a, s)).Done ? new PartProgress(1, "done") : null,
        })),
    ];

    private sealed class Part(string agent, ulong seed)
    {
        public string Name { get; } = DemoPlan.Name(agent, seed);

        public string Agent { get; } = agent;

        public ulong Seed { get; } = seed;

        /// <summary>The newest; null before the first.</summary>
        public PartProgress? Progress { get; set; }

        /// <summary>The share at which this start began, and when that was.</summary>
        public (double Share, TimeSpan At)? Begun { get; set; }
    }

    /// <summary>Runs what is not done yet.</summary>
    /// <exception cref="UserErrorException">A part failed.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var watch = Stopwatch.StartNew();
        var open = _parts.Where(p => p.Progress is not { Share: >= 1 }).ToArray();
        if (open.Length < _parts.Count) say($"{_parts.Count - open.Length} of {_parts.Count} trainings and evaluations are there already");
        using var status = new Timer(_ => Status(watch.Elapsed), null, s_between, s_between);
        // One part that fails ends the others: what they did is saved.
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await Parallel.ForEachAsync(
            open, new ParallelOptions { MaxDegreeOfParallelism = jobs, CancellationToken = stop.Token },
            async (part, token) =>
            {
                try
                {
                    await RunPart(part, watch, token).ConfigureAwait(false);
                }
                catch
                {
                    await stop.CancelAsync().ConfigureAwait(false);
                    throw;
                }
            }).ConfigureAwait(false);
        Status(watch.Elapsed);
    }

    private async Task RunPart(Part part, Stopwatch watch, CancellationToken cancellationToken)
    {
        var start = BenchProcess.Self(
            "demo", "--out", folder.FullPath, "--part", part.Name, "--threads",
            Math.Max(1, Environment.ProcessorCount / jobs).ToString(CultureInfo.InvariantCulture));
        start.RedirectStandardInput = true;
        using var process = Process.Start(start)!;
        var errors = new List<string>();
        var complaining = Task.Run(
            async () =>
            {
                while (await process.StandardError.ReadLineAsync(CancellationToken.None).ConfigureAwait(false) is { } line) errors.Add(line);
            }, CancellationToken.None);
        var telling = Task.Run(
            async () =>
            {
                while (await process.StandardOutput.ReadLineAsync(CancellationToken.None).ConfigureAwait(false) is { } line) Take(part, line, watch.Elapsed);
            }, CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.StandardInput.Close();
            using var limit = new CancellationTokenSource(s_farewell);
            try
            {
                await process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                process.Kill();
            }

            throw;
        }

        await Task.WhenAll(complaining, telling).ConfigureAwait(false);
        if (process.ExitCode != 0)
        {
            throw new UserErrorException(
                $"{part.Name} ended with status {process.ExitCode}: {errors.LastOrDefault(e => e.Length > 0) ?? "it gave no reason"}");
        }

        if (!DemoFolder.ReadCost(folder.FullPath, part.Name).Done)
        {
            // With this program, or alone.
            cancellationToken.ThrowIfCancellationRequested();
            throw new UserErrorException($"{part.Name} was stopped before it was done; go on with: ./mem1 demo --out {folder.FullPath} --resume");
        }

        lock (_lock) part.Progress = new PartProgress(1, "done");
    }

    private void Take(Part part, string line, TimeSpan now)
    {
        try
        {
            var progress = JsonSerializer.Deserialize<PartProgress>(line);
            if (progress is null) return;
            lock (_lock)
            {
                part.Progress = progress;
                part.Begun ??= (progress.Share, now);
            }
        }
        catch (JsonException)
        {
            say($"{part.Name}: {line}");
        }
    }

    private void Status(TimeSpan now)
    {
        lock (_lock)
        {
            var running = _parts.Where(p => p.Progress is { Share: < 1 }).ToArray();
            var texts = running.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Name} {p.Progress!.Share * 100:0} % ({p.Progress.What})"));
            var done = _parts.Count(p => p.Progress is { Share: >= 1 });
            say($"{Output.TextReporter.Duration(now)}  {done} of {_parts.Count} done{string.Concat(texts.Select(t => $"; {t}"))}{Left(now)}");
        }
    }

    /// <summary>What is left, from how fast the parts that run have been; those that wait are taken to be as long.</summary>
    private string Left(TimeSpan now)
    {
        double rate = 0, left = 0;
        foreach (var part in _parts)
        {
            left += 1 - (part.Progress?.Share ?? 0);
            if (part is { Begun: { } begun, Progress: { } progress } && progress.Share < 1 && now > begun.At)
                rate += (progress.Share - begun.Share) / (now - begun.At).TotalSeconds;
        }

        return rate <= 0 || left <= 0 ? "" : $"; {Output.TextReporter.Duration(TimeSpan.FromSeconds(left / rate))} left";
    }
}
