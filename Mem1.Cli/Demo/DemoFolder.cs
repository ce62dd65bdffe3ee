// Keeps: what is in a demonstration's folder is of one plan; one process at a time works on it.
//   DIR/demo.json             the plan
//   DIR/runs/AGENT-sSEED/     the training runs, as mem1 train leaves them
//   DIR/evaluations/AGENT-sSEED/   as mem1 eval leaves them
//   DIR/parts/AGENT-sSEED.json     what a training and its evaluation took
//   DIR/report.md, report.json, exact_match.svg, peak_tokens.svg, training.svg
using System.Text.Json;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Demo;

/// <summary>What one agent and seed took, over all starts.</summary>
/// <param name="CpuSeconds">Of processors, all threads. A start that was killed is not counted.</param>
/// <param name="Seconds">By the clock.</param>
/// <param name="Done">Whether training and evaluation are finished.</param>
internal sealed record PartCost(double CpuSeconds, double Seconds, bool Done);

/// <summary>Where a demonstration is.</summary>
internal sealed class DemoFolder : IDisposable
{
    private const string LockName = ".lock";

    /// <summary>snake_case, for all files here.</summary>
    public static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        RespectRequiredConstructorParameters = true,
        NewLine = "\n",
    };

    private readonly FileStream _lock;

    private DemoFolder(string path, FileStream @lock, DemoPlan plan) => (FullPath, _lock, Plan) = (path, @lock, plan);

    /// <summary>Where.</summary>
    public string FullPath { get; }

    /// <summary>What is done here.</summary>
    public DemoPlan Plan { get; }

    /// <summary>Run folders.</summary>
    public static string Runs(string folder) => Path.Combine(folder, "runs");

    /// <summary>The evaluation of an agent and seed.</summary>
    public static string Evaluation(string folder, string name) => Path.Combine(folder, "evaluations", name);

    /// <summary>Begins, or goes on with, a demonstration.</summary>
    /// <param name="path">Made if need be.</param>
    /// <param name="plan">To begin; null goes on with the plan that is there.</param>
    /// <exception cref="UserErrorException">There is one already, or none to go on with, or another process is at it.</exception>
    public static DemoFolder Open(string path, DemoPlan? plan)
    {
        var about = Path.Combine(path, "demo.json");
        var begun = File.Exists(about);
        if (plan is null && !begun) throw new UserErrorException($"there is no demonstration to resume in {path}; leave out --resume.");
        if (plan is not null && begun) throw new UserErrorException($"{path} holds a demonstration: go on with --resume, or choose another --out.");
        Directory.CreateDirectory(path);
        FileStream held;
        try
        {
            held = new FileStream(
                Path.Combine(path, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (IOException e)
        {
            throw new UserErrorException($"another mem1 works on {path} ({e.Message.TrimEnd('.')}): wait for it, or choose another --out.", e);
        }

        if (plan is not null) AtomicFile.WriteText(about, JsonSerializer.Serialize(plan, Json) + "\n");
        try
        {
            return new DemoFolder(path, held, plan ?? ReadPlan(path));
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>The plan of a folder.</summary>
    /// <exception cref="UserErrorException">It cannot be read.</exception>
    public static DemoPlan ReadPlan(string path)
    {
        var about = Path.Combine(path, "demo.json");
        try
        {
            return JsonSerializer.Deserialize<DemoPlan>(File.ReadAllText(about), Json)!;
        }
        catch (Exception e) when (e is JsonException or IOException)
        {
            throw new UserErrorException($"{about} cannot be read ({e.Message.TrimEnd('.')}); choose another --out.", e);
        }
    }

    /// <summary>What an agent and seed took so far; nothing where that is not known.</summary>
    public static PartCost ReadCost(string folder, string name)
    {
        var path = Path.Combine(folder, "parts", name + ".json");
        return File.Exists(path) ? JsonSerializer.Deserialize<PartCost>(File.ReadAllText(path), Json)! : new PartCost(0, 0, false);
    }

    /// <summary>Writes that down.</summary>
    public static void WriteCost(string folder, string name, PartCost cost)
    {
        Directory.CreateDirectory(Path.Combine(folder, "parts"));
        AtomicFile.WriteText(Path.Combine(folder, "parts", name + ".json"), JsonSerializer.Serialize(cost, Json) + "\n");
    }

    /// <inheritdoc/>
    public void Dispose() => _lock.Dispose();
}
