// Who may command, what is a command, and what is written down about it.
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace Mem1.Dashboard.Tests;

public sealed class CommandTests : IAsyncLifetime
{
    private const string Token = "0123456789abcdef-secret";

    private readonly RunFolderFixture _run = new();
    private readonly FakeTarget _target = new();
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };
    private DashboardServer _server = null!;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _server = await DashboardServer.StartAsync(
            new DashboardOptions
            {
                Folder = _run.Path,
                Port = 0,
                Live = new FakeLive(),
                Commands = _target,
                Token = CommandToken.Of(Token, "this test"),
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
    public async Task A_command_with_the_token_is_done_recorded_and_among_the_events()
    {
        var (status, answer) = await SendAsync("""{"command":"drain_worker","target":"w-1"}""");

        Assert.Equal(
            (HttpStatusCode.OK, "done", "drain_worker is done."),
            (status, answer.GetProperty("outcome").GetString(), answer.GetProperty("text").GetString()));
        Assert.Equal([new RunCommand("drain_worker", "w-1", null)], _target.Told);
        var lines = Audit();
        Assert.Equal(["asked", "done"], lines.Select(l => l.GetProperty("outcome").GetString()));
        Assert.Single(lines.Select(l => l.GetProperty("id").GetString()).Distinct());
        Assert.All(lines, l => Assert.Equal(("drain_worker", "w-1", "127.0.0.1"),
            (l.GetProperty("command").GetString(), l.GetProperty("target").GetString(), l.GetProperty("from").GetString())));
        await ServerTests.WaitAsync(async () =>
            JsonDocument.Parse(await _http.GetStringAsync("/api/events?kind=command", Stop)).RootElement.GetArrayLength() == 2);
        using var run = JsonDocument.Parse(await _http.GetStringAsync("/api/run", Stop));
        Assert.Equal(7, run.RootElement.GetProperty("commands").GetArrayLength());
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("0123456789abcdef-secreT")]
    [InlineData("0123456789abcdef-secret-and-more")]
    public async Task Without_the_token_nothing_is_done(string? token)
    {
        var (status, answer) = await SendAsync("""{"command":"pause"}""", token);

        Assert.Equal((HttpStatusCode.Unauthorized, "denied"), (status, answer.GetProperty("outcome").GetString()));
        Assert.Empty(_target.Told);
        if (token is { Length: > 0 })
        {
            for (var i = 0; i < 5; i++) await SendAsync("""{"command":"pause"}""", token);
            // A flood is not written down line by line.
            Assert.InRange(Audit().Count(l => l.GetProperty("outcome").GetString() == "denied"), 1, 3);
        }

        Assert.DoesNotContain(Token, Path.Exists(AuditPath) ? File.ReadAllText(AuditPath) : "", StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://evil.example", null)]
    [InlineData("null", null)]
    [InlineData(null, "cross-site")]
    [InlineData(null, "same-site")]
    public async Task Another_page_cannot_send_one_even_with_the_token(string? origin, string? site)
    {
        var (status, _) = await SendAsync("""{"command":"pause"}""", change: r =>
        {
            if (origin is not null) r.Headers.Add("Origin", origin);
            if (site is not null) r.Headers.Add("Sec-Fetch-Site", site);
        });

        Assert.Equal(HttpStatusCode.Forbidden, status);
        Assert.Empty(_target.Told);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/x-www-form-urlencoded")]
    [InlineData("multipart/form-data")]
    public async Task What_a_form_can_send_is_no_command(string type)
    {
        var (status, _) = await SendAsync(
            """{"command":"pause"}""", change: r => r.Content!.Headers.ContentType = MediaTypeHeaderValue.Parse(type));

        Assert.Equal(HttpStatusCode.UnsupportedMediaType, status);
        Assert.Empty(_target.Told);
    }

    [Theory]
    [InlineData("")]
    [InlineData("pause")]
    [InlineData("[]")]
    [InlineData("""{"command":"format_disk"}""")]
    [InlineData("""{"command":"pause","sudo":true}""")]
    [InlineData("""{"command":"drain_worker"}""")]
    [InlineData("""{"command":"drain_worker","target":"a\nb"}""")]
    [InlineData("""{"command":"set_concurrency","value":0}""")]
    [InlineData("""{"command":"set_concurrency","value":1e99}""")]
    public async Task What_is_no_command_is_one_sentence(string body)
    {
        var (status, answer) = await SendAsync(body);

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.EndsWith(".", answer.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.Empty(_target.Told);
    }

    [Fact]
    public async Task A_body_that_is_too_large_is_not_read()
    {
        using var request = Request($$"""{"command":"pause","target":"{{new string('x', 100_000)}}"}""", Token);
        using var answer = await _http.SendAsync(request, Stop);

        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, answer.StatusCode);
        Assert.Empty(_target.Told);
    }

    [Fact]
    public async Task A_command_that_is_refused_or_throws_is_said_and_recorded()
    {
        _target.Do = _ => Task.FromResult(new CommandResult(false, "The run is paused already."));
        Assert.Equal(HttpStatusCode.Conflict, (await SendAsync("""{"command":"pause"}""")).Status);
        _target.Do = _ => throw new InvalidOperationException("boom");
        Assert.Equal(HttpStatusCode.InternalServerError, (await SendAsync("""{"command":"pause"}""")).Status);

        Assert.Equal(["asked", "refused", "asked", "failed"], Audit().Select(l => l.GetProperty("outcome").GetString()));
        Assert.Contains("boom", Audit()[^1].GetProperty("text").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_so_many_are_under_way_at_once()
    {
        var hold = new TaskCompletionSource<CommandResult>();
        _target.Do = _ => hold.Task;
        var first = Enumerable.Range(0, 8).Select(_ => SendAsync("""{"command":"checkpoint"}""")).ToList();
        await ServerTests.WaitAsync(() => Task.FromResult(_target.Told.Count == 8));
        Assert.Equal(HttpStatusCode.TooManyRequests, (await SendAsync("""{"command":"checkpoint"}""")).Status);
        hold.SetResult(new CommandResult(true, "Saved."));
        foreach (var sent in first) Assert.Equal(HttpStatusCode.OK, (await sent).Status);
        Assert.Equal(HttpStatusCode.OK, (await SendAsync("""{"command":"checkpoint"}""")).Status);
    }

    [Fact]
    public async Task Nothing_is_done_that_cannot_be_recorded()
    {
        Directory.CreateDirectory(AuditPath); // a file of that name cannot be written any more
        var (status, answer) = await SendAsync("""{"command":"pause"}""");

        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("nothing is done", answer.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.Empty(_target.Told);
    }

    [Fact]
    public async Task A_dashboard_of_files_only_looks()
    {
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Folder = _run.Path, Port = 0 }, Stop);
        using var request = Request("""{"command":"pause"}""", Token);
        request.RequestUri = new Uri(server.Address, "/api/commands");
        using var answer = await _http.SendAsync(request, Stop);

        Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
        using var run = JsonDocument.Parse(await _http.GetStringAsync(new Uri(server.Address, "/api/run"), Stop));
        Assert.Equal(0, run.RootElement.GetProperty("commands").GetArrayLength());
    }

    [Fact]
    public void A_made_token_is_long_new_and_for_its_owner_alone()
    {
        var path = Path.Combine(_run.Path, CommandToken.FileName);
        File.WriteAllText(path, "an old one that everybody could read");
        var (token, where) = CommandToken.OfRun(_run.Path);
        var first = File.ReadAllText(where).Trim();
        if (!OperatingSystem.IsWindows()) Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(where));
        Assert.Equal(path, where);
        Assert.Equal(43, first.Length);
        Assert.True(token.Matches(first));
        Assert.True(CommandToken.OfRun(_run.Path).Token.Matches(first)); // a run that goes on keeps its token
        File.Delete(where);
        Assert.False(CommandToken.OfRun(_run.Path).Token.Matches(first));
        Assert.False(token.Matches(null));
        Assert.Throws<DashboardException>(() => CommandToken.Of("too short", "here"));
        Assert.Throws<DashboardException>(() => CommandToken.Of("with spaces in the middle", "here"));
    }

    private string AuditPath => Path.Combine(_run.Path, "audit.jsonl");

    private List<JsonElement> Audit() => [.. File.ReadLines(AuditPath).Select(l => JsonDocument.Parse(l).RootElement)];

    private async Task<(HttpStatusCode Status, JsonElement Answer)> SendAsync(
        string body, string? token = Token, Action<HttpRequestMessage>? change = null)
    {
        using var request = Request(body, token);
        change?.Invoke(request);
        using var answer = await _http.SendAsync(request, Stop);
        using var json = JsonDocument.Parse(await answer.Content.ReadAsStringAsync(Stop));
        return (answer.StatusCode, json.RootElement.Clone());
    }

    private static HttpRequestMessage Request(string body, string? token)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/api/commands")
        {
            Content = new StringContent(body, Encoding.UTF8, "application/json"),
        };
        if (token is not null) request.Headers.TryAddWithoutValidation("Authorization", $"Bearer {token}");
        return request;
    }
}
