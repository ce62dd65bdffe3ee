// Exit codes: 0 done (also when interrupted after leaving everything resumable), 1 a bug, 2 something the user can mend, 130 interrupted
// with nothing to keep.
using System.CommandLine;
using System.Runtime.InteropServices;
using Mem1.Actors;
using Mem1.Cli.Commands;
using Mem1.Dashboard;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model.Checkpoints;
using Mem1.Protocol.Security;

namespace Mem1.Cli;

internal static class Program
{
    // Ctrl-C during an update waits for it, writes a checkpoint and stops the worker; the largest configs take a while for that.
    internal static readonly TimeSpan ShutdownLimit = TimeSpan.FromMinutes(5);

    // What shells say of a program that SIGINT ended.
    private const int Interrupted = 130;

    /// <summary>All commands.</summary>
    internal static RootCommand CreateRoot() => new(
        """
        Trains language agents with constant memory (MEM1): rollout workers play multi-turn
        environments, a learner does PPO on what they did.

        Examples:
          ./mem1 train                      train the built-in tiny agent; everything goes to runs/default
          ./mem1 train --quick              the same in miniature, under a minute
          ./mem1 train --corpus C.jsonl --tasks T.jsonl
          ./mem1 learner                    train with workers elsewhere: ./mem1 rollout --learner 127.0.0.1:5050
          ./mem1 cluster up --workers 4     learner, workers and dashboard as processes of this machine
          ./mem1 eval --objectives 1,2,4 --agents mem1,full    what memory costs and what it keeps
          ./mem1 demo                       constant memory against full context, trained and compared from nothing
          ./mem1 sft --data CHATS.jsonl --model FOLDER
          ./mem1 dashboard --demo           look at a run in a browser; mem1 train has its own
          ./mem1 data convert --from squad --input train.json --corpus C.jsonl --tasks T.jsonl
          ./mem1 bench learner              updates per second and memory, against a dense mask and python3-torch
          ./mem1 replay FILE                where a run that diverged first left the numbers
          ./mem1 shop                       look at WebShop as the agent sees it
          ./mem1 doctor                     what this machine lacks, and what to do
          ./mem1 api                        the public API as Markdown, for environments of one's own
          ./mem1 test                       run every test
        """)
    {
        TrainCommand.Create(),
        TrainCommand.CreateLearner(),
        RolloutCommand.Create(),
        SftCommand.Create(),
        DashboardCommand.Create(),
        DataCommand.Create(),
        RetrieverCommand.Create(),
        ServeCommand.Create(),
        EvalCommand.Create(),
        DemoCommand.Create(),
        AblateCommand.Create(),
        BenchCommand.Create(),
        ShopCommand.Create(),
        ReplayCommand.Create(),
        TraceCommand.Create(),
        ModelCommand.Create(),
        DoctorCommand.Create(),
        ClusterCommand.Create(),
        ApiCommand.Create(),
    };

    public static async Task<int> Main(string[] args)
    {
        var root = CreateRoot();
        var parsed = root.Parse(args);
        // Help lists the commands below with a line each; their examples are for their own help.
        foreach (var below in parsed.CommandResult.Command.Subcommands) below.Description = below.Description?.Split('\n')[0];
        if (parsed.Errors.Count > 0)
        {
            // A command that only groups others, called alone, is a question rather than a mistake.
            if (parsed.UnmatchedTokens.Count == 0 && parsed.CommandResult.Command is { Subcommands.Count: > 0, Action: null } group)
                return await root.Parse([.. CommandLineErrors.Path(group), "--help"]).InvokeAsync().ConfigureAwait(false);
            await Console.Error.WriteLineAsync($"mem1: {CommandLineErrors.Sentence(parsed)}").ConfigureAwait(false);
            return 2;
        }

        var told = false;
        void Told(PosixSignalContext signal) => Volatile.Write(ref told, true);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Told);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Told);
        try
        {
            return await parsed.InvokeAsync(
                new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = ShutdownLimit })
                .ConfigureAwait(false);
        }
        catch (Exception e) when (Mendable(e) is { } message)
        {
            await Console.Error.WriteLineAsync($"mem1: {message}").ConfigureAwait(false);
            return 2;
        }
        // The command may have heard of the signal before this has.
        catch (OperationCanceledException) when (SpinWait.SpinUntil(() => Volatile.Read(ref told), TimeSpan.FromSeconds(1)))
        {
            // A command that has nothing to keep, such as a bench.
            await Console.Error.WriteLineAsync("mem1: interrupted").ConfigureAwait(false);
            return Interrupted;
        }
    }

    private static string? Mendable(Exception e) => e switch
    {
        UserErrorException or DashboardException or LearnerException or DataFormatException or CheckpointException or RolloutWorkerException
            or SecurityException => e.Message,
        DllNotFoundException or TypeInitializationException { InnerException: DllNotFoundException } => (e.InnerException ?? e).Message,
        // How TorchSharp says that libtorch cannot be loaded; a trace of the paths it tried may follow.
        NotSupportedException when e.Message.Contains("libtorch", StringComparison.Ordinal) => e.Message.Split('\n')[0],
        AggregateException { InnerExceptions: [var only] } => Mendable(only),
        IOException or UnauthorizedAccessException => e.Message,
        _ => null,
    };
}
