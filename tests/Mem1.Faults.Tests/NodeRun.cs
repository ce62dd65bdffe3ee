// A learner and its workers as processes of their own. Keeps: every worker has a slot, and a slot has one process at a time; Audit looks at
// nothing but what the run wrote.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Mem1.Cli.Tests;

namespace Mem1.Faults.Tests;

internal sealed class NodeRun : IDisposable
{
    public const int Episodes = 8;
    public const int Staleness = 1;

    private readonly TempFolder _temp = new();
    private readonly Dictionary<string, Child> _workers = [];
    private readonly string[] _settings;
    private Child? _learner;

    public NodeRun(params string[] settings)
    {
        _settings = settings;
        Address = FreeAddress();
        Directory.CreateDirectory(Runs);
    }

    /// <summary>Arguments of a small run without end whose folder keeps all that <see cref="Audit(string)"/> looks at.</summary>
    public static IReadOnlyList<string> Endless { get; } =
    [
        "--quick", "--updates", "1000000", "--set", "evaluation.episodes=0", "--set", $"rollout.staleness={Staleness}",
        "--set", $"rollout.episodes_per_update={Episodes}", "--set", "rollout.max_episodes=4",
        "--set", $"checkpoint.sampled_trajectories={Episodes}", "--set", "checkpoint.every=2",
    ];

    public string Address { get; }

    public string Runs => _temp["runs"];

    public string Folder => Path.Combine(Runs, "quick");

    public Child Learner => _learner!;

    public IReadOnlyDictionary<string, Child> Workers => _workers;

    /// <summary>Updates done, as the run folder has them.</summary>
    public int Updates => UpdatesIn(Folder);

    /// <summary>Starts the learner, or starts it again with --resume.</summary>
    public void StartLearner()
    {
        var begun = _learner is not null;
        _learner?.Dispose();
        string[] start = begun
            ? ["--resume", "quick"]
            : [
                .. Endless, .. _settings.SelectMany(s => new[] { "--set", s }),
            ];
        _learner = Mem1.Cli.Tests.Cli.Start(["learner", "--listen", Address, .. start, "--runs", Runs, "--json"]);
    }

    /// <summary>Starts a worker, in the place of the one of that name if there was one.</summary>
    public Child StartWorker(string name, string? at = null, string? id = null)
    {
        if (_workers.Remove(name, out var old)) old.Dispose();
        return _workers[name] = Mem1.Cli.Tests.Cli.Start(
            "rollout", "--learner", at ?? Address, "--id", id ?? name, "--set", "rollout.threads=1");
    }

    public void KillWorker(string name)
    {
        _workers[name].Kill();
        _workers.Remove(name, out var gone);
        gone!.Dispose();
    }

    public static void Joined(Child worker) => worker.Until(() => Connections(worker) > 0, "it is connected");

    public static int Connections(Child worker) => worker.Error.Split("Connected to the learner").Length - 1;

    /// <summary>Waits for so many more updates.</summary>
    public void Goes(int updates, string when)
    {
        var before = Updates;
        Learner.Until(() => Updates >= before + updates, $"the run goes on {when} (update {before} and {updates} more)");
    }

    /// <summary>Stops the learner as its owner would, and looks at what the whole run did.</summary>
    /// <returns>Updates done.</returns>
    public int StopAndAudit()
    {
        Learner.Signal(Child.SigTerm);
        Learner.Finish().Succeeded();
        return Audit(Folder);
    }

    /// <summary>Updates done, as a run folder has them.</summary>
    public static int UpdatesIn(string folder) => Lines(folder, "metrics.jsonl").Count;

    /// <summary>Every task once, sums right, nothing past the bound.</summary>
    /// <param name="folder">Of the run.</param>
    /// <returns>Updates done.</returns>
    public static int Audit(string folder)
    {
        var metrics = Lines(folder, "metrics.jsonl");
        var played = Lines(folder, "trajectories.jsonl").ToLookup(t => t.GetProperty("update").GetInt32());
        Assert.NotEmpty(metrics);
        Assert.Equal(Enumerable.Range(1, metrics.Count), metrics.Select(m => Int(m, "update")));
        foreach (var m in metrics)
        {
            var update = Int(m, "update");
            Assert.Equal(Episodes, Int(m, "episodes"));
            Assert.Equal(0, Int(m, "quarantined"));

            // Every task of the update, each once: their names begin with the update and their number in it.
            Assert.Equal(
                Enumerable.Range(0, Episodes).Select(i => $"u{update}-{i}"),
                played[update].Select(t => t.GetProperty("task_id").GetString()!.Split('/')[0]));

            // The ledger: all tasks of the updates so far are consumed; those of the updates ahead are in one state each.
            Assert.Equal(update * Episodes, Int(m, "ledger_consumed"));
            Assert.InRange(
                Int(m, "ledger_pending") + Int(m, "ledger_leased") + Int(m, "ledger_buffered"), 0, Staleness * Episodes);

            // Tokens were sampled under the weights the update starts from, or under those at most the bound before them.
            Assert.InRange(Int(m, "staleness_max"), 0, Staleness);
            var trains = m.GetProperty("policy_version").GetInt64() - 1;
            var versions = played[update].SelectMany(t => t.GetProperty("turns").EnumerateArray())
                .SelectMany(turn => turn.GetProperty("policy_versions").EnumerateArray()).Select(v => v.GetInt64()).ToList();
            Assert.NotEmpty(versions);
            Assert.All(versions, v => Assert.InRange(v, trains - Staleness, trains));

            // Tokens of older weights have no parity: what sampled them is not what learns.
            if (m.GetProperty("parity_max_abs") is { ValueKind: JsonValueKind.Number } parity) Assert.InRange(parity.GetDouble(), 0, 1e-4);
        }

        return metrics.Count;
    }

    public void Dispose()
    {
        foreach (var worker in _workers.Values) worker.Dispose();
        _learner?.Dispose();
        _temp.Dispose();
    }

    /// <summary>Whole lines of a file of the run; the learner may be writing the next one.</summary>
    private static List<JsonElement> Lines(string folder, string file)
    {
        var path = Path.Combine(folder, file);
        if (!File.Exists(path)) return [];
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var text = new StreamReader(stream).ReadToEnd();
        return [.. text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => JsonDocument.Parse(line).RootElement)];
    }

    private static int Int(JsonElement of, string name) => of.GetProperty(name).GetInt32();

    private static string FreeAddress()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return $"127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture)}";
    }
}
