// Keeps: tests that need a browser skip, with a line that says what is missing, where it or the page is not there.
using Microsoft.Playwright;

namespace Mem1.Dashboard.Tests;

/// <summary>One browser for all tests.</summary>
public sealed class BrowserFixture : IAsyncLifetime
{
    private static readonly string[] s_places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

    private IPlaywright? _playwright;
    private IBrowser? _browser;

    internal IBrowser Browser
    {
        get
        {
            Assert.SkipUnless(
                Page.IsBuilt, "the dashboard's page is not built: Node.js 18 or npm is missing (Debian packages nodejs and npm)");
            Assert.SkipWhen(_browser is null, "chromium is missing (Debian package chromium)");
            return _browser!;
        }
    }

    public async ValueTask InitializeAsync()
    {
        if (s_places.FirstOrDefault(File.Exists) is not { } path) return;
        _playwright = await Playwright.CreateAsync();
        // Without its sandbox: build machines run this as root in a container; the only page is ours.
        _browser = await _playwright.Chromium.LaunchAsync(
            new BrowserTypeLaunchOptions { ExecutablePath = path, Args = ["--no-sandbox", "--disable-dev-shm-usage"] });
    }

    public async ValueTask DisposeAsync()
    {
        if (_browser is not null) await _browser.DisposeAsync();
        _playwright?.Dispose();
    }
}
