// Invariants:
//  * For looking at only: actors write what they do, nothing reads it to decide anything; a write takes a short lock and never waits long.
//  * Bounded: actors that are gone stay for a while so that a failure can be seen, and then leave.
using System.Diagnostics;

namespace Mem1.Actors;

/// <summary>An actor of a rollout worker at one moment.</summary>
/// <param name="Name">Its name under the worker's root; empty for the root itself.</param>
/// <param name="Kind">supervisor, policy, uplink or episode.</param>
/// <param name="State">running, generating, environment, waiting, restarted, finished, returned or failed.</param>
/// <param name="Age">Since it was made.</param>
/// <param name="InState">Since it entered its state.</param>
/// <param name="Restarts">How often it was restarted.</param>
/// <param name="LastFailure">The last failure and its causes, a line each; null without one.</param>
public sealed record ActorStatus(
    string Name, string Kind, string State, TimeSpan Age, TimeSpan InState, int Restarts, string? LastFailure)
{
    /// <summary>The episode it plays; empty for the other kinds.</summary>
    public string EpisodeId { get; init; } = "";
    /// <summary>Which try of the task it plays, from 1; 0 for the other kinds.</summary>
    public int Attempt { get; init; }
    /// <summary>The turn it is at, from 0.</summary>
    public int Turn { get; init; }
    /// <summary>What it did when, the oldest first.</summary>
    public IReadOnlyList<ActorSpan> Spans { get; init; } = [];
    /// <summary>
    /// Messages that were in its mailbox when it was probed last, a second ago or so; null when that is not known: it is gone, or has been
    /// busy with one message since.
    /// </summary>
    public int? Mailbox { get; init; }
    /// <summary>How long that probe waited to be handled, or has waited so far: the oldest message has waited as long, or longer.</summary>
    public TimeSpan? Oldest { get; init; }
    /// <summary>Messages it handled per second since the look before; null when it is gone.</summary>
    public double? MessagesPerSecond { get; init; }
}

/// <summary>A stretch of an episode.</summary>
/// <param name="Kind">generating, environment or waiting.</param>
/// <param name="Turn">From 0.</param>
/// <param name="Ago">When it began, before now.</param>
/// <param name="Length">How long it took, or has taken so far.</param>
/// <param name="PolicyVersion">Version that generated; null for the other kinds.</param>
public sealed record ActorSpan(string Kind, int Turn, TimeSpan Ago, TimeSpan Length, long? PolicyVersion);

/// <summary>What the actors of one worker say they do. Thread-safe.</summary>
internal sealed class ActorBoard
{
    // What a screen shows of episodes that are over. Those that failed are kept apart: hundreds end well in a second, and a failure has to
    // stay long enough for a person to come back to it.
    private const int MaxGone = 100;

    // Three stretches a turn; longer episodes lose their oldest ones.
    private const int MaxSpans = 192;

    // A chain of causes deeper than this tells nothing more.
    private const int MaxCauses = 10;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Queue<string> _gone = new(), _lost = new(); // ended well or handed back; failed
    private readonly Dictionary<string, TimeSpan> _spent = new(StringComparer.Ordinal);
    private readonly MailCount _nobody = new(); // of actors that are not on the board

    // Of one look: ten thousand actors are probed in turn, over seconds.
    private const int MaxProbes = 1000;

    private static readonly TimeSpan s_probesApart = TimeSpan.FromSeconds(1);

    /// <summary>Told that an actor has failed, on the thread of its supervisor; must not block.</summary>
    public event Action? Failing;

    /// <summary>What episodes have spent so far in a state that they have left again: generating, environment or waiting.</summary>
    public TimeSpan Spent(string state)
    {
        lock (_lock) return _spent.GetValueOrDefault(state);
    }

    /// <summary>All actors there are, and the last that have gone.</summary>
    public IReadOnlyList<ActorStatus> Snapshot()
    {
        lock (_lock)
        {
            var now = Stopwatch.GetTimestamp();
            // Where there are more actors than one look probes, those of this look are not probed again before the others.
            var apart = s_probesApart * Math.Max(1, _entries.Count / MaxProbes);
            var left = MaxProbes;
            var seen = _entries.Select(e => e.Value.Status(e.Key, now)).ToList();
            foreach (var entry in _entries.Values)
            {
                if (left == 0) break;
                if (entry.Mail.Probe(now, apart)) left--;
            }

            return seen;
        }
    }

