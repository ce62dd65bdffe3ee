// The Dockerfiles keep the rules; every rule finds a Dockerfile that breaks it.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace Mem1.Deploy.Tests;

public sealed class DockerfileTests
{
    public static TheoryData<string> Files => ["deploy/docker/Dockerfile", "deploy/docker/Dockerfile.cuda"];

    [Theory]
    [MemberData(nameof(Files))]
    public void Keeps_the_rules(string file) => Assert.Empty(Dockerfile.Lint(File.ReadAllText(DeployFolder.Full(file))));

    [Theory]
    [InlineData("FROM ${DEBIAN} AS build", "FROM debian AS build", "DL3006")]
    [InlineData("FROM ${DEBIAN} AS build", "FROM debian:latest AS build", "DL3007")]
    [InlineData("debian:12.12-slim", "debian:bookworm", "not pinned")]
    [InlineData("USER 10001:10001", "", "DL3002")]
    [InlineData("USER 10001:10001", "USER 0:0", "DL3002")]
    [InlineData("USER 10001:10001", "USER mem1", "no number")]
    [InlineData("    && rm -rf /var/lib/apt/lists/* \\\n    && groupadd", "    && groupadd", "DL3009")]
    [InlineData("--no-install-recommends ca-certificates libopenblas0", "ca-certificates libopenblas0", "DL3015")]
    [InlineData("COPY . .", "ADD . .", "DL3020")]
    [InlineData("CMD [\"--help\"]", "CMD --help", "DL3025")]
    [InlineData("--from=build /app", "--from=built /app", "DL3022")]
    [InlineData("HEALTHCHECK", "LABEL", "HEALTHCHECK")]
    [InlineData("WORKDIR /src", "WORKDIR src", "DL3000")]
    [InlineData("    && install -d", "    && cat /etc/passwd | wc -l && install -d", "DL4006")]
    public void Every_rule_finds_what_breaks_it(string from, string to, string rule)
    {
        var text = File.ReadAllText(DeployFolder.Full("deploy/docker/Dockerfile"));
        Assert.Contains(from, text);
        Assert.Contains(Dockerfile.Lint(text.Replace(from, to, StringComparison.Ordinal)), e => e.Contains(rule, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void The_sdk_is_the_one_that_global_json_asks_for(string file)
    {
        var sdk = Regex.Match(File.ReadAllText(DeployFolder.Full("global.json")), "\"version\": \"([^\"]+)\"").Groups[1].Value;
        Assert.Contains($"mcr.microsoft.com/dotnet/sdk:{sdk} ", File.ReadAllText(DeployFolder.Full(file)));
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void The_context_holds_what_is_built_and_nothing_that_a_build_makes(string file)
    {
        var left = File.ReadAllLines(DeployFolder.Full(file + ".dockerignore")).Where(l => !l.StartsWith('#')).ToHashSet(StringComparer.Ordinal);
        Assert.Superset(new HashSet<string> { ".git", "**/bin", "**/obj", "artifacts", "runs" }, left);
        Assert.DoesNotContain(left, l => l.StartsWith("Mem1.", StringComparison.Ordinal) || l is "compat" or "deploy");
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nok\n", 0)]
    [InlineData("HTTP/1.1 503 Service Unavailable\r\n\r\n", 1)]
    [InlineData("SSH-2.0-OpenSSH\r\n", 1)]
    [InlineData(null, 1)]
    public async Task The_health_check_wants_200(string? answer, int status)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        if (answer is null) listener.Stop(); // nobody listens
        var start = new ProcessStartInfo(
            "bash", [DeployFolder.Full("deploy/docker/healthcheck.sh")])
        { RedirectStandardError = true };
        start.Environment["MEM1_HEALTH_PORTS"] = $"{port}";
        using var check = Process.Start(start)!;
        if (answer is not null)
        {
            using var client = await listener.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
            var buffer = new byte[1024];
            var read = await client.GetStream().ReadAsync(buffer, TestContext.Current.CancellationToken);
            Assert.StartsWith("GET /health HTTP/1.1\r\n", Encoding.ASCII.GetString(buffer, 0, read), StringComparison.Ordinal);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(answer), TestContext.Current.CancellationToken);
        }

        await check.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(status, check.ExitCode);
    }
}
