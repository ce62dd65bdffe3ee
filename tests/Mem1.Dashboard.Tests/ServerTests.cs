using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Mem1.Dashboard.Tests;

public sealed class ServerTests : IAsyncLifetime
{
    private readonly RunFolderFixture _run = new();
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };
    private DashboardServer _server = null!;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25), RunFolderFixture.Metrics(2, 0.75));
        _run.AppendTrajectories(RunFolderFixture.Trajectory(1, "first"), RunFolderFixture.Trajectory(2, "second"));
        _server = await DashboardServer.StartAsync(new DashboardOptions { Folder = _run.Path, Port = 0 }, Stop);
        _http.BaseAddress = _server.Address;
        await WaitAsync(async () => (await _http.GetAsync("/ready", Stop)).IsSuccessStatusCode);
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _server.DisposeAsync();
        _run.Dispose();
    }

    [Theory]
    [InlineData("/")]
    [InlineData("/api/run")]
    [InlineData("/api/state")]
    [InlineData("/metrics")]
    [InlineData("/nothing/here")]
    public async Task Every_answer_has_the_strict_policy(string path)
    {
        using var answer = await _http.GetAsync(path, Stop);

        Assert.Equal(DashboardServer.ContentSecurityPolicy, Assert.Single(answer.Headers.GetValues("Content-Security-Policy")));
        Assert.Equal("nosniff", Assert.Single(answer.Headers.GetValues("X-Content-Type-Options")));
        Assert.Equal(path == "/nothing/here" ? HttpStatusCode.NotFound : HttpStatusCode.OK, answer.StatusCode);
    }

    [Fact]
    public async Task Health_is_ok() => Assert.Equal("ok\n", await _http.GetStringAsync("/health", Stop));

    [Fact]
    public async Task Metrics_come_column_by_column_and_from_an_update_on()
    {
        var all = await GetAsync("/api/metrics");
        var rest = await GetAsync("/api/metrics?after=1");

        Assert.Equal([1, 2], all.GetProperty("updates").EnumerateArray().Select(u => u.GetInt64()));
        Assert.Equal([0.25, 0.75], all.GetProperty("series").GetProperty("reward_mean").EnumerateArray().Select(u => u.GetDouble()));
        Assert.All(
            all.GetProperty("series").GetProperty("explained_variance").EnumerateArray(),
            v => Assert.Equal(JsonValueKind.Null, v.ValueKind));
        Assert.Equal([2], rest.GetProperty("updates").EnumerateArray().Select(u => u.GetInt64()));
    }

    [Fact]
    public async Task Trajectories_are_listed_newest_first_and_read_whole()
    {
        var list = await GetAsync("/api/trajectories");
        var newest = list[0];
        var whole = await GetAsync($"/api/trajectories/{newest.GetProperty("index").GetInt64()}");

        Assert.Equal(["second", "first"], list.EnumerateArray().Select(t => t.GetProperty("episode_id").GetString()));
        Assert.Equal((2, 2, 0.5, 14), (newest.GetProperty("turns").GetInt32(), newest.GetProperty("objectives").GetInt32(),
            newest.GetProperty("exact_match").GetDouble(), newest.GetProperty("peak_tokens").GetInt32()));
        Assert.Equal("second", whole.GetProperty("episode_id").GetString());
        using var missing = await _http.GetAsync("/api/trajectories/999", Stop);
        Assert.Equal(HttpStatusCode.NotFound, missing.StatusCode);
    }

    [Fact]
    public async Task A_name_that_is_not_this_machines_is_refused()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/api/run");
        request.Headers.Host = "evil.example";
        using var answer = await _http.SendAsync(request, Stop);

        Assert.Equal(HttpStatusCode.MisdirectedRequest, answer.StatusCode);
    }

    [Fact]
    public async Task Nothing_can_be_posted()
    {
        using var answer = await _http.PostAsync("/api/run", new StringContent(""), Stop);

        Assert.Equal(HttpStatusCode.MethodNotAllowed, answer.StatusCode);
    }

    [Fact]
    public async Task Listeners_are_told_of_updates_that_come()
    {
        using var stream = await _http.GetStreamAsync("/events", Stop);
        using var reader = new StreamReader(stream);
        Assert.Equal("event: hello", await reader.ReadLineAsync(Stop));
        _run.AppendMetrics(RunFolderFixture.Metrics(3, 0.5));

        using var row = JsonDocument.Parse(await NextAsync(reader, "metrics"));
        Assert.Equal((3, 0.5), (row.RootElement.GetProperty("update").GetInt64(), row.RootElement.GetProperty("reward_mean").GetDouble()));
    }

    [Fact]
    public async Task A_listener_that_does_not_read_loses_events_and_is_told_so()
    {
        await using var server = await DashboardServer.StartAsync(
            new DashboardOptions { Folder = _run.Path, Port = 0, EventCapacity = 4 }, Stop);
        using var stream = await _http.GetStreamAsync(new Uri(server.Address, "/events"), Stop);
        await WaitAsync(() => Task.FromResult(server.Hub.Clients == 1));
        // Far more than the sockets between the two hold.
        var large = $"\"{new string('x', 1 << 20)}\"";
        var watch = Stopwatch.StartNew();
        for (var i = 0; i < 200; i++) server.Hub.Publish("filler", large);

        Assert.InRange(server.Hub.Dropped, 1, 200);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), "publishing waits for nobody");
        using var reader = new StreamReader(stream);
        using var told = JsonDocument.Parse(await NextAsync(reader, "dropped"));
        Assert.Equal(server.Hub.Dropped, told.RootElement.GetProperty("count").GetInt64());
    }

    [Fact]
    public async Task Too_many_listeners_are_turned_away()
    {
        var hub = new EventHub();
        var clients = Enumerable.Range(0, EventHub.MaxClients).Select(_ => hub.Connect()).ToList();

        Assert.All(clients, Assert.NotNull);
        Assert.Null(hub.Connect());
        clients[0]!.Dispose();
        Assert.NotNull(hub.Connect());
        await Task.CompletedTask;
    }

    [Fact]
    public async Task A_port_that_is_taken_is_one_sentence()
    {
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();
        var port = ((IPEndPoint)other.LocalEndpoint).Port;

        var failure = await Assert.ThrowsAsync<DashboardException>(
            () => DashboardServer.StartAsync(new DashboardOptions { Folder = _run.Path, Port = port }, Stop));
        Assert.StartsWith($"The dashboard cannot listen on 127.0.0.1:{port}", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_without_a_run_is_one_sentence()
    {
        var empty = Path.Combine(_run.Path, "empty");
        Directory.CreateDirectory(empty);

        var failure = await Assert.ThrowsAsync<DashboardException>(
            () => DashboardServer.StartAsync(new DashboardOptions { Folder = empty, Port = 0 }, Stop));
        Assert.Contains("no config.yaml", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_demonstration_answers_everything()
    {
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Port = 0 }, Stop);
        await WaitAsync(async () => (await _http.GetAsync(new Uri(server.Address, "/ready"), Stop)).IsSuccessStatusCode);
        foreach (var path in new[]
        {
            "/api/run", "/api/state", "/api/metrics", "/api/advisories", "/api/events", "/api/trajectories", "/api/actors", "/api/episodes",
            "/api/quarantined",
        })
        {
            using var answer = JsonDocument.Parse(await _http.GetStringAsync(new Uri(server.Address, path), Stop));
            Assert.NotEqual(JsonValueKind.Undefined, answer.RootElement.ValueKind);
        }

        using var state = JsonDocument.Parse(await _http.GetStringAsync(new Uri(server.Address, "/api/state"), Stop));
        var ledger = state.RootElement.GetProperty("ledger");
        Assert.Equal(
            ledger.GetProperty("total").GetInt32(),
            new[] { "pending", "leased", "buffered", "consumed", "quarantined" }.Sum(n => ledger.GetProperty(n).GetInt32()));
    }

    private async Task<JsonElement> GetAsync(string path)
    {
        using var json = JsonDocument.Parse(await _http.GetStringAsync(path, Stop));
        return json.RootElement.Clone();
    }

    internal static async Task<string> NextAsync(StreamReader reader, string name)
    {
        while (await reader.ReadLineAsync(Stop) is { } line)
        {
            if (line == $"event: {name}") return (await reader.ReadLineAsync(Stop))!["data: ".Length..];
        }

        throw new InvalidOperationException("The stream ended.");
    }

    internal static async Task WaitAsync(Func<Task<bool>> condition, TimeSpan? limit = null)
    {
        var watch = Stopwatch.StartNew();
        while (!await condition())
        {
            Assert.True(watch.Elapsed < (limit ?? TimeSpan.FromSeconds(30)), $"waited for {watch.Elapsed.TotalSeconds:0} s");
            await Task.Delay(50, Stop);
        }
    }
}
