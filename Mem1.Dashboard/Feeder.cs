// Keeps: one task looks at files and training and tells the browsers; what fails in a look is logged as an event and the next look goes on.
using System.Diagnostics;
using Mem1.Protocol;

namespace Mem1.Dashboard;

/// <summary>Feeds the model and the browsers.</summary>
internal sealed class Feeder(RunModel model, EventHub hub, IRunFeed feed, ILiveSource? live, TelemetryQueue? telemetry, LocalBackend api)
{
    private readonly HashSet<string> _workers = new(StringComparer.Ordinal);
    private readonly HashSet<string> _failed = new(StringComparer.Ordinal);
    private string _lastState = "";
    private string _lastFault = "";
    private bool _announce;
    private long _fastest = long.MaxValue; // in ticks; written by the feeding task

    /// <summary>The fastest look so far; zero before the first.</summary>
    public TimeSpan FastestLook => Volatile.Read(ref _fastest) is var ticks && ticks == long.MaxValue ? TimeSpan.Zero : new TimeSpan(ticks);

    public async Task RunAsync(TimeSpan interval, CancellationToken cancellationToken)
    {
        using var timer = new PeriodicTimer(interval);
        try
        {
            do
            {
                try
                {
                    var start = Stopwatch.GetTimestamp();
                    Look();
                    _lastFault = "";
                    var took = Stopwatch.GetElapsedTime(start).Ticks;
                    if (took < _fastest && model.Live is not null) Volatile.Write(ref _fastest, took);
                }
                catch (Exception e) when (e is not OperationCanceledException)
                {
                    if (_lastFault != e.Message)
                        Log(new TelemetryEvent(EventLevel.Error, "dashboard", $"A look at the run failed: {e.Message}"));
                    _lastFault = e.Message;
                }
            }
            while (await timer.WaitForNextTickAsync(cancellationToken).ConfigureAwait(false));
        }
        catch (OperationCanceledException)
        {
            // The server stops.
        }
    }

    internal void Look()
    {
        var whole = feed.Poll(
            model,
            row =>
            {
                if (_announce) hub.Publish("metrics", Json.Write(row));
            },
            summary =>
            {
                if (_announce) hub.Publish("trajectory", Json.Write(summary));
            },
            () => hub.Publish("restart", "{}"),
            Log);
        // What was there before is fetched, not told line by line.
        if (whole && !_announce)
        {
            _announce = true;
            api.Loaded = true;
            hub.Publish("restart", "{}");
        }

        if (telemetry is not null)
        {
            while (telemetry.TryRead(out var happened)) Log(happened!);
            model.Progress = telemetry.Current;
        }

        if (live?.Snapshot() is { } snapshot)
        {
            Changes(snapshot);
            model.Live = snapshot;
        }

        var state = Json.Write(api.State());
        if (state == _lastState) return;
        _lastState = state;
        hub.Publish("state", state);
    }

    /// <summary>Workers that came and went, actors that failed.</summary>
    private void Changes(LiveSnapshot now)
    {
        var present = now.Workers.Select(w => w.Id).ToHashSet(StringComparer.Ordinal);
        foreach (var id in present.Where(_workers.Add))
            Log(new TelemetryEvent(EventLevel.Info, "worker", $"Worker {id} joined.") { Actor = id });
        foreach (var id in _workers.Except(present).ToList())
        {
            _workers.Remove(id);
            Log(new TelemetryEvent(EventLevel.Warning, "worker", $"Worker {id} left.") { Actor = id });
        }

        foreach (var actor in now.Actors.Where(a => a.LastFailure is not null))
        {
            if (!_failed.Add($"{actor.Path} {actor.Restarts} {actor.LastFailure}")) continue;
            var episode = actor.Kind == "episode" ? actor.Detail : "";
            Log(new TelemetryEvent(EventLevel.Error, "actor", actor.LastFailure!)
            {
                Actor = actor.Path,
                Episode = episode,
                TraceId = now.Run is { } run && episode.Length > 0 ? TraceContext.TraceOf(run, episode) : "",
            });
        }

        // Names of actors that are gone do not come again.
        if (_failed.Count > 10_000) _failed.Clear();
    }

    private void Log(TelemetryEvent happened) => hub.Publish("log", Json.Write(model.Log(happened)));
}
