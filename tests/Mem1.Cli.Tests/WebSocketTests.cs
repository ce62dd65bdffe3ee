// A replay opens no socket: neither connections nor listeners. Events of the runtime tell of connections and look-ups, the process's open
// files of listeners. Other tests use sockets, so this one runs alone.
using System.Collections.Concurrent;
using System.Diagnostics.Tracing;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Environments.Web;

namespace Mem1.Cli.Tests;

[CollectionDefinition(nameof(WebSocketTests), DisableParallelization = true)]
public sealed class AloneCollection;

[Collection(nameof(WebSocketTests))]
public sealed class WebSocketTests
{
    [Theory]
    [InlineData(WebProvider.Local)]
    [InlineData(WebProvider.Serper)]
    public async Task A_replay_opens_no_socket(WebProvider provider)
    {
        using var temp = new TempFolder();
        var local = new EnvironmentConfig
        {
            Kind = EnvironmentKind.Web,
            Web = new WebSection
            {
                OpenPages = true,
                LocalOpenShare = 0.5,
                LocalPages = 20,
                Recording = temp["web.sqlite"],
                RecordingMode = RecordingMode.Record,
            },
        };
        var recorded = await Play(local);
        Assert.Contains("ConnectStart", recorded.Events);
        if (OperatingSystem.IsLinux()) Assert.NotEmpty(recorded.Sockets);

        File.WriteAllText(temp["tasks.jsonl"], """{"id":"1","question":"What is the mayor of Rome?","golden_answers":["x"]}""" + "\n"
            + """{"id":"2","question":"What is the dish of Rome?","golden_answers":["y"]}""" + "\n");
        var replayed = await Play(provider == WebProvider.Local
            ? local with { Web = local.Web with { RecordingMode = RecordingMode.ReplayOnly } }
            : local with
            {
                Tasks = temp["tasks.jsonl"],
                HeldOutFraction = 0,
                // No such variable: what is only replayed needs no key.
                Web = local.Web with { Provider = provider, LocalOpenShare = 0, KeyVariable = "MEM1_NO_SUCH_KEY", RecordingMode = RecordingMode.ReplayOnly },
            });
        Assert.Empty(replayed.Events);
        Assert.Empty(replayed.Sockets);
        if (provider == WebProvider.Local)
            Assert.Equal(recorded.Read, replayed.Read);
        else
            Assert.All(replayed.Read, r => Assert.True(r.Length == 0 || r.Contains("failed", StringComparison.Ordinal), r));
    }

    private static async Task<(List<string> Events, List<string> Sockets, List<string> Read)> Play(EnvironmentConfig environment)
    {
        Assert.Empty(environment.Validate());
        using var listener = new NetworkEvents();
        var before = Sockets();
        var read = new List<string>();
        using var set = EnvironmentSet.Open(
            new RunConfig { Environment = environment, Evaluation = new EvaluationConfig { Objectives = [1] } }, (_, _) => { }, default);
        for (var i = 0; i < 20; i++)
        {
            var task = set.Training.Get(i, 1, 1);
            await using var episode = set.Factory.Create(task, (ulong)i);
            var player = set.Expert!.Begin(task, (ulong)i);
            string? seen = null;
            for (var end = Environments.EpisodeEnd.None; end == Environments.EpisodeEnd.None;)
            {
                var turn = await episode.StepAsync(player.Respond(seen), false, TestContext.Current.CancellationToken);
                (end, seen) = (turn.End, turn.Observation);
                read.Add(seen);
            }
        }

        return ([.. listener.Names], [.. Sockets().Except(before)], read);
    }

    /// <summary>The sockets this process holds open; none where the system does not tell.</summary>
    private static List<string> Sockets() => !OperatingSystem.IsLinux() ? [] :
    [
        .. Directory.GetFiles("/proc/self/fd").Select(f => new FileInfo(f).LinkTarget ?? "").Where(t => t.StartsWith("socket:", StringComparison.Ordinal)),
    ];

    private sealed class NetworkEvents : EventListener
    {
        public ConcurrentQueue<string> Names { get; } = [];

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource.Name is "System.Net.Sockets" or "System.Net.NameResolution" or "System.Net.Http")
                EnableEvents(eventSource, EventLevel.Informational);
        }

        // Names is not there yet while the base class looks for sources.
        protected override void OnEventWritten(EventWrittenEventArgs eventData) => Names?.Enqueue(eventData.EventName ?? "");
    }
}
