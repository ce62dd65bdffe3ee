// Against gRPC's C core, through Debian's python3-grpcio, in both directions. Skipped where that is not installed.

using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;

namespace Compat.Grpc.Tests;

public sealed class PeerTests
{
    private const string Special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

    private static readonly string s_script = Path.Combine(AppContext.BaseDirectory, "peers", "peer.py");

    private static readonly Lazy<string?> s_python = new(FindPython);

    private static Script KitScript()
    {
        var cancelled = new TaskCompletionSource();
        return new Script
        {
            Unary = async (note, context) =>
            {
                if (context.RequestHeaders.Get("x-echo") is { } echo)
                    await context.WriteResponseHeadersAsync(new Metadata { echo });
                if (context.RequestHeaders.Get("x-echo-bin") is { } bytes)
                    context.ResponseTrailers.Add(bytes);
                switch (note.Text)
                {
                    case "fail":
                        throw new RpcException(new Status(StatusCode.NotFound, Special), new Metadata { { "x-why", "because" } });
                    case "sleep":
                        using (context.CancellationToken.Register(cancelled.SetResult))
                            await Task.Delay(Timeout.InfiniteTimeSpan, context.CancellationToken);
                        return note;
                    case "cancelled?":
                        await cancelled.Task.Soon();
                        return new Note { Number = 1 };
                    case "deadline":
                        return new Note { Number = (int)(context.Deadline - DateTime.UtcNow).TotalSeconds };
                    default:
                        return note;
                }
            },
            Up = async (notes, _) =>
            {
                var sum = 0;
                await foreach (var note in notes.ReadAllAsync())
                    sum += note.Number;
                return new Note { Number = sum };
            },
            Down = async (note, writer, _) =>
            {
                for (var i = 0; i < note.Number; i++)
                    await writer.WriteAsync(new Note { Number = i, Data = ByteString.CopyFrom(new byte[1000]) });
            },
            Both = async (notes, writer, _) =>
            {
                await foreach (var note in notes.ReadAllAsync())
                {
                    if (note.Text == "fail")
                        throw new RpcException(new Status(StatusCode.FailedPrecondition, "as asked"));
                    await writer.WriteAsync(note);
                }
            },
        };
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_C_core_client_talks_to_our_server(bool tls)
    {
        SkipWithoutPeer();
        await using var host = await TestHost.StartAsync(KitScript(), tls: tls);
        var certificate = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(certificate, TestHost.Certificate.ExportCertificatePem());
            using var peer = Start(["client", $"localhost:{host.Port}", .. tls ? (string[])[certificate] : []]);
            var output = peer.StandardOutput.ReadToEndAsync();
            var errors = peer.StandardError.ReadToEndAsync();
            await peer.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(60));
            Assert.True(peer.ExitCode == 0, await output + await errors);
            Assert.Equal(11, (await output).Split("ok ").Length - 1);
        }
        finally
        {
            File.Delete(certificate);
        }
    }

    [Fact]
    public async Task Our_client_talks_to_a_C_core_server()
    {
        SkipWithoutPeer();
        using var peer = Start(["server"]);
        try
        {
            var first = await peer.StandardOutput.ReadLineAsync().WaitAsync(TestHost.Patience);
            Assert.StartsWith("port ", first);
            using var channel = GrpcChannel.ForAddress($"http://127.0.0.1:{first![5..]}");
            await RunAsync(new Kit.KitClient(channel));
        }
        finally
        {
            peer.StandardInput.Close();
            await peer.WaitForExitAsync().WaitAsync(TestHost.Patience);
        }
    }

    private static async Task RunAsync(Kit.KitClient client)
    {
        var metadata = new Metadata { { "x-echo", "v" }, { "x-echo-bin", new byte[] { 0, 255 } } };
        using var unary = client.UnaryAsync(new Note { Text = "hé", Number = 7 }, metadata);
        Assert.Equal(new Note { Text = "hé", Number = 7 }, await unary.ResponseAsync.Soon());
        Assert.Equal("v", (await unary.ResponseHeadersAsync).GetValue("x-echo"));
        Assert.Equal(new byte[] { 0, 255 }, unary.GetTrailers().GetAll("x-echo-bin").First().ValueBytes);

        var compressed = new Metadata { { "grpc-internal-encoding-request", "gzip" } };
        var text = new string('z', 50_000);
        Assert.Equal(text, (await client.UnaryAsync(new Note { Text = text }, compressed).ResponseAsync.Soon()).Text);

        using var up = client.Up();
        for (var i = 1; i <= 100; i++)
            await up.RequestStream.WriteAsync(new Note { Number = i }).Soon();
        await up.RequestStream.CompleteAsync();
        Assert.Equal(5050, (await up.ResponseAsync.Soon()).Number);

        using var down = client.Down(new Note { Number = 200 });
        var numbers = new List<int>();
        await foreach (var note in down.ResponseStream.ReadAllAsync())
            numbers.Add(note.Number);
        Assert.Equal(Enumerable.Range(0, 200), numbers);

        using var both = client.Both();
        for (var i = 0; i < 50; i++)
        {
            var note = new Note { Number = i, Data = ByteString.CopyFrom(new byte[i * 1000]) };
            await both.RequestStream.WriteAsync(note).Soon();
            Assert.True(await both.ResponseStream.MoveNext().Soon());
            Assert.Equal(note, both.ResponseStream.Current);
        }
        await both.RequestStream.WriteAsync(new Note { Text = "fail" }).Soon();
        Assert.Equal("as asked", (await both.ResponseStream.MoveNext().FailsWith(StatusCode.FailedPrecondition)).Status.Detail);

        var failure = await client.UnaryAsync(new Note { Text = "fail" }).ResponseAsync.FailsWith(StatusCode.NotFound);
        Assert.Equal(Special, failure.Status.Detail);
        await client.UnaryAsync(new Note { Text = "sleep" }, deadline: DateTime.UtcNow.AddMilliseconds(300)).ResponseAsync
            .FailsWith(StatusCode.DeadlineExceeded);
        Assert.Equal(1, (await client.UnaryAsync(new Note { Text = "cancelled?" }).ResponseAsync.Soon()).Number);
        var remaining = await client.UnaryAsync(new Note { Text = "deadline" }, deadline: DateTime.UtcNow.AddSeconds(60)).ResponseAsync
            .Soon();
        Assert.InRange(remaining.Number, 50, 60);

        using var source = new CancellationTokenSource();
        using var endless = client.Both(cancellationToken: source.Token);
        await endless.RequestStream.WriteAsync(new Note { Number = 1 }).Soon();
        Assert.True(await endless.ResponseStream.MoveNext().Soon());
        await source.CancelAsync();
        await endless.ResponseStream.MoveNext().FailsWith(StatusCode.Cancelled);

        await Task.WhenAll(Enumerable.Range(0, 200).Select(
            async i => Assert.Equal(i, (await client.UnaryAsync(new Note { Number = i })).Number))).Soon();
    }

    private static void SkipWithoutPeer()
    {
        if (s_python.Value is null)
            Assert.Skip("needs the Debian package python3-grpcio");
    }

    /// <summary>The first Python that has grpcio: the one in the path, else Debian's own, which its packages are for.</summary>
    private static string? FindPython()
    {
        foreach (var python in (string[])["python3", "/usr/bin/python3"])
        {
            try
            {
                using var probe = Process.Start(new ProcessStartInfo(python, ["-c", "import grpc"]) { RedirectStandardError = true })!;
                probe.WaitForExit();
                if (probe.ExitCode == 0)
                    return python;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                // No such program.
            }
        }
        return null;
    }

    private static Process Start(string[] arguments) => Process.Start(new ProcessStartInfo(s_python.Value!, ["-u", s_script, .. arguments])
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;
}
