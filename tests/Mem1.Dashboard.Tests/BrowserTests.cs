// The page in a real browser: Debian's chromium, driven by Playwright. Skips where the browser, or the page, is missing. What must happen
// soon is waited for generously; nothing here measures time.
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Mem1.Protocol.Security;
using Microsoft.Playwright;

namespace Mem1.Dashboard.Tests;

public sealed class BrowserTests(BrowserFixture fixture) : IClassFixture<BrowserFixture>
{
    private const float Patience = 20_000; // ms

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public static TheoryData<string, string> Views => new()
    {
        { "overview", "Mean reward of the batch" },
        { "training", "Explained variance" },
        { "trajectory", "Attention mask" },
        { "episodes", "generating (a colour per policy version)" },
        { "workers", "Newest policy" },
        { "actors", "waiting ·" },
        { "ledger", "every task is in one state" },
        { "events", "Text, actor or episode" },
    };

    [Theory]
    [MemberData(nameof(Views))]
    public async Task A_view_shows_the_recorded_run_at_every_width_and_in_both_themes(string view, string text)
    {
        var browser = fixture.Browser;
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Port = 0 }, Stop);
        (int, int, ColorScheme, string)[] screens = [(1280, 900, ColorScheme.Light, "desktop"), (390, 844, ColorScheme.Dark, "phone")];
        foreach (var (width, height, theme, name) in screens)
        {
            await using var context = await browser.NewContextAsync(new BrowserNewContextOptions
            {
                ViewportSize = new ViewportSize { Width = width, Height = height },
                ColorScheme = theme,
            });
            var (page, errors) = await OpenAsync(context, server, view);
            await Assertions.Expect(page.GetByText(text).First).ToBeVisibleAsync(new() { Timeout = Patience });
            await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("recorded", new() { Timeout = Patience });

            // The theme that is asked for: ink on paper by day, the other way round by night.
            var light = await page.EvaluateAsync<bool>(
                "(() => { const s = getComputedStyle(document.documentElement);"
                + " const sum = (c) => c.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0);"
                + " return sum(s.backgroundColor) > sum(s.color); })()");
            Assert.Equal(theme == ColorScheme.Light, light);

            Assert.Empty(await page.EvaluateAsync<string[]>(Contrast));

            // Wide tables scroll within themselves; the page does not.
            Assert.True(
                await page.EvaluateAsync<bool>("document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
                $"{view} at {width}");
            if (Environment.GetEnvironmentVariable("MEM1_SCREENSHOTS") is { Length: > 0 } folder)
            {
                var shot = await page.ScreenshotAsync(new() { Animations = ScreenshotAnimations.Disabled });
                await File.WriteAllBytesAsync(Path.Combine(folder, $"dashboard-{view}-{name}.png"), SmallPng.Shrink(shot), Stop);
            }

            Assert.Empty(errors);
        }
    }

    /// <summary>
    /// Texts that stand out too little from what is behind them: below 4.5 to 1, or 3 to 1 for large ones (WCAG 2.1, 1.4.3). Charts are
    /// drawn on canvases and not looked at.
    /// </summary>
    private const string Contrast =
        """
        (() => {
          const parse = (c) => {
            const v = c.match(/-?[0-9.]+(e-?[0-9]+)?/g).map(Number);
            const unit = c.startsWith('color(');
            return [...v.slice(0, 3).map((x) => (unit ? 255 * x : x)), v.length > 3 ? v[3] : 1];
          };
          const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
          const behind = (e) => {
            const layers = [];
            for (let at = e; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
            return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
          };
          const light = (c) => c.slice(0, 3).map((x) => x / 255)
            .map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
            .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
          const found = new Set();
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const e = texts.currentNode.parentElement;
            if (!texts.currentNode.data.trim() || e.closest('script,style,svg,option,.hidden,.skip') || !e.checkVisibility()) continue;
            const style = getComputedStyle(e);
            const paper = behind(e);
            let opacity = 1;
            for (let at = e; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
            const ink = parse(style.color);
            const [a, b] = [light(over([ink[0], ink[1], ink[2], ink[3] * opacity], paper)), light(paper)];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            const size = parseFloat(style.fontSize);
            const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
            if (ratio < (large ? 3 : 4.5))
              found.add(`${ratio.toFixed(2)} ${e.tagName}.${e.className} "${texts.currentNode.data.slice(0, 30)}"`);
          }
          return [...found].slice(0, 10);
        })()
        """;

    [Fact]
    public async Task A_run_that_has_only_begun_leaves_no_view_empty()
    {
        var browser = fixture.Browser;
        using var run = new RunFolderFixture();
        await using var files = await DashboardServer.StartAsync(new DashboardOptions { Folder = run.Path, Port = 0 }, Stop);
        var live = new FakeLive { Now = new LiveSnapshot { LearnerAddress = "here:5050" } };
        await using var training = await DashboardServer.StartAsync(
            new DashboardOptions { Folder = run.Path, Port = 0, Live = live, Telemetry = new() }, Stop);
        await using var context = await browser.NewContextAsync();
        (string View, string Files, string Live)[] views =
        [
            ("overview", "No update is done yet", "No update is done yet"), ("training", "No update is done yet", "No update is done yet"),
            ("trajectory", "No trajectory is recorded yet", "No trajectory is recorded yet"),
            ("episodes", "A run's files do not hold", "No episode runs now"),
            ("workers", "A run's files do not hold", "No worker is connected"),
            ("actors", "A run's files do not hold", "No actor is known yet"),
            ("ledger", "A run's files do not hold", "No task has been asked for yet"),
            ("events", "Nothing has happened yet", "Nothing has happened yet"),
        ];
        foreach (var server in (DashboardServer[])[files, training])
        {
            var (page, errors) = await OpenAsync(context, server, "overview");
            foreach (var (view, of, now) in views)
            {
                await page.GotoAsync(new Uri(server.Address, $"/#/{view}").ToString());
                await Assertions.Expect(page.Locator("main").GetByText(server == files ? of : now).First)
                    .ToBeVisibleAsync(new() { Timeout = Patience });
            }

            Assert.Empty(errors);
        }
    }

    [Fact]
    public async Task An_update_appears_when_it_is_written_and_again_after_the_server_was_away()
    {
        var browser = fixture.Browser;
        using var run = new RunFolderFixture();
        run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25));
        var server = await DashboardServer.StartAsync(new DashboardOptions { Folder = run.Path, Port = 0 }, Stop);
        await using var context = await browser.NewContextAsync();
        var (page, _) = await OpenAsync(context, server, "overview");
        var tile = page.Locator(".tile").Filter(new() { HasText = "Update" }).First;
        await Assertions.Expect(tile.Locator("b")).ToHaveTextAsync("1", new() { Timeout = Patience });

        run.AppendMetrics(RunFolderFixture.Metrics(2, 0.5));
        await Assertions.Expect(tile.Locator("b")).ToHaveTextAsync("2", new() { Timeout = Patience });

        var port = server.Address.Port;
        await server.DisposeAsync();
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("Connection lost", new() { Timeout = Patience });
        run.AppendMetrics(RunFolderFixture.Metrics(3, 0.75));
        await using var again = await DashboardServer.StartAsync(new DashboardOptions { Folder = run.Path, Port = port }, Stop);
        await Assertions.Expect(tile.Locator("b")).ToHaveTextAsync("3", new() { Timeout = Patience });
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("from its files", new() { Timeout = Patience });
    }

    [Fact]
    public async Task What_agents_and_actors_are_called_is_text_and_never_markup()
    {
        const string Evil = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script></pre>";
        var browser = fixture.Browser;
        using var run = new RunFolderFixture();
        run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25));
        run.AppendTrajectories(RunFolderFixture.Trajectory(1, Evil, Evil, Evil));
        var telemetry = new TelemetryQueue();
        telemetry.Phase(Evil);
        telemetry.Log(new TelemetryEvent(EventLevel.Error, "actor", Evil) { Actor = Evil, Episode = Evil });
        var live = new FakeLive
        {
            Now = new LiveSnapshot
            {
                Workers = [new WorkerState(Evil, 1, 2, 3, 4, 5, null, null, null, null)],
                Actors = [new ActorState(Evil, "", "supervisor", "failed", Evil, 1, 2, 3, Evil)],
                Episodes = [new EpisodeState(Evil, Evil, 1, 0, "generating", 1, [new EpisodeSpan("generating", 0, 2, 1, 1)])],
                Quarantined = [new QuarantineState(Evil, [Evil])],
            },
        };
        await using var server = await DashboardServer.StartAsync(
            new DashboardOptions { Folder = run.Path, Port = 0, Telemetry = telemetry, Live = live }, Stop);
        await using var context = await browser.NewContextAsync();
        var (page, errors) = await OpenAsync(context, server, "overview");
        foreach (var view in Views.Select(v => v.Data.Item1))
        {
            await page.GotoAsync(new Uri(server.Address, $"/#/{view}").ToString());
            await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("onerror", new() { Timeout = Patience });
            if (view is not ("overview" or "training"))
            {
                await Assertions.Expect(page.Locator("main").GetByText("window.hacked").First)
                    .ToBeAttachedAsync(new() { Timeout = Patience });
            }

            Assert.Equal(0, await page.Locator("main img, main script").CountAsync());
        }

        Assert.True(await page.EvaluateAsync<bool>("window.hacked === undefined"));
        Assert.Empty(errors);
    }

    [Fact]
    public async Task An_actor_that_fails_is_shown_as_failed_and_ten_thousand_are_not_all_drawn()
    {
        var browser = fixture.Browser;
        using var run = new RunFolderFixture();
        ActorState Actor(int i, string state) => new(
            string.Create(CultureInfo.InvariantCulture, $"w/episode-{i}"), "w", "episode", state, "e", 1, 2, 0,
            state == "failed" ? "Boom: it broke" : null);
        ActorState root = new("w", "", "supervisor", "running", "", 1, 2, 0, null);
        LiveSnapshot Snapshot(params ActorState[] first) => new()
        {
            Actors = [root, .. first, .. Enumerable.Range(first.Length, 10_000 - first.Length).Select(i => Actor(i, "generating"))],
        };
        var live = new FakeLive { Now = Snapshot() };
        await using var server = await DashboardServer.StartAsync(
            new DashboardOptions { Folder = run.Path, Port = 0, Telemetry = new(), Live = live }, Stop);
        await using var context = await browser.NewContextAsync();
        var (page, errors) = await OpenAsync(context, server, "actors");
        await Assertions.Expect(page.GetByText("10,001").First).ToBeVisibleAsync(new() { Timeout = Patience });
        Assert.InRange(await page.Locator(".actor").CountAsync(), 1, 60);

        // The frames of scrolling through all of them, while the list is read anew every second. Measured and told, never judged.
        var frames = await page.EvaluateAsync<double[]>(
            """
            new Promise((done) => {
              const tree = document.querySelector('.tree');
              const frames = [];
              let last = performance.now();
              const step = (now) => {
                frames.push(now - last);
                last = now;
                tree.scrollTop += 1111;
                if (frames.length < 240) requestAnimationFrame(step);
                else done(frames.slice(1));
              };
              requestAnimationFrame(step);
            })
            """);
        Array.Sort(frames);
        Assert.InRange(await page.Locator(".actor").CountAsync(), 1, 60); // wherever it is scrolled to
        await page.EvaluateAsync("document.querySelector('.tree').scrollTop = 0");

        live.Now = Snapshot(Actor(0, "failed"));
        var since = Stopwatch.StartNew();
        var failed = page.Locator("[data-state=failed]");
        await Assertions.Expect(failed).ToBeVisibleAsync(new() { Timeout = Patience });
        Report("actors", new
        {
            Actors = 10_001,
            FrameMedianMs = Math.Round(frames[frames.Length / 2], 1),
            Frame95Ms = Math.Round(frames[frames.Length * 95 / 100], 1),
            FrameWorstMs = Math.Round(frames[^1], 1),
            FailureShownAfterMs = Math.Round(since.Elapsed.TotalMilliseconds),
        });
        await Assertions.Expect(failed).ToHaveClassAsync(new Regex(@"\berror\b"));
        await failed.GetByRole(AriaRole.Button).First.ClickAsync();
        await Assertions.Expect(page.GetByText("Boom: it broke")).ToBeVisibleAsync(new() { Timeout = Patience });
        Assert.Empty(errors);
    }

    [Fact]
    public async Task A_command_is_confirmed_sent_done_and_shown()
    {
        const string Token = "0123456789abcdef-secret";
        var browser = fixture.Browser;
        using var run = new RunFolderFixture();
        run.AppendMetrics(RunFolderFixture.Metrics(1, 0.25));
        run.AppendTrajectories(RunFolderFixture.Trajectory(1, "u1-0/t"));
        var live = new FakeLive
        {
            Now = new LiveSnapshot
            {
                Ledger = new LedgerState { Pending = 3, Leased = 2, Total = 5 },
                Admission = new AdmissionState(3, 0, 2, 1, 1, 3, 1, "none"),
                Workers = [new WorkerState("w-1", 1, 2, 3, 4, 5, null, null, null, null)],
                Actors =
                [
                    new ActorState("w-1", "", "supervisor", "running", "", 1, 2, 0, null),
                    new ActorState("w-1/policy", "w-1", "policy", "running", "", 1, 2, 0, null),
                ],
            },
        };
        var target = new FakeTarget();
        target.Do = command =>
        {
            if (command.Name is CommandNames.Pause or CommandNames.Resume)
            {
                var paused = command.Name == CommandNames.Pause;
                live.Now = live.Now! with { Paused = paused, Admission = live.Now.Admission! with { Binds = paused ? "paused" : "none" } };
            }

            return Task.FromResult(new CommandResult(
                command.Name != CommandNames.DrainWorker, $"Heard {command.Name} of '{command.Target}' at {command.Value}."));
        };
        await using var server = await DashboardServer.StartAsync(
            new DashboardOptions
            {
                Folder = run.Path,
                Port = 0,
                Live = live,
                Telemetry = new(),
                Commands = target,
                Token = CommandToken.Of(Token, "this test"),
            },
            Stop);
        await using var context = await browser.NewContextAsync(new() { ViewportSize = new() { Width = 390, Height = 844 } });
        var (page, errors) = await OpenAsync(context, server, "overview");
        var dialog = page.GetByRole(AriaRole.Dialog);
        async Task ConfirmAsync(ILocator button, string heard)
        {
            await button.ClickAsync(new() { Timeout = Patience });
            await dialog.GetByRole(AriaRole.Button, new() { Name = "Confirm" }).ClickAsync();
            await Assertions.Expect(dialog.GetByRole(AriaRole.Alert)).ToContainTextAsync(heard, new() { Timeout = Patience });
            await page.Keyboard.PressAsync("Escape");
            await Assertions.Expect(dialog).ToBeHiddenAsync();
        }

        // Nothing is sent before it is confirmed; a wrong token is said; with the right one it is done, by keyboard alone.
        await page.GetByRole(AriaRole.Button, new() { Name = "Pause" }).PressAsync("Enter", new() { Timeout = Patience });
        await Assertions.Expect(dialog).ToContainTextAsync("no update begins");
        Assert.Empty(target.Told);
        await page.Keyboard.TypeAsync("a wrong token of some length");
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(dialog.GetByRole(AriaRole.Alert)).ToContainTextAsync("denied", new() { Timeout = Patience });
        Assert.Empty(target.Told);
        await dialog.GetByLabel("Token").FillAsync(Token);
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(dialog.GetByRole(AriaRole.Alert)).ToContainTextAsync("done: Heard pause", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("Escape");
        await Assertions.Expect(page.GetByRole(AriaRole.Button, new() { Name = "Resume" })).ToBeVisibleAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("paused");

        // The others, where they belong; the token is not asked for again.
        await page.GetByRole(AriaRole.Button, new() { Name = "Set concurrency" }).ClickAsync();
        await dialog.GetByLabel("Episodes at once").FillAsync("3");
        await dialog.GetByRole(AriaRole.Button, new() { Name = "Confirm" }).ClickAsync();
        await Assertions.Expect(dialog.GetByRole(AriaRole.Alert)).ToContainTextAsync(
            "set_concurrency of '' at 3", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("Escape");
        await ConfirmAsync(page.GetByRole(AriaRole.Button, new() { Name = "Checkpoint now" }), "done: Heard checkpoint");
        await page.Keyboard.PressAsync("5");
        await ConfirmAsync(
            page.GetByRole(AriaRole.Button, new() { Name = "Drain worker w-1" }), "refused: Heard drain_worker of 'w-1'");
        await page.Keyboard.PressAsync("6");
        await page.GetByRole(AriaRole.Button, new() { Name = "policy", Exact = true }).ClickAsync(new() { Timeout = Patience });
        await ConfirmAsync(
            page.GetByRole(AriaRole.Button, new() { Name = "Restart actor w-1/policy" }), "done: Heard restart_actor of 'w-1/policy'");
        await page.Keyboard.PressAsync("3");
        await ConfirmAsync(
            page.GetByRole(AriaRole.Button, new() { Name = "Play this episode again" }), "done: Heard replay_episode of 'u1-0/t'");
        await page.Keyboard.PressAsync("7");
        await Assertions.Expect(page.GetByText("the run is paused")).ToBeVisibleAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.GetByText("3 + 2 + 0 + 0 + 0 = 5")).ToBeVisibleAsync();
        await page.Keyboard.PressAsync("1");
        await ConfirmAsync(page.GetByRole(AriaRole.Button, new() { Name = "Resume" }), "done: Heard resume");
        await Assertions.Expect(page.GetByRole(AriaRole.Button, new() { Name = "Pause" })).ToBeVisibleAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).Not.ToContainTextAsync("paused");

        // Everything there is was done, and is among the events, by actor and by episode.
        Assert.Equal(CommandNames.All.Order(), target.Told.Select(c => c.Name).Order());
        await page.Keyboard.PressAsync("8");
        await Assertions.Expect(page.GetByText("restart_actor w-1/policy is done").First).ToBeVisibleAsync(new() { Timeout = Patience });
        await page.GetByLabel("Actor", new() { Exact = true }).FillAsync("w-1/policy");
        await Assertions.Expect(page.GetByText("2 shown")).ToBeVisibleAsync(new() { Timeout = Patience });
        await page.GetByRole(AriaRole.Button, new() { Name = "Show all" }).ClickAsync();
        await page.GetByRole(AriaRole.Button, new() { Name = "u1-0/t" }).First.ClickAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.GetByText("2 shown")).ToBeVisibleAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.Locator("tbody")).Not.ToContainTextAsync("w-1/policy");
        Assert.DoesNotContain(Token, await page.ContentAsync(), StringComparison.Ordinal);
        Assert.Equal(0, await page.EvaluateAsync<int>("localStorage.length + sessionStorage.length + document.cookie.length"));

        // The browser itself reports answers of 401 and 409 on its console.
        Assert.All(errors, e => Assert.Contains("status of 4", e, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Where_looking_takes_a_token_the_page_asks_for_it_and_keeps_it_to_itself()
    {
        var browser = fixture.Browser;
        var viewer = BearerToken.Create();
        var text = viewer.Header["Bearer ".Length..];
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Port = 0, Viewer = viewer }, Stop);
        await using var context = await browser.NewContextAsync();
        var (page, errors) = await OpenAsync(context, server, "overview");
        var field = page.GetByLabel("Viewers' token");
        await field.FillAsync("a token of somebody else that is long enough", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(page.GetByRole(AriaRole.Alert)).ToContainTextAsync("not the viewers", new() { Timeout = Patience });
        await field.FillAsync(text);
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(page.GetByText("Mean reward of the batch").First).ToBeVisibleAsync(new() { Timeout = Patience });
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToContainTextAsync("recorded", new() { Timeout = Patience });
        Assert.DoesNotContain(text, await page.ContentAsync(), StringComparison.Ordinal);
        Assert.Equal(0, await page.EvaluateAsync<int>("localStorage.length + sessionStorage.length + document.cookie.length"));
        Assert.All(errors, e => Assert.Contains("status of 401", e, StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_keyboard_alone_is_enough()
    {
        var browser = fixture.Browser;
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Port = 0 }, Stop);
        await using var context = await browser.NewContextAsync();
        var (page, errors) = await OpenAsync(context, server, "overview");
        var overview = page.GetByRole(AriaRole.Heading, new() { Name = "Overview" });
        await Assertions.Expect(overview).ToBeVisibleAsync(new() { Timeout = Patience });
        await page.Keyboard.PressAsync("3");
        var turn = page.GetByRole(AriaRole.Group, new() { Name = "Tokens of turn 0" });
        await Assertions.Expect(turn).ToBeVisibleAsync(new() { Timeout = Patience });
        await turn.FocusAsync();
        await page.Keyboard.PressAsync("ArrowRight");
        await page.Keyboard.PressAsync("ArrowRight");
        var card = page.GetByRole(AriaRole.Complementary, new() { Name = "Token" });
        await Assertions.Expect(card).ToContainTextAsync("internal state, turn 0", new() { Timeout = Patience });
        await Assertions.Expect(card).ToContainTextAsync("trained on", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("6");
        var tree = page.GetByRole(AriaRole.Tree, new() { Name = "Supervision tree" });
        await Assertions.Expect(page.Locator(".actor").Nth(2)).ToBeVisibleAsync(new() { Timeout = Patience });
        await tree.FocusAsync();
        await page.Keyboard.PressAsync("ArrowDown");
        var first = tree.GetByRole(AriaRole.Treeitem).First;
        await Assertions.Expect(first).ToHaveClassAsync(new Regex(@"\bat\b"), new() { Timeout = Patience });
        await page.Keyboard.PressAsync("ArrowLeft"); // closes it
        await Assertions.Expect(first).ToHaveAttributeAsync("aria-expanded", "false", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("ArrowDown");
        await page.Keyboard.PressAsync("ArrowDown");
        await Assertions.Expect(tree.GetByRole(AriaRole.Treeitem).Nth(2)).ToHaveClassAsync(
            new Regex(@"\bat\b"), new() { Timeout = Patience });
        await page.Keyboard.PressAsync("Enter"); // a child of the second
        await Assertions.Expect(page.GetByRole(AriaRole.Region, new() { Name = "Actor" }))
            .ToContainTextAsync("/", new() { Timeout = Patience });
        await page.Keyboard.PressAsync("8");
        await Assertions.Expect(page.GetByRole(AriaRole.Link, new() { Name = "Events" })).ToHaveAttributeAsync(
            "aria-current", "page", new() { Timeout = Patience });

        // The check of contrasts sees what is too faint. In one go: the page may be drawn anew at any time, without what is no part of it.
        var faint = await page.EvaluateAsync<string[]>(
            "(() => { const p = document.createElement('p'); p.append('faint'); p.style.color = '#999';"
            + $" document.querySelector('main').append(p); return {Contrast}; }})()");
        Assert.Contains(faint, f => f.Contains("faint", StringComparison.Ordinal));
        Assert.Empty(errors);
    }

    /// <summary>Tells what was measured: in the test's output, and where MEM1_MEASUREMENTS says.</summary>
    internal static void Report(string what, object numbers)
    {
        var now = DateTime.UtcNow.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);
        var line = Json.Write(new { What = what, Date = now, Numbers = numbers });
        TestContext.Current.TestOutputHelper?.WriteLine(line);
        if (Environment.GetEnvironmentVariable("MEM1_MEASUREMENTS") is { Length: > 0 } file) File.AppendAllText(file, line + "\n");
    }

    private static async Task<(IPage Page, List<string> Errors)> OpenAsync(IBrowserContext context, DashboardServer server, string view)
    {
        var page = await context.NewPageAsync();
        var errors = new List<string>();
        page.Console += (_, message) =>
        {
            if (message.Type is "error" or "warning") errors.Add(message.Text);
        };
        page.PageError += (_, error) => errors.Add(error);
        page.Request += (_, request) =>
        {
            if (!request.Url.StartsWith(server.Address.ToString(), StringComparison.Ordinal)) errors.Add($"asked elsewhere: {request.Url}");
        };
        await page.GotoAsync(new Uri(server.Address, $"/#/{view}").ToString());
        return (page, errors);
    }
}
