// A dashboard in front of a learner elsewhere: a second server that has nothing but the learner's gRPC port.
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Mem1.Dashboard.Tests;

/// <summary>A learner's port with a dashboard behind it. It can go away and come back.</summary>
internal sealed class FakeLearnerPort(DashboardServer dashboard) : IAsyncDisposable
{
    private WebApplication? _server;

    public Uri Address { get; private set; } = new("http://127.0.0.1:0");

    public async Task OpenAsync()
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(
            k => k.Listen(IPAddress.Loopback, Address.Port, l => l.Protocols = HttpProtocols.Http2));
        builder.Services.AddRoutingCore().AddLogging().AddGrpc();
        ObserverEndpoint.AddTo(builder.Services, dashboard);
        _server = builder.Build();
        _server.UseRouting();
        ObserverEndpoint.Map(_server);
        await _server.StartAsync(TestContext.Current.CancellationToken);
        Address = new Uri(_server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not { } server) return;
        _server = null;
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        await server.StopAsync(limit.Token);
        await ((IAsyncDisposable)server).DisposeAsync();
    }
}

public sealed class RemoteTests : IAsyncLifetime
{
    private const string Token = "0123456789abcdef-secret";

    private readonly RunFolderFixture _run = new();
    private readonly FakeTarget _target = new();
    private readonly FakeLive _live = new()
    {
        Now = new LiveSnapshot { LearnerAddress = "here", Actors = [new("w", "", "supervisor", "running", "", 1, 2, 0, null)] },
    };
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };
    private DashboardServer _learner = null!, _apart = null!;
    private FakeLearnerPort _port = null!;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25));
        _run.AppendTrajectories(RunFolderFixture.Trajectory(1, "first"));
        _learner = await DashboardServer.StartAsync(
            new DashboardOptions
            {
                Folder = _run.Path,
                Port = 0,
                Live = _live,
                Telemetry = new(),
                Commands = _target,
                Token = CommandToken.Of(Token, "this test"),
            },
            Stop);
        _port = new FakeLearnerPort(_learner);
        await _port.OpenAsync();
        _apart = await DashboardServer.StartAsync(new DashboardOptions { Learner = _port.Address, Port = 0 }, Stop);
        _http.BaseAddress = _apart.Address;
        await ServerTests.WaitAsync(async () => (await _http.GetAsync("/ready", Stop)).IsSuccessStatusCode);
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _apart.DisposeAsync();
        await _port.DisposeAsync();
        await _learner.DisposeAsync();
        _run.Dispose();
    }

    [Fact]
    public async Task It_answers_what_the_learner_s_own_dashboard_answers()
    {
        await ServerTests.WaitAsync(() => Task.FromResult(_learner.Backend.NotReady is null));
        foreach (var path in new[]
        {
            "/api/run", "/api/metrics", "/api/metrics?after=1", "/api/trajectories", "/api/trajectories/0", "/api/trajectories/77",
            "/api/events",
            "/api/actors?text=w&limit=1", "/api/episodes", "/api/quarantined", "/api/nothing", "/api/trajectories?episode=FIR%26ST",
        })
        {
            using var own = await _http.GetAsync(new Uri(_learner.Address, path), Stop);
            using var apart = await _http.GetAsync(path, Stop);

            Assert.Equal(own.StatusCode, apart.StatusCode);
            Assert.Equal(await own.Content.ReadAsStringAsync(Stop), await apart.Content.ReadAsStringAsync(Stop));
        }

        Assert.Contains("mem1_train_reward_mean 0.25", await _http.GetStringAsync("/metrics", Stop), StringComparison.Ordinal);
        Assert.False((await StateAsync()).TryGetProperty("unreachable_since", out _));
    }

    [Fact]
    public async Task What_happens_is_told_and_a_command_goes_on_with_its_token()
    {
        using var stream = await _http.GetStreamAsync("/events", Stop);
        using var reader = new StreamReader(stream);
        Assert.Equal("event: hello", await reader.ReadLineAsync(Stop));
        _run.AppendMetrics(RunFolderFixture.Metrics(2, 0.5));
        using var row = JsonDocument.Parse(await ServerTests.NextAsync(reader, "metrics"));
        Assert.Equal(2, row.RootElement.GetProperty("update").GetInt32());

        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync("wrong wrong wrong")).Status);
        Assert.Empty(_target.Told);
        Assert.Equal((HttpStatusCode.OK, "pause is done."), await SendAsync(Token));
        var audit = File.ReadAllText(Path.Combine(_run.Path, "audit.jsonl"));
        Assert.Contains("127.0.0.1 by way of ipv4:127.0.0.1", audit, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_learner_that_goes_away_is_said_to_be_away_and_found_again()
    {
        await ServerTests.WaitAsync(async () => (await GetAsync("/api/metrics")).GetProperty("updates").GetArrayLength() == 1);
        await GetAsync("/api/run");
        await _port.DisposeAsync();
        await ServerTests.WaitAsync(async () => (await StateAsync()).TryGetProperty("unreachable_since", out _));
        using (var ready = await _http.GetAsync("/ready", Stop)) Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        Assert.Equal("learner_unreachable", (await GetAsync("/api/advisories"))[0].GetProperty("code").GetString());
        Assert.Equal(1, (await GetAsync("/api/metrics")).GetProperty("updates").GetArrayLength()); // as it was
        using (var metrics = await _http.GetAsync("/metrics", Stop)) Assert.Equal(HttpStatusCode.ServiceUnavailable, metrics.StatusCode);
        Assert.Equal(HttpStatusCode.BadGateway, (await SendAsync(Token)).Status);

        _run.AppendMetrics(RunFolderFixture.Metrics(2, 0.5));
        await _port.OpenAsync();
        await ServerTests.WaitAsync(async () => !(await StateAsync()).TryGetProperty("unreachable_since", out _));
        await ServerTests.WaitAsync(async () => (await GetAsync("/api/metrics")).GetProperty("updates").GetArrayLength() == 2);
        Assert.Equal(HttpStatusCode.OK, (await SendAsync(Token)).Status);
    }

    [Fact]
    public async Task A_learner_that_was_never_there_is_an_empty_run_with_the_reason()
    {
        await using var server = await DashboardServer.StartAsync(
            new DashboardOptions { Learner = new Uri("http://127.0.0.1:1"), Port = 0 }, Stop);
        string[] paths = ["/api/run", "/api/state", "/api/metrics", "/api/advisories", "/api/events", "/api/trajectories", "/api/actors"];
        foreach (var path in paths)
        {
            using var answer = JsonDocument.Parse(await _http.GetStringAsync(new Uri(server.Address, path), Stop));
            Assert.NotEqual(JsonValueKind.Undefined, answer.RootElement.ValueKind);
        }

        using var state = JsonDocument.Parse(await _http.GetStringAsync(new Uri(server.Address, "/api/state"), Stop));
        Assert.Contains("127.0.0.1:1", state.RootElement.GetProperty("unreachable_why").GetString(), StringComparison.Ordinal);
    }

    private Task<JsonElement> StateAsync() => GetAsync("/api/state");

    private async Task<JsonElement> GetAsync(string path)
    {
        using var json = JsonDocument.Parse(await _http.GetStringAsync(path, Stop));
        return json.RootElement.Clone();
    }

    private async Task<(HttpStatusCode Status, string? Text)> SendAsync(string token)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/api/commands")
        {
            Content = new StringContent("""{"command":"pause"}""", Encoding.UTF8, "application/json"),
            Headers = { Authorization = new AuthenticationHeaderValue("Bearer", token) },
        };
        using var answer = await _http.SendAsync(request, Stop);
        using var json = JsonDocument.Parse(await answer.Content.ReadAsStringAsync(Stop));
        return (answer.StatusCode, json.RootElement.GetProperty("text").GetString());
    }
}
