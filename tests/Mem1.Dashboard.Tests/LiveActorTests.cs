// The page on real processes: one learner, workers of their own, actors that really fail and commands that really restart them. How long a
// failure takes to the page is measured and told, never judged.
using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.RegularExpressions;
using Mem1.Cli.Tests;
using Microsoft.Playwright;

namespace Mem1.Dashboard.Tests;

public sealed partial class LiveActorTests(BrowserFixture fixture) : IClassFixture<BrowserFixture>, IDisposable
{
    private const float Patience = 120_000; // ms; a loaded machine starts three processes in it

    private const string Token = "a-token-of-my-own-choice";

    private readonly TempFolder _temp = new();
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromMinutes(2) };

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _http.Dispose();
        _temp.Dispose();
    }

    [Fact]
    public async Task An_actor_of_another_process_fails_is_killed_is_restarted_and_a_limit_outlives_the_learner()
    {
        var browser = fixture.Browser;
        using var learner = Learner(
            "--env", typeof(FragileModule).Assembly.Location, "--quick", "--updates", "1000000", "--name", "fragile",
            "--set", $"model.from={Path.Combine(AppContext.BaseDirectory, "assets", "worlds-cloned")}",
            "--set", "evaluation.episodes=0", "--set", "rollout.episodes_per_update=8", "--set", "rollout.max_new_tokens=16");
        var address = Opened(learner);
        learner.Until(() => Listening().IsMatch(learner.Error), "it listens");
        var at = Listening().Match(learner.Error).Groups[1].Value;
        using var one = Worker("one", at);
        using var two = Worker("two", at);
        await using var context = await browser.NewContextAsync();
        var page = await context.NewPageAsync();
        var errors = new List<string>();
        page.PageError += (_, error) => errors.Add(error);
        await page.GotoAsync(new Uri(address, "/#/actors").ToString());
        // The tree shows what is in sight; those of the second worker may be below it.
        foreach (var actor in (string[])["one/policy", "two/policy", "one/uplink"])
        {
            await ServerTests.WaitAsync(
                async () => (await GetAsync(address, $"/api/actors?text={actor}")).GetProperty("actors").GetArrayLength() > 0,
                TimeSpan.FromMilliseconds(Patience));
        }

        await Assertions.Expect(page.Locator(".actor").First).ToBeVisibleAsync(new() { Timeout = Patience });
        await page.EvaluateAsync(Watch);

        // An actor fails by a mistake of the environment's: its row turns red, with the cause.
        await File.WriteAllTextAsync(_temp["one"], "", Stop);
        var failed = await page.WaitForFunctionAsync(Red, "one/episode-", new() { Timeout = Patience });
        var shown = await failed.EvaluateAsync<double>("r => r.at");
        var crashed = double.Parse(await File.ReadAllTextAsync(_temp["one" + FragileModule.At], Stop), CultureInfo.InvariantCulture);
        var row = page.Locator($"[data-path='{await failed.EvaluateAsync<string>("r => r.path")}']");
        await row.GetByRole(AriaRole.Button).First.ClickAsync();
        var detail = page.GetByRole(AriaRole.Region, new() { Name = "Actor" });
        await Assertions.Expect(detail).ToContainTextAsync("NullReferenceException", new() { Timeout = Patience });
        await detail.GetByRole(AriaRole.Link, new() { Name = "Its events" }).ClickAsync();
        await Assertions.Expect(page.Locator("main td.text").First).ToContainTextAsync(
            "NullReferenceException", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("6");

        // What only the workers know of themselves has come too, or comes with their next heartbeats and reports.
        JsonElement[] workers = [];
        await ServerTests.WaitAsync(
            async () =>
            {
                workers = [.. (await GetAsync(address, "/api/state")).GetProperty("workers").EnumerateArray()];
                return workers.All(w => w.GetProperty("resident_bytes").ValueKind == JsonValueKind.Number)
                    && (await GetAsync(address, "/api/episodes")).GetProperty("episodes").EnumerateArray()
                        .Any(e => e.GetProperty("spans").GetArrayLength() > 0);
            },
            TimeSpan.FromMilliseconds(Patience));
        Assert.Equal(["one", "two"], workers.Select(w => w.GetProperty("id").GetString()));
        Assert.All(workers, w => Assert.True(w.GetProperty("resident_bytes").GetInt64() > 1 << 20));
        var admission = (await GetAsync(address, "/api/state")).GetProperty("admission");
        Assert.NotEqual("", admission.GetProperty("binds").GetString());

        // A command from the page reaches the policy of the other process, and its supervisor restarts it.
        await page.Locator("[data-path='one/policy']").GetByRole(AriaRole.Button).First.ClickAsync(new() { Timeout = Patience });
        await page.GetByRole(AriaRole.Button, new() { Name = "Restart actor one/policy" }).ClickAsync(new() { Timeout = Patience });
        var dialog = page.GetByRole(AriaRole.Dialog);
        await dialog.GetByLabel("Token").FillAsync(Token);
        await ConfirmAsync(page, "one/policy was restarted; that is its restart number 1");
        await Assertions.Expect(page.Locator("[data-path='one/policy']")).ToContainTextAsync("1 restarts", new() { Timeout = Patience });

        // A worker is killed outright: all its rows turn red.
        var killed = (double)DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        two.Kill();
        var gone = await page.WaitForFunctionAsync(Red, "two", new() { Timeout = Patience });
        var seen = await gone.EvaluateAsync<double>("r => r.at");
        await Assertions.Expect(page.Locator("[data-path='two/policy']")).ToHaveAttributeAsync("data-state", NodeActors.Unreachable);
        Assert.InRange(shown - crashed, 0, Patience);
        Assert.InRange(seen - killed, 0, Patience);
        BrowserTests.Report("live actors", new { FailureShownAfterMs = shown - crashed, KillShownAfterMs = seen - killed });

        // A limit that is set in the page holds when the learner is killed and goes on.
        await page.Keyboard.PressAsync("1");
        await page.GetByRole(AriaRole.Button, new() { Name = "Set concurrency" }).ClickAsync(new() { Timeout = Patience });
        await dialog.GetByLabel("Episodes at once").FillAsync("3");
        await ConfirmAsync(page, "At most 3 episodes are played at once from now on");
        Assert.Empty(errors);
        learner.Kill();
        learner.Finish();
        using var again = Learner("--resume", "fragile");
        address = Opened(again);
        await page.GotoAsync(new Uri(address, "/#/overview").ToString());
        await Assertions.Expect(page.GetByText("at most 3 episodes at once")).ToBeVisibleAsync(new() { Timeout = Patience });
        await page.Keyboard.PressAsync("8");
        await Assertions.Expect(page.GetByText("At most 3 episodes are played at once, as somebody set")).ToBeVisibleAsync(
            new() { Timeout = Patience });
    }

    /// <summary>Notes the first moment at which the row of an actor is red.</summary>
    private const string Watch =
        """
        window.red = {};
        new MutationObserver(() => {
          for (const row of document.querySelectorAll('.actor.error'))
            window.red[row.dataset.path] ??= Date.now();
        }).observe(document.body, { subtree: true, childList: true, attributes: true });
        """;

    private const string Red =
        """
        (name) => {
          const path = Object.keys(window.red).find((p) => p.startsWith(name));
          return path ? { path, at: window.red[path] } : null;
        }
        """;

    private static async Task ConfirmAsync(IPage page, string said)
    {
        var dialog = page.GetByRole(AriaRole.Dialog);
        await dialog.GetByRole(AriaRole.Button, new() { Name = "Confirm" }).ClickAsync();
        await Assertions.Expect(dialog.GetByRole(AriaRole.Alert)).ToContainTextAsync(said, new() { Timeout = Patience });
        await page.Keyboard.PressAsync("Escape");
    }

    private Child Learner(params string[] arguments)
    {
        var start = Mem1.Cli.Tests.Cli.Command(
            ["learner", "--listen", "127.0.0.1:0", "--dashboard-port", "0", "--runs", _temp["runs"], "--json", .. arguments]);
        start.Environment["MEM1_DASHBOARD_TOKEN"] = Token;
        return new Child(start);
    }

    private Child Worker(string name, string learner)
    {
        var start = Mem1.Cli.Tests.Cli.Command("rollout", "--learner", learner, "--id", name, "--set", "rollout.threads=1");
        start.Environment[FragileModule.Variable] = _temp[name];
        return new Child(start);
    }

    private static Uri Opened(Child learner)
    {
        learner.Until(() => Dashboard().IsMatch(learner.Error), "the dashboard is up");
        return new Uri(Dashboard().Match(learner.Error).Groups[1].Value);
    }

    private async Task<JsonElement> GetAsync(Uri address, string path) =>
        await _http.GetFromJsonAsync<JsonElement>(new Uri(address, path), Stop);

    [GeneratedRegex(@"Dashboard: (http://\S+)")]
    private static partial Regex Dashboard();

    [GeneratedRegex(@"Waiting for workers at (\S+):")]
    private static partial Regex Listening();
}
