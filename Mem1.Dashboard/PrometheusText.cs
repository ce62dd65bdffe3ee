// The Prometheus text format, version 0.0.4. Keeps: HELP and TYPE once a family, before its samples; names without abbreviated units;
// labels escaped; a number that is missing is left out.
using System.Globalization;
using System.Text;

namespace Mem1.Dashboard;

/// <summary>Writes what <c>GET /metrics</c> answers.</summary>
internal static class PrometheusText
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    public static string Write(RunModel model, EventHub hub, long telemetryDropped)
    {
        var text = new StringBuilder();
        var source = model.Source.ToString().ToLowerInvariant();
        Family(text, "mem1_run_info", "gauge", "The run that is shown; always 1.",
            [($"run=\"{Escape(model.Name)}\",source=\"{source}\",phase=\"{Escape(model.Progress.Phase)}\"", 1)]);
        List<(string Name, double Value)> rows = model.Metrics<List<(string Name, double Value)>>(m => m.Count == 0 ? [] :
            [.. m.Names.Select(n => (n, m[n]![^1])), ("update", m.Last)]);
        var exact = rows.Where(r => Objectives(r.Name) is not null).ToList();
        if (exact.Count > 0)
        {
            Family(text, "mem1_train_exact_match", "gauge", "Mean share of objectives answered exactly, of the last update.",
                [.. exact.Select(r => ($"objectives=\"{Objectives(r.Name)}\"", r.Value))]);
        }

        foreach (var (name, value) in rows.Except(exact).OrderBy(r => r.Name, StringComparer.Ordinal))
            Family(text, "mem1_train_" + MetricName(name), "gauge", $"{name} of metrics.jsonl, of the last update.", [("", value)]);
        if (model.Live is { } live)
        {
            Family(text, "mem1_ledger_tasks", "gauge", "Tasks by state.",
            [
                ("state=\"pending\"", live.Ledger.Pending), ("state=\"leased\"", live.Ledger.Leased),
                ("state=\"buffered\"", live.Ledger.Buffered),
                ("state=\"consumed\"", live.Ledger.Consumed), ("state=\"quarantined\"", live.Ledger.Quarantined),
            ]);
            Family(text, "mem1_workers", "gauge", "Connected workers.", [("", live.Workers.Count)]);
            Workers("mem1_worker_policy_version", "Newest version the worker has in place.", w => w.AppliedVersion);
            Workers("mem1_worker_leases", "Leases the worker holds.", w => w.Leases);
            Workers("mem1_worker_silent_seconds", "Time since anything came from the worker.", w => w.SilentSeconds);
            Workers("mem1_worker_unacknowledged", "Turns the worker keeps until the learner has them.", w => w.Unacknowledged);
            Workers("mem1_worker_tokens_per_second", "Tokens drawn per second between its last heartbeats.", w => w.TokensPerSecond);
            Workers("mem1_worker_resident_bytes", "Resident memory of the worker's process.", w => w.ResidentBytes);
            Workers("mem1_worker_weights_pull_seconds", "What pulling and reading the weights in place took.", w => w.PullSeconds);
            if (live.WaitingSeconds is { } waiting)
            {
                Family(text, "mem1_learner_waiting_seconds", "gauge", "How long the learner has waited without that an episode finished.",
                    [("", waiting)]);
            }

            if (live.Admission is { } admission)
            {
                Family(text, "mem1_admission_binding", "gauge", "The term that holds the next lease back; always 1.",
                    [($"term=\"{Escape(admission.Binds)}\"", 1)]);
            }

            Family(text, "mem1_cluster_nodes", "gauge", "Nodes of the cluster by state and whether their heartbeats arrive.",
            [
                .. live.Nodes.GroupBy(n => (n.Membership, n.Reachable)).Select(g => (
                    $"state=\"{Escape(g.Key.Membership)}\",reachable=\"{(g.Key.Reachable ? "true" : "false")}\"", (double)g.Count())),
            ]);
            Family(text, "mem1_actors", "gauge", "Actors of all nodes that report theirs, by kind and state.",
            [
                .. live.Actors.GroupBy(a => (a.Kind, a.State)).Select(g => (
                    $"kind=\"{Escape(g.Key.Kind)}\",state=\"{Escape(g.Key.State)}\"", (double)g.Count())),
            ]);

            void Workers(string name, string help, Func<WorkerState, double?> value) => Family(
                text, name, "gauge", help, [.. live.Workers.Select(w => ($"worker=\"{Escape(w.Id)}\"", value(w) ?? double.NaN))]);
        }

        Family(text, "mem1_dashboard_clients", "gauge", "Browsers that listen.", [("", hub.Clients)]);
        Family(text, "mem1_dashboard_dropped_total", "counter", "Messages dropped because their reader was slow, by queue.",
            [("queue=\"browser\"", hub.Dropped), ("queue=\"telemetry\"", telemetryDropped), ("queue=\"history\"", model.Dropped)]);
        return text.ToString();
    }

    private static string? Objectives(string name) =>
        name.StartsWith("em_", StringComparison.Ordinal) && name.Length > 3
            && name.AsSpan(3).IndexOfAnyExceptInRange('0', '9') < 0 ? name[3..] : null;

    /// <summary>A name that Prometheus's rules allow: whole units, letters, digits and underscores, no reserved ending.</summary>
    internal static string MetricName(string key)
    {
        var name = new StringBuilder(key.Length);
        foreach (var c in key) name.Append(char.IsAsciiLetterOrDigit(c) ? char.ToLowerInvariant(c) : '_');
        var clean = name.ToString();
        if (clean.EndsWith("_per_s", StringComparison.Ordinal)) return clean + "econd";
        if (clean.EndsWith("_s", StringComparison.Ordinal)) return clean + "econds";
        string[] reserved = ["_total", "_count", "_sum", "_bucket", "_info"];
        return reserved.Any(r => clean.EndsWith(r, StringComparison.Ordinal)) ? clean + "_value" : clean;
    }

    private static void Family(
        StringBuilder text, string name, string type, string help, IReadOnlyList<(string Labels, double Value)> samples)
    {
        var written = samples.Where(s => double.IsFinite(s.Value)).ToList();
        if (written.Count == 0) return;
        text.Append("# HELP ").Append(name).Append(' ').Append(help.Replace("\\", "\\\\", StringComparison.Ordinal)).Append('\n');
        text.Append("# TYPE ").Append(name).Append(' ').Append(type).Append('\n');
        foreach (var (labels, value) in written)
        {
            text.Append(name);
            if (labels.Length > 0) text.Append('{').Append(labels).Append('}');
            text.Append(' ').Append(value.ToString("R", CultureInfo.InvariantCulture)).Append('\n');
        }
    }

    private static string Escape(string label) => label.Replace("\\", "\\\\", StringComparison.Ordinal)
        .Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
}
