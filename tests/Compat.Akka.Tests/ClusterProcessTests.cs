// A cluster of two processes: the other one is killed, started again at the same port, and stopped with SIGTERM.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Akka.Actor;
using Akka.Cluster;
using static Akka.Cluster.ClusterEvent;

namespace Compat.Akka.Tests;

public sealed class ClusterProcessTests : NodesTest
{
    private static Process StartNode(int port, Address seed)
    {
        // The tests run as a program of their own or as "dotnet TESTS.dll".
        string[] program = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [typeof(Program).Assembly.Location] : [];
        return Process.Start(Environment.ProcessPath, [.. program, Program.NodeArgument, $"{port}", seed.ToString()]);
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>The next member or reachability event; a node slowed down by a busy machine may be unreachable for a moment.</summary>
    private static T After<T>(Probe events)
        where T : IMemberEvent
    {
        while (true)
        {
            switch (events.Next())
            {
                case T wanted:
                    return wanted;
                case IReachabilityEvent:
                    break;
                case var other:
                    Assert.Fail($"expected {typeof(T).Name}, got {other}");
                    break;
            }
        }
    }

    [Fact]
    public async Task A_process_that_is_killed_is_removed_and_its_successor_is_a_new_member_that_can_leave_in_good_order()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Skip("This test sends POSIX signals.");
        }

        var here = Start(Program.Config + "\nakka.remote.dot-netty.tcp.port = 0", "net");
        await Cluster.Get(here).JoinAsync(AddressOf(here), Token).WaitAsync(Patience, Token);
        var events = new Probe(here);
        Cluster.Get(here).Subscribe(events.Ref, typeof(IMemberEvent), typeof(IReachabilityEvent));
        events.Expect<CurrentClusterState>();
        var port = FreePort();
        var path = $"akka.tcp://net@127.0.0.1:{port}/user/echo";

        using var first = StartNode(port, AddressOf(here));
        using var second = await KillAndReplaceAsync();
        try
        {
            var joined = After<MemberJoined>(events).Member;
            Assert.Equal(joined, After<MemberUp>(events).Member);
            var echo = await here.ActorSelection(path).ResolveOne(Patience);
            Assert.Equal("again", await echo.Ask<string>("again", Patience));
            var probe = new Probe(here);
            probe.Watch(echo);
            using (Process.Start("kill", ["-TERM", $"{second.Id}"]))
            {
                Assert.Equal(joined, After<MemberLeft>(events).Member);
                Assert.Equal(joined, After<MemberExited>(events).Member);
                Assert.Equal(MemberStatus.Exiting, After<MemberRemoved>(events).PreviousStatus);
                Assert.Equal(echo, probe.Expect<Terminated>().ActorRef);
                await second.WaitForExitAsync(Token).WaitAsync(Patience, Token);
            }
        }
        finally
        {
            second.Kill();
        }

        async Task<Process> KillAndReplaceAsync()
        {
            try
            {
                var joined = After<MemberJoined>(events).Member;
                Assert.Equal((port, true), (joined.Address.Port.Value, joined.HasRole("worker")));
                Assert.Equal(joined, After<MemberUp>(events).Member);
                var echo = await here.ActorSelection(path).ResolveOne(Patience);
                Assert.Equal("x", await echo.Ask<string>("x", Patience));
                var probe = new Probe(here);
                probe.Watch(echo);
                first.Kill();
                await first.WaitForExitAsync(Token).WaitAsync(Patience, Token);
                while (events.Next() is not UnreachableMember)
                {
                }

                Assert.False(probe.TryNext());
                Assert.Equal(joined, After<MemberDowned>(events).Member);
                Assert.Equal(MemberStatus.Down, After<MemberRemoved>(events).PreviousStatus);
                var terminated = probe.Expect<Terminated>();
                Assert.Equal((echo, true), (terminated.ActorRef, terminated.AddressTerminated));
                var successor = StartNode(port, AddressOf(here));
                Assert.NotEqual(first.Id, successor.Id);
                return successor;
            }
            finally
            {
                first.Kill();
            }
        }
    }
}
