// Invariants: the address that is judged is the address that is connected to (no name is resolved twice); no client follows redirects by
// itself, keeps cookies or sends credentials.

using System.Net;
using System.Net.Sockets;

namespace Mem1.Environments.Web;

/// <summary>Makes HTTP clients for searches and pages.</summary>
public static class WebClients
{
    // A host that does not answer the handshake in this time would use up the attempt's limit.
    private static readonly TimeSpan s_connectTimeout = TimeSpan.FromSeconds(5);

    // Names of servers resolve anew at least this often.
    private static readonly TimeSpan s_connectionLifetime = TimeSpan.FromMinutes(5);

    // Headers of kilobytes are an attack or a mistake; .NET counts in KiB.
    private const int MaxHeaderKilobytes = 32;

    /// <summary>A client for search services, which may lie in a private network.</summary>
    /// <param name="hostOverrides">Hosts and the endpoint to connect to in their place; null for none.</param>
    public static HttpClient ForSearch(IReadOnlyDictionary<string, IPEndPoint>? hostOverrides = null)
    {
        SocketsHttpHandler handler = Handler();
        if (hostOverrides is not null)
            handler.ConnectCallback = (context, cancel) => ConnectAsync(context.DnsEndPoint, hostOverrides, true, Resolve, cancel);
        return Client(handler);
    }

    /// <summary>A client for pages: it connects to no private address and uses no proxy, which would resolve names itself.</summary>
    internal static HttpClient ForPages(
        IReadOnlyDictionary<string, IPEndPoint> hostOverrides, bool allowPrivate,
        Func<string, CancellationToken, Task<IPAddress[]>>? resolve = null)
    {
        SocketsHttpHandler handler = Handler();
        handler.UseProxy = false;
        handler.ConnectCallback =
            (context, cancel) => ConnectAsync(context.DnsEndPoint, hostOverrides, allowPrivate, resolve ?? Resolve, cancel);
        return Client(handler);
    }

    /// <summary>Whether an address is one of the public internet: not loopback, private, link-local, shared, multicast and so on.</summary>
    internal static bool IsPublic(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
            address = address.MapToIPv4();
        Span<byte> b = stackalloc byte[16];
        address.TryWriteBytes(b, out int length);
        if (length == 4)
        {
            return (b[0], b[1], b[2]) switch
            {
                (0 or 10 or 127, _, _) or ( >= 224, _, _) => false,
                (100, >= 64 and <= 127, _) => false,
                (169, 254, _) => false,
                (172, >= 16 and <= 31, _) => false,
                (192, 168, _) or (192, 0, 0 or 2) or (192, 88, 99) => false,
                (198, 18 or 19, _) or (198, 51, 100) or (203, 0, 113) => false,
                _ => true,
            };
        }
        // Global unicast is 2000::/3; within it 2001::/23 (Teredo, ORCHID), 2002::/16 (6to4) and the documentation prefixes are special.
        bool special = (b[0], b[1]) switch
        {
            (0x20, 0x01) => b[2] < 2 || (b[2] == 0x0D && b[3] == 0xB8),
            (0x20, 0x02) => true,
            (0x3F, 0xFF) => b[2] < 0x10,
            _ => false,
        };
        return (b[0] & 0xE0) == 0x20 && !special;
    }

    private static Task<IPAddress[]> Resolve(string host, CancellationToken cancellationToken) =>
        Dns.GetHostAddressesAsync(host, cancellationToken);

    private static SocketsHttpHandler Handler() => new()
    {
        AllowAutoRedirect = false,
        UseCookies = false,
        AutomaticDecompression = DecompressionMethods.All,
        ConnectTimeout = s_connectTimeout,
        PooledConnectionLifetime = s_connectionLifetime,
        MaxResponseHeadersLength = MaxHeaderKilobytes,
    };

    // Time limits are those of each request.
    private static HttpClient Client(SocketsHttpHandler handler) => new(handler) { Timeout = Timeout.InfiniteTimeSpan };

    private static async ValueTask<Stream> ConnectAsync(
        DnsEndPoint target, IReadOnlyDictionary<string, IPEndPoint> hostOverrides, bool allowPrivate,
        Func<string, CancellationToken, Task<IPAddress[]>> resolve, CancellationToken cancellationToken)
    {
        IPEndPoint[] endpoints = hostOverrides.TryGetValue(target.Host, out IPEndPoint? instead)
            ? [instead]
            : [.. (await Addresses(target.Host, resolve, cancellationToken))
                .Where(a => allowPrivate || IsPublic(a)).Select(a => new IPEndPoint(a, target.Port))];
        if (endpoints.Length == 0)
            throw new WebAccessException(WebFailure.PrivateAddress, $"The host {target.Host} has no public address.");
        for (int i = 0; ; i++)
        {
            var socket = new Socket(endpoints[i].AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                await socket.ConnectAsync(endpoints[i], cancellationToken);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch (Exception e)
            {
                socket.Dispose();
                if (e is not SocketException || i == endpoints.Length - 1)
                    throw;
            }
        }
    }

    private static async Task<IPAddress[]> Addresses(
        string host, Func<string, CancellationToken, Task<IPAddress[]>> resolve, CancellationToken cancellationToken)
    {
        if (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address))
            return [address];
        IPAddress[] addresses = await resolve(host, cancellationToken);
        return addresses.Length > 0 ? addresses : throw new SocketException((int)SocketError.HostNotFound);
    }
}
