using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Mem1.Environments.Tests.Retrieval;

/// <summary>A service on loopback that does with each request what a test says. Requests on one connection are counted as they come.</summary>
internal sealed class HostileServer : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Func<int, NetworkStream, CancellationToken, Task> _answer;
    private readonly Task _loop;
    private int _requests;

    /// <param name="answer">Told the request's number from 1; writes what it likes and returns, upon which the connection is closed.</param>
    public HostileServer(Func<int, NetworkStream, CancellationToken, Task> answer)
    {
        _answer = answer;
        _listener.Start();
        _loop = Task.Run(LoopAsync);
    }

    public string Url => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/retrieve";

    public int Requests => Volatile.Read(ref _requests);

    public static Task Send(NetworkStream stream, string body, int status = 200, int? length = null) => stream.WriteAsync(Encoding.UTF8.GetBytes(
        $"HTTP/1.1 {status} X\r\nContent-Length: {length ?? Encoding.UTF8.GetByteCount(body)}\r\nConnection: close\r\n\r\n{body}")).AsTask();

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _loop;
        _stop.Dispose();
    }

    private async Task LoopAsync()
    {
        List<Task> open = [];
        try
        {
            while (true)
                open.Add(HandleAsync(await _listener.AcceptTcpClientAsync(_stop.Token)));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
        await Task.WhenAll(open);
    }

    private async Task HandleAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                NetworkStream stream = client.GetStream();
                byte[] buffer = new byte[65536];
                int length = 0, head = -1;
                while (head < 0 || length < head + ContentLength(buffer, head))
                {
                    int read = await stream.ReadAsync(buffer.AsMemory(length), _stop.Token);
                    if (read == 0)
                        return;
                    length += read;
                    head = buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8) is >= 0 and var end ? end + 4 : -1;
                }
                await _answer(Interlocked.Increment(ref _requests), stream, _stop.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or IOException)
            {
                // The client gave up or the test is over.
            }
        }
    }

    private static int ContentLength(byte[] buffer, int head)
    {
        string text = Encoding.ASCII.GetString(buffer, 0, head);
        const string Field = "Content-Length: ";
        int at = text.IndexOf(Field, StringComparison.OrdinalIgnoreCase) + Field.Length;
        return int.Parse(text[at..text.IndexOf('\r', at)]);
    }
}
