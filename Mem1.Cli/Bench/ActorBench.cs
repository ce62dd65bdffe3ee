// Keeps: what is timed ends when the last message has been handled; every figure is the fastest of several rounds after one that warms up.
using System.Diagnostics;
using System.Globalization;
using Akka.Actor;
using Akka.Configuration;

namespace Mem1.Cli.Bench;

/// <summary>One way of sending.</summary>
/// <param name="Way">one-to-one, ping-pong or many-to-one.</param>
/// <param name="Messages">Of a round.</param>
/// <param name="PerSecond">Messages handled per second in the fastest round.</param>
internal sealed record ActorRow(string Way, int Messages, double PerSecond);

/// <summary>What <c>mem1 bench actors</c> reports.</summary>
/// <param name="Machine">Measured on.</param>
/// <param name="Library">Which Akka it is, with its version.</param>
/// <param name="Rows">The ways.</param>
internal sealed record ActorReport(MachineInfo Machine, string Library, IReadOnlyList<ActorRow> Rows)
{
    public string Table() => $"{Machine}\n{Library}\n" + string.Concat(Rows.Select(r => string.Create(
        CultureInfo.InvariantCulture, $"{r.Way,-12} {r.PerSecond / 1e6,8:0.00} million messages/s\n")));
}

/// <summary>Measures local messages between actors.</summary>
internal static class ActorBench
{
    private const int Tells = 2_000_000, Pings = 300_000, Senders = 8;

    /// <summary>Runs it.</summary>
    /// <param name="rounds">Timed, of each way.</param>
    /// <param name="progress">Told what happens.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<ActorReport> Run(int rounds, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var system = ActorSystem.Create(
            "bench", ConfigurationFactory.ParseString("akka { loglevel = OFF, stdout-loglevel = OFF, log-dead-letters = off }"));
        try
        {
            var rows = new List<ActorRow>();
            foreach (var (way, messages, once) in new (string, int, Func<Task>)[]
            {
                ("one-to-one", Tells, () => Tell(system, senders: 1)),
                ("ping-pong", 2 * Pings, () => PingPong(system)),
                ("many-to-one", Tells, () => Tell(system, Senders)),
            })
            {
                progress(way);
                var best = double.MaxValue;
                for (var round = 0; round <= rounds; round++)
                {
                    var watch = Stopwatch.StartNew();
                    await once().WaitAsync(cancellationToken).ConfigureAwait(false);
                    if (round > 0) best = Math.Min(best, watch.Elapsed.TotalSeconds);
                }

                rows.Add(new ActorRow(way, messages, messages / best));
            }

            var library = typeof(ActorSystem).Assembly.GetName();
            return new ActorReport(machine, $"{library.Name} {library.Version}", rows);
        }
        finally
        {
            await system.Terminate().ConfigureAwait(false);
        }
    }

    private static async Task Tell(ActorSystem system, int senders)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var counter = system.ActorOf(Props.Create(() => new Counter(Tells, done)));
        await Task.WhenAll(Enumerable.Range(0, senders).Select(_ => Task.Run(() =>
        {
            for (var i = 0; i < Tells / senders; i++) counter.Tell(Message.Instance, ActorRefs.NoSender);
        }))).ConfigureAwait(false);
        await done.Task.ConfigureAwait(false);
        system.Stop(counter);
    }

    private static async Task PingPong(ActorSystem system)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var echo = system.ActorOf(Props.Create(() => new Echo()));
        var player = system.ActorOf(Props.Create(() => new Player(echo, Pings, done)));
        player.Tell(Message.Instance, ActorRefs.NoSender);
        await done.Task.ConfigureAwait(false);
        system.Stop(player);
        system.Stop(echo);
    }

    private sealed record Message
    {
        public static readonly Message Instance = new();
    }

    private sealed class Counter : ReceiveActor
    {
        private int _left;

        public Counter(int messages, TaskCompletionSource done)
        {
            _left = messages;
            Receive<Message>(_ =>
            {
                if (--_left == 0) done.SetResult();
            });
        }
    }

    private sealed class Echo : ReceiveActor
    {
        public Echo() => Receive<Message>(message => Sender.Tell(message, Self));
    }

    private sealed class Player : ReceiveActor
    {
        private int _left;

        public Player(IActorRef echo, int rounds, TaskCompletionSource done)
        {
            _left = rounds;
            Receive<Message>(message =>
            {
                if (_left-- == 0) done.SetResult();
                else echo.Tell(message, Self);
            });
        }
    }
}
