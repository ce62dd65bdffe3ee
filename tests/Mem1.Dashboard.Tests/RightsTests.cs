// Who may look and who may command, where both take a token of their own.
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Mem1.Protocol;
using Mem1.Protocol.Security;

namespace Mem1.Dashboard.Tests;

public sealed class RightsTests : IAsyncLifetime
{
    private const string Operator = "0123456789abcdef-secret";

    private static readonly BearerToken s_viewer = BearerToken.Create();
    private static readonly string[] s_looking =
        ["/api/run", "/api/state", "/api/metrics", "/api/trajectories/0", "/API/run", "/metrics", "/events", "/api/none"];

    private readonly RunFolderFixture _run = new();
    private readonly FakeTarget _target = new();
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };
    private DashboardServer _server = null!;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static string ViewerText => s_viewer.Header["Bearer ".Length..];

    public async ValueTask InitializeAsync()
    {
        _run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25));
        _server = await DashboardServer.StartAsync(
            new DashboardOptions
            {
                Folder = _run.Path,
                Port = 0,
                Live = new FakeLive
                {
                    Now = new LiveSnapshot
                    {
                        Run = "a run",
                        Actors = [new ActorState("w/episode-1", "w", "episode", "failed", "u1-0", 1, 2, 0, "Boom: it broke")],
                    },
                },
                Commands = _target,
                Token = CommandToken.Of(Operator, "this test"),
                Viewer = s_viewer,
            },
            Stop);
        _http.BaseAddress = _server.Address;
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _server.DisposeAsync();
        _run.Dispose();
    }

    [Fact]
    public async Task Nobody_looks_without_the_token_of_viewers()
    {
        string?[][] wrong =
        [
            [null], [""], ["Bearer"], ["Bearer "], [ViewerText], [$"Basic {ViewerText}"], [$"Bearer {ViewerText[1..]}"], [$"Bearer {ViewerText}0"],
            [$"Bearer {Operator}"], [$"Bearer {ViewerText}", "Bearer none"], [$"Bearer {ViewerText.ToUpperInvariant()}x"],
        ];
        foreach (var path in s_looking)
        {
            foreach (var headers in wrong)
            {
                using var answer = await GetAsync(path, headers);
                Assert.Equal((path, HttpStatusCode.Unauthorized), (path, answer.StatusCode));
                Assert.Equal("Bearer", answer.Headers.WwwAuthenticate.Single().Scheme);
                var text = await answer.Content.ReadAsStringAsync(Stop);
                Assert.Contains("token", text, StringComparison.Ordinal);
                Assert.DoesNotContain(ViewerText, text, StringComparison.Ordinal);
            }

            using var right = await GetAsync(path, s_viewer.Header);
            Assert.NotEqual(HttpStatusCode.Unauthorized, right.StatusCode);
        }

        foreach (var free in (string[])["/", "/health", "/ready", "/icon.svg"])
        {
            using var answer = await GetAsync(free, (string?)null);
            Assert.NotEqual(HttpStatusCode.Unauthorized, answer.StatusCode);
        }
    }

    [Fact]
    public async Task Who_may_look_may_not_command_and_is_told_before_the_command_is_read()
    {
        foreach (var header in (string?[])[null, s_viewer.Header, "Bearer nothing of the kind"])
        {
            using var socket = new TcpClient();
            await socket.ConnectAsync(IPAddress.Loopback, _server.Address.Port, Stop);
            var stream = socket.GetStream();
            var request = $"POST /api/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
                + (header is null ? "" : $"Authorization: {header}\r\n") + "\r\n"; // and no body
            await stream.WriteAsync(Encoding.ASCII.GetBytes(request), Stop);
            using var reader = new StreamReader(stream);
            Assert.Contains(" 401 ", await reader.ReadLineAsync(Stop), StringComparison.Ordinal);
        }

        Assert.Empty(_target.Told);
        using var command = new HttpRequestMessage(HttpMethod.Post, "/api/commands")
        {
            Content = new StringContent("""{"command":"pause"}""", Encoding.UTF8, "application/json"),
        };
        command.Headers.Authorization = new AuthenticationHeaderValue("Bearer", Operator);
        using var done = await _http.SendAsync(command, Stop);
        Assert.Equal(HttpStatusCode.OK, done.StatusCode);
        Assert.Single(_target.Told);
    }

    [Fact]
    public async Task Those_that_say_little_or_too_much_leave_it_to_others()
    {
        var sockets = new List<TcpClient>();
        try
        {
            for (var i = 0; i < 100; i++)
            {
                var socket = new TcpClient();
                sockets.Add(socket);
                await socket.ConnectAsync(IPAddress.Loopback, _server.Address.Port, Stop);
                // A third says nothing, a third stops within its headers, a third begins a body.
                var said = (i % 3) switch
                {
                    0 => "",
                    1 => "GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
                    _ => "POST /api/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{",
                };
                await socket.GetStream().WriteAsync(Encoding.ASCII.GetBytes(said), Stop);
            }

            using (var answer = await GetAsync("/api/state", s_viewer.Header)) Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            using var oversize = new HttpRequestMessage(HttpMethod.Get, "/api/state");
            oversize.Headers.Add("X-Long", new string('a', 20_000));
            using (var answer = await _http.SendAsync(oversize, Stop))
                Assert.Equal(HttpStatusCode.RequestHeaderFieldsTooLarge, answer.StatusCode);
        }
        finally
        {
            foreach (var socket in sockets) socket.Dispose();
        }
    }

    [Fact]
    public async Task What_failed_in_an_episode_is_told_with_its_trace()
    {
        await ServerTests.WaitAsync(async () =>
        {
            using var answer = await GetAsync("/api/events?kind=actor", s_viewer.Header);
            using var events = JsonDocument.Parse(await answer.Content.ReadAsStringAsync(Stop));
            return events.RootElement.GetArrayLength() == 1
                && events.RootElement[0].GetProperty("trace_id").GetString() == TraceContext.TraceOf("a run", "u1-0");
        });
    }

    [Fact]
    public void Tokens_of_two_rights_are_known_to_be_the_same()
    {
        Assert.True(CommandToken.Of(ViewerText, "here").IsSame(s_viewer));
        Assert.False(CommandToken.Of(Operator, "here").IsSame(s_viewer));
        Assert.True(BearerToken.Parse(ViewerText, "here").IsSame(s_viewer));
        Assert.False(BearerToken.Create().IsSame(s_viewer));
    }

    private async Task<HttpResponseMessage> GetAsync(string path, params string?[] authorization)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        foreach (var value in authorization)
        {
            if (value is not null) request.Headers.TryAddWithoutValidation("Authorization", value);
        }

        return await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Stop);
    }
}
