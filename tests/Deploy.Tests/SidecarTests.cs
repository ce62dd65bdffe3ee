// The scripts beside the vLLM server, run: it starts when there are weights, is asked how it is, outlives its worker; and a model is
// fetched whole or not at all.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace Mem1.Deploy.Tests;

public sealed class SidecarTests : IDisposable
{
    private const int SigTerm = 15;

    private readonly DirectoryInfo _temp = Directory.CreateTempSubdirectory("mem1-sidecar-");

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _temp.Delete(recursive: true);

    [Fact]
    public async Task The_server_starts_when_the_weights_are_there()
    {
        await File.WriteAllTextAsync(In("vllm"), "#!/bin/sh\necho \"$@\"\n", Token);
        using (var chmod = Process.Start("chmod", ["+x", In("vllm")])) await chmod.WaitForExitAsync(Token);
        using var serve = Start("serve.sh", [In("weights/policy"), "--port=8001"], path: _temp.FullName);
        await Task.Delay(300, Token);
        Assert.False(serve.HasExited);
        Directory.CreateDirectory(In("weights/policy"));
        await File.WriteAllTextAsync(In("weights/policy/config.json"), "{}", Token);
        Assert.Equal(0, await Exit(serve));
        Assert.Equal($"serve {In("weights/policy")} --port=8001\n", await serve.StandardOutput.ReadToEndAsync(Token));
    }

    [Fact]
    public async Task A_server_that_waits_can_be_told_to_stop()
    {
        using var serve = Start("serve.sh", [In("weights/policy")]);
        await Task.Delay(300, Token); // until the signal is caught: without that it would end by it, with 143
        using (var kill = Process.Start("kill", [$"-{SigTerm}", $"{serve.Id}"])) await kill.WaitForExitAsync(Token);
        Assert.Equal(0, await Exit(serve));
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", 0)]
    [InlineData("HTTP/1.1 503 Service Unavailable\r\n\r\n", 1)]
    [InlineData(null, 1)]
    public async Task It_is_healthy_when_it_says_so(string? answer, int status)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        if (answer is null) listener.Stop();
        using var healthy = Start("healthy.sh", [$"{port}"]);
        if (answer is not null)
        {
            using var client = await listener.AcceptTcpClientAsync(Token);
            var buffer = new byte[1024];
            var read = await client.GetStream().ReadAsync(buffer, Token);
            Assert.StartsWith("GET /health HTTP/1.1\r\n", Encoding.ASCII.GetString(buffer, 0, read), StringComparison.Ordinal);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(answer), Token);
        }

        Assert.Equal(status, await Exit(healthy));
    }

    [Fact]
    public async Task It_leaves_after_its_worker()
    {
        using var worker = new TcpListener(IPAddress.Loopback, 0);
        worker.Start();
        using var leave = Start("leave.sh", [$"{((IPEndPoint)worker.LocalEndpoint).Port}"]);
        await worker.AcceptTcpClientAsync(Token); // it has asked
        await Task.Delay(200, Token);
        Assert.False(leave.HasExited);
        worker.Stop();
        Assert.Equal(0, await Exit(leave));
    }

    [Fact]
    public async Task A_model_is_fetched_once_and_only_as_it_should_be()
    {
        const string revision = "0123";
        var hub = Directory.CreateDirectory(In($"hub/resolve/{revision}")).FullName;
        string[] files = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
        foreach (var file in files)
            await File.WriteAllTextAsync(Path.Combine(hub, file), file, Token);
        var sound = Convert.ToHexStringLower(SHA256.HashData("model.safetensors"u8));

        Assert.NotEqual(0, await Fetch(sound.Replace(sound[0], sound[0] == 'f' ? 'e' : 'f')));
        Assert.False(File.Exists(In("model/.revision")));
        Assert.Equal(0, await Fetch(sound));
        Assert.Equal(revision, await File.ReadAllTextAsync(In("model/.revision"), Token));
        Assert.Equal("tokenizer.json", await File.ReadAllTextAsync(In("model/tokenizer.json"), Token));
        Directory.Delete(In("hub"), recursive: true);
        Assert.Equal(0, await Fetch(sound)); // nothing is asked for any more

        async Task<int> Fetch(string sha256)
        {
            using var fetch = Start("fetch.sh", [In("model")], variables: new()
            {
                ["MODEL_URL"] = new Uri(In("hub")).AbsoluteUri,
                ["MODEL_REVISION"] = revision,
                ["MODEL_SHA256"] = sha256,
            });
            var exit = await Exit(fetch);
            if (exit == 127) Assert.Skip("curl is missing (Debian package curl).");
            return exit;
        }
    }

    private string In(string path) => Path.Combine(_temp.FullName, path);

    private static Process Start(string script, string[] arguments, string? path = null, Dictionary<string, string>? variables = null)
    {
        var start = new ProcessStartInfo(
            script == "fetch.sh" ? "sh" : "bash", [DeployFolder.Full($"{Manifest.Overlays}/vllm/{script}"), .. arguments])
        { RedirectStandardOutput = true, RedirectStandardError = true };
        if (path is not null) start.Environment["PATH"] = $"{path}:{Environment.GetEnvironmentVariable("PATH")}";
        foreach (var (name, value) in variables ?? []) start.Environment[name] = value;
        return Process.Start(start)!;
    }

    private static async Task<int> Exit(Process process)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Token);
        limit.CancelAfter(TimeSpan.FromSeconds(30));
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }

        return process.ExitCode;
    }
}
