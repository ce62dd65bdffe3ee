// What goes wrong in a cluster, done to real processes: after every fault the run goes on without a hand, and the run folder shows that every
// task was consumed exactly once, that the ledger's sums are right and that no token was past the staleness bound (NodeRun.Audit).
// `mem1 test --faults` runs the long series. Clocks that jump are not among the faults: setting a process's clock takes a preloaded library
// that the runtime's vDSO calls go past; time limits are kept on monotonic clocks, tested with an injected one (TaskLedgerTests).
using Mem1.Cli.Tests;

namespace Mem1.Faults.Tests;

public sealed class FaultTests
{
    private const int SigStop = 19, SigCont = 18;

    // Lost workers are given up soon, so that a test need not wait half a minute for it.
    private static readonly string[] s_impatient = ["learner.absence_seconds=1", "learner.silence_seconds=4"];

    private static bool IsLong => Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1";

    [Fact]
    public void Workers_killed_at_random_moments()
    {
        var kills = IsLong ? 200 : 6;
        var random = new Random(20261121);
        using var run = new NodeRun(s_impatient);
        run.StartLearner();
        string[] names = ["a", "b", "c"];
        foreach (var name in names) run.StartWorker(name);
        for (var kill = 0; kill < kills; kill++)
        {
            var name = names[kill % names.Length];
            // Most while they play; some while they start.
            if (random.Next(8) > 0) NodeRun.Joined(run.Workers[name]);
            Thread.Sleep(random.Next(400));
            run.KillWorker(name);
            // Half come back as somebody else, and nobody ever asks for what the old one held.
            run.StartWorker(name, id: random.Next(2) == 0 ? name : $"{name}-{kill}");
        }

        run.Goes(2, "after the last kill");
        run.StopAndAudit();
    }

    [Fact]
    public void The_learner_killed_and_started_again()
    {
        var kills = IsLong ? 20 : 2;
        var random = new Random(20261122);
        using var run = new NodeRun(s_impatient);
        run.StartLearner();
        run.StartWorker("a");
        run.StartWorker("b");
        for (var kill = 0; kill < kills; kill++)
        {
            // From the end of an update on, so that the moments lie in sampling, learning and writing alike.
            run.Learner.Until(() => run.Learner.Out.Contains('\n', StringComparison.Ordinal), "an update of this life");
            Thread.Sleep(random.Next(500));
            run.Learner.Kill();
            run.Learner.Finish();
            run.StartLearner();
        }

        run.Learner.Until(() => run.Learner.Out.Count(c => c == '\n') >= 3, "three updates after the last kill");
        Assert.All(run.Workers.Values, worker => Assert.False(worker.HasExited, worker.Error));
        run.StopAndAudit();
    }

    [Fact]
    public void A_worker_that_stands_still_past_its_leases_and_goes_on()
    {
        using var run = new NodeRun([.. s_impatient, "learner.lease_seconds=3"]);
        run.StartLearner();
        var sleeper = run.StartWorker("sleeper");
        NodeRun.Joined(sleeper);
        run.Goes(1, "with one worker");
        sleeper.Signal(SigStop);
        run.StartWorker("other");
        run.Goes(3, "without the one that stands still"); // its tasks among them: batches are fixed sets of tasks
        Thread.Sleep(TimeSpan.FromSeconds(IsLong ? 30 : 3)); // past the silence limit too
        sleeper.Signal(SigCont);
        run.KillWorker("other");
        run.Goes(2, "with the one that stood still");
        run.StopAndAudit();
    }

    [Fact]
    public void A_partition_between_the_learner_and_half_of_the_workers()
    {
        using var run = new NodeRun(s_impatient);
        using var proxy = new FaultProxy(run.Address);
        run.StartLearner();
        string[] far = ["far-a", "far-b"], near = ["near-a", "near-b"];
        foreach (var name in far) run.StartWorker(name, proxy.Address);
        foreach (var name in near) run.StartWorker(name);
        foreach (var worker in run.Workers.Values) NodeRun.Joined(worker);
        run.Goes(1, "before the partition");
        proxy.Set(LinkFault.Partition);
        run.Goes(2, "during the partition");
        Thread.Sleep(TimeSpan.FromSeconds(IsLong ? 30 : 5)); // past the silence limit
        run.Goes(1, "late in the partition");
        proxy.Set(LinkFault.None);
        foreach (var name in near) run.KillWorker(name);
        run.Goes(2, "with those from behind the partition");
        Assert.All(far, name => Assert.False(run.Workers[name].HasExited, run.Workers[name].Error));
        run.StopAndAudit();
    }

    [Fact]
    public void Late_repeated_swapped_and_truncated_bytes_and_connections_cut()
    {
        using var run = new NodeRun(s_impatient);
        using var proxy = new FaultProxy(run.Address);
        run.StartLearner();
        run.StartWorker("a", proxy.Address);
        run.StartWorker("b", proxy.Address);
        foreach (var worker in run.Workers.Values) NodeRun.Joined(worker);
        for (var round = 0; round < (IsLong ? 10 : 1); round++)
        {
            foreach (var fault in new[] { LinkFault.Repeat, LinkFault.Swap, LinkFault.Truncate })
            {
                var struck = proxy.Struck;
                proxy.Set(fault);
                run.Learner.Until(() => proxy.Struck > struck, $"a piece to {fault}");
                run.Goes(1, $"after {fault}");
            }

            proxy.Set(LinkFault.Cut);
            run.Goes(1, "after every connection was cut");
            proxy.Set(LinkFault.Delay);
            run.Goes(1, "with late bytes");
            proxy.Set(LinkFault.None);
        }

        run.StopAndAudit();
    }

    [Fact]
    public void A_worker_with_a_double()
    {
        using var run = new NodeRun(s_impatient);
        using var proxy = new FaultProxy(run.Address);
        proxy.Double(on: true);
        run.StartLearner();
        var worker = run.StartWorker("a", proxy.Address);
        NodeRun.Joined(worker);
        // What the double says is what the worker says, under its name; what it is leased is lost with it.
        run.Learner.Until(() => run.Learner.Error.Contains("Two workers must not share a name", StringComparison.Ordinal), "the double is seen");
        proxy.Double(on: false);
        run.Goes(2, "after the double");
        Assert.False(worker.HasExited);
        run.StopAndAudit();
    }

    [Fact]
    public void A_full_disk_at_the_learner()
    {
        using var run = new NodeRun(s_impatient);
        using var disk = SmallDisk.Mount(run.Runs, megabytes: 40);
        run.StartLearner();
        var worker = run.StartWorker("a");
        run.Goes(1, "while there is room");
        run.Learner.Signal(SigStop); // or the two would race for the last block
        disk.FillUp(leaveBytes: 64 * 1024);
        run.Learner.Signal(SigCont);
        run.Learner.Until(() => run.Learner.Error.Contains("The disk is full", StringComparison.Ordinal), "it says that the disk is full");
        Thread.Sleep(TimeSpan.FromSeconds(IsLong ? 30 : 1));
        Assert.False(run.Learner.HasExited, run.Learner.Error);
        disk.Free();
        run.Goes(3, "with room again, by itself");
        Assert.Contains("The wait for room on the disk is over", run.Learner.Error);
        Assert.False(worker.HasExited);
        run.StopAndAudit();
    }
}
