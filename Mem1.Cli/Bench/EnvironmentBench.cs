// Keeps: one thread, no model; what is timed is the environment's own work for a response, its observation included.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Environments;
using Mem1.Environments.WebShop;
using Mem1.Environments.Worlds;

namespace Mem1.Cli.Bench;

/// <summary>How fast one kind of step is.</summary>
/// <param name="Steps">What the responses were.</param>
/// <param name="PerSecond">Steps by the clock.</param>
/// <param name="PerCpuSecond">Steps by processor time of the process, which a busy machine does not change.</param>
/// <param name="Count">Steps timed.</param>
internal sealed record StepsRow(string Steps, double PerSecond, double PerCpuSecond, int Count);

/// <summary>All of <c>mem1 bench env</c>.</summary>
/// <param name="Bench">Its name.</param>
/// <param name="Machine">What it ran on.</param>
/// <param name="Products">Of the shop.</param>
/// <param name="Environments">Open side by side on one catalogue.</param>
/// <param name="BytesEach">Managed memory of one of them after a search and a product.</param>
/// <param name="Rows">Speeds.</param>
internal sealed record EnvironmentBenchReport(
    string Bench, MachineInfo Machine, int Products, int Environments, double BytesEach, IReadOnlyList<StepsRow> Rows)
{
    public string Table()
    {
        var text = new StringBuilder();
        text.AppendLine(Machine.ToString());
        text.AppendLine(
            CultureInfo.InvariantCulture, $"{Environments:N0} episodes of one shop of {Products:N0} products: {BytesEach:N0} bytes each");
        foreach (var row in Rows)
        {
            text.AppendLine(
                CultureInfo.InvariantCulture,
                $"{row.Steps,-34}{row.PerSecond,12:N0} steps/s{row.PerCpuSecond,12:N0} per CPU second ({row.Count:N0} steps)");
        }

        return text.ToString();
    }
}

/// <summary>Measures environments by themselves.</summary>
internal static class EnvironmentBench
{
    private static readonly string[] s_walk =
    [
        "click[{0}]", "click[description]", "click[< prev]", "click[features]", "click[< prev]", "click[< prev]", "click[next >]",
        "click[< prev]",
    ];

    /// <summary>Measures.</summary>
    /// <param name="shop">The shop.</param>
    /// <param name="environments">How many episodes are open at once.</param>
    /// <param name="timedAtLeast">Time of each row.</param>
    /// <param name="progress">Told what is measured.</param>
    public static EnvironmentBenchReport Run(ShopSection shop, int environments, TimeSpan timedAtLeast, Action<string> progress)
    {
        var machine = MachineInfo.Describe();
        var goals = ShopSet.OpenGoals(shop);
        // Nobody runs out of turns while the clock runs.
        var options = new WebShopOptions { MaxTurns = int.MaxValue };
        var factory = new WebShopFactory(goals, options);
        var tasks = WebShopTaskSource.Training(goals);
        string Query(int i) => tasks.Get(i, 1, 1).Objectives[0].Question.Split(',')[0].Replace("Find me ", "", StringComparison.Ordinal);

        progress($"{environments:N0} episodes");
        Step(factory.Create(tasks.Get(0, 1, 1), 0), $"search[{Query(0)}]");
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var open = new List<(IEnvironment Episode, string Product)>(environments);
        for (var i = 0; i < environments; i++)
        {
            var episode = factory.Create(tasks.Get(i, 1, 1), (ulong)i);
            var page = Step(episode, $"search[{Query(i)}]").Observation;
            // The first action after those that every page of results offers is its first product.
            const string AfterNext = "'click[next >]', 'click[";
            var at = page.IndexOf(AfterNext, StringComparison.Ordinal) + AfterNext.Length;
            var product = page[at..page.IndexOf(']', at)];
            Step(episode, $"click[{product}]");
            Step(episode, "click[< prev]");
            open.Add((episode, product));
        }

        var bytes = (GC.GetTotalMemory(forceFullCollection: true) - before) / (double)environments;
        var rows = new List<StepsRow>
        {
            Timed("webshop, no search", i =>
            {
                var (episode, product) = open[i % open.Count];
                foreach (var action in s_walk) Step(episode, string.Format(CultureInfo.InvariantCulture, action, product));
                return s_walk.Length;
            }),
            Timed("webshop, every step a search", i =>
            {
                Step(open[i % open.Count].Episode, $"search[{Query(i)}]");
                return 1;
            }),
            Timed("webshop, the scripted shopper", i => Play(
                new WebShopFactory(goals, new WebShopOptions()), new WebShopExpert(goals, new WebShopOptions(), new WebShopExpertOptions()),
                tasks.Get(i, 1, 1), i)),
        };
        var worlds = new WorldsOptions();
        var (worldsFactory, worldsTasks) = (new WorldsEnvironmentFactory(worlds), new WorldsTaskSource(worlds));
        var worldsExpert = new WorldsExpert(new WorldsExpertOptions());
        rows.Add(Timed("worlds, the scripted player", i => Play(worldsFactory, worldsExpert, worldsTasks.Get(i, 1 + (i % 4), 1), i)));
        GC.KeepAlive(open);
        return new EnvironmentBenchReport("env", machine, goals.Catalogue.Count, environments, bytes, rows);

        StepsRow Timed(string what, Func<int, int> some)
        {
            progress(what);
            // Compiles everything first.
            for (var i = 0; i < 200; i++) some(i);
            var process = Process.GetCurrentProcess();
            var (cpu, watch, steps) = (process.TotalProcessorTime, Stopwatch.StartNew(), 0);
            for (var i = 0; watch.Elapsed < timedAtLeast; i++) steps += some(i);
            var elapsed = watch.Elapsed.TotalSeconds;
            process.Refresh();
            return new StepsRow(what, steps / elapsed, steps / (process.TotalProcessorTime - cpu).TotalSeconds, steps);
        }
    }

    private static int Play(IEnvironmentFactory factory, IExpert expert, EnvironmentTask task, int i)
    {
        var episode = factory.Create(task, (ulong)i);
        var player = expert.Begin(task, (ulong)i);
        string? observation = null;
        for (var steps = 1; ; steps++)
        {
            var result = Answer(episode.StepAsync(player.Respond(observation), truncated: false, CancellationToken.None));
            if (result.Score is not null) return steps;
            observation = result.Observation;
        }
    }

    private static TurnResult Step(IEnvironment episode, string action) => Answer(episode.StepAsync(
        $"<think></think><summary></summary><answer>{action}</answer>", truncated: false, CancellationToken.None));

    // Both environments answer at once.
    private static TurnResult Answer(ValueTask<TurnResult> step) =>
        step.IsCompleted ? step.Result : throw new InvalidOperationException("The environment did not answer at once.");
}