    /// <summary>Where an actor's mail is counted.</summary>
    public MailCount Mail(string name)
    {
        lock (_lock) return _entries.TryGetValue(name, out var entry) ? entry.Mail : _nobody;
    }

    public void Started(string name, string kind, string episodeId = "", int attempt = 0)
    {
        lock (_lock) _entries[name] = new Entry(kind, episodeId, attempt);
    }

    /// <summary>An episode begins to do something else.</summary>
    public void Enter(string name, string state, int turn)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(name, out var entry)) return;
            var now = Stopwatch.GetTimestamp();
            Close(entry, now);
            (entry.State, entry.Turn, entry.Since) = (state, turn, now);
            if (entry.Spans.Count == MaxSpans) entry.Spans.RemoveAt(0);
            entry.Spans.Add(new Span(state, turn, now));
        }
    }

    /// <summary>Which version made the response that an episode just got.</summary>
    public void Generated(string name, long version)
    {
        lock (_lock)
        {
            if (_entries.TryGetValue(name, out var entry) && entry.Spans.Count > 0) entry.Spans[^1].Version = version;
        }
    }

    /// <summary>An actor failed; a fixed child is restarted, an episode stops.</summary>
    public void Failed(string name, Exception cause, bool restarts)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(name, out var entry)) return;
            entry.LastFailure = Chain(cause);
            if (restarts) entry.Restarts++;
            (entry.State, entry.Since) = (restarts ? "restarted" : "failed", Stopwatch.GetTimestamp());
        }

        Failing?.Invoke();
    }

    /// <summary>An actor has stopped.</summary>
    public void Stopped(string name, string state)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(name, out var entry)) return;
            var now = Stopwatch.GetTimestamp();
            Close(entry, now);
            var failed = entry.State == "failed";
            if (!failed) entry.State = state;
            entry.Mail.Detach();
            entry.Since = now;
            var gone = failed ? _lost : _gone;
            gone.Enqueue(name);
            if (gone.Count > MaxGone) _entries.Remove(gone.Dequeue());
        }
    }

    private void Close(Entry entry, long now)
    {
        if (entry.Close(now) is var (state, spent)) _spent[state] = _spent.GetValueOrDefault(state) + spent;
    }

    private static string Chain(Exception cause)
    {
        var lines = new List<string>();
        for (var at = cause; at is not null && lines.Count < MaxCauses; at = at.InnerException)
            lines.Add($"{at.GetType().Name}: {at.Message}");
        return string.Join("\n", lines);
    }

    private sealed class Entry(string kind, string episodeId, int attempt)
    {
        private readonly long _born = Stopwatch.GetTimestamp();

        public MailCount Mail { get; } = new();
        public string State { get; set; } = "running";
        public long Since { get; set; } = Stopwatch.GetTimestamp();
        public int Turn { get; set; }
        public int Restarts { get; set; }
        public string? LastFailure { get; set; }
        public List<Span> Spans { get; } = [];

        /// <summary>Ends the stretch under way, if there is one.</summary>
        public (string Kind, TimeSpan Length)? Close(long now)
        {
            if (Spans.Count == 0 || Spans[^1].End != 0) return null;
            Spans[^1].End = now;
            return (Spans[^1].Kind, Stopwatch.GetElapsedTime(Spans[^1].Start, now));
        }

        public ActorStatus Status(string name, long now)
        {
            var (depth, oldest, perSecond) = Mail.Look(now);
            return new ActorStatus(
                name, kind, State, Stopwatch.GetElapsedTime(_born, now), Stopwatch.GetElapsedTime(Since, now), Restarts, LastFailure)
            {
                Mailbox = depth,
                Oldest = oldest,
                MessagesPerSecond = perSecond,
                EpisodeId = episodeId,
                Attempt = attempt,
                Turn = Turn,
                Spans =
                [
                    .. Spans.Select(s => new ActorSpan(
                        s.Kind, s.Turn, Stopwatch.GetElapsedTime(s.Start, now),
                        Stopwatch.GetElapsedTime(s.Start, s.End == 0 ? now : s.End), s.Version)),
                ],
            };
        }
    }

    private sealed class Span(string kind, int turn, long start)
    {
        public string Kind => kind;
        public int Turn => turn;
        public long Start => start;
        public long End { get; set; }
        public long? Version { get; set; }
    }
}
