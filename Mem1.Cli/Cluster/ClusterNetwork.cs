// Keeps: a network is a bridge and a namespace per node, all named after the network's number, so that taking it down needs nothing else; the
// machine's own interfaces and routes are never touched.
using System.Diagnostics;
using System.Globalization;

namespace Mem1.Cli.Cluster;

/// <summary>Network namespaces of a local cluster, made with ip(8) as root.</summary>
internal static class ClusterNetwork
{
    private const int Networks = 255;

    // The bridge is .1; nodes come after it.
    private const int FirstHost = 10, LastHost = 250;

    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

    /// <summary>Makes the bridge of a network that is free.</summary>
    /// <exception cref="UserErrorException">ip(8) is missing or the machine does not allow it.</exception>
    public static int Create()
    {
        var taken = Ip("-o", "link", "show");
        for (var number = 0; number < Networks; number++)
        {
            if (taken.Contains($" {Bridge(number)}:", StringComparison.Ordinal)) continue;
            Ip("link", "add", Bridge(number), "type", "bridge");
            Ip("addr", "add", $"{AddressOf(number, 1)}/24", "dev", Bridge(number));
            Ip("link", "set", Bridge(number), "up");
            return number;
        }

        throw new UserErrorException($"{Networks} cluster networks exist already; remove some with: ip link del {Bridge(0)}");
    }

    /// <summary>Address of the machine itself in a network.</summary>
    public static string HostAddress(int network) => AddressOf(network, 1);

    /// <summary>Makes the namespace of a node.</summary>
    /// <param name="network">Its network.</param>
    /// <param name="name">Of the node.</param>
    /// <param name="taken">Addresses of the other nodes.</param>
    public static (string Namespace, string Address) Join(int network, string name, IReadOnlyCollection<string> taken)
    {
        var host = Enumerable.Range(FirstHost, LastHost - FirstHost + 1).FirstOrDefault(h => !taken.Contains(AddressOf(network, h)));
        if (host == 0) throw new UserErrorException($"a cluster network has room for {LastHost - FirstHost + 1} nodes.");
        var (space, cable) = (NamespaceOf(network, name), string.Create(CultureInfo.InvariantCulture, $"m1v{network}-{host}"));
        Ip("netns", "add", space);
        Ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space);
        Ip("link", "set", cable, "master", Bridge(network), "up");
        Ip("-n", space, "addr", "add", $"{AddressOf(network, host)}/24", "dev", "eth0");
        Ip("-n", space, "link", "set", "eth0", "up");
        Ip("-n", space, "link", "set", "lo", "up");
        return (space, AddressOf(network, host));
    }

    /// <summary>Takes a node's namespace away, and its cable with it.</summary>
    public static void Leave(string space) => Ip("netns", "del", space);

    /// <summary>Takes the bridge away.</summary>
    public static void Delete(int network) => Ip("link", "del", Bridge(network));

    private static string Bridge(int network) => string.Create(CultureInfo.InvariantCulture, $"mem1br{network}");

    private static string NamespaceOf(int network, string name) => string.Create(CultureInfo.InvariantCulture, $"mem1-{network}-{name}");

    private static string AddressOf(int network, int host) => string.Create(CultureInfo.InvariantCulture, $"10.213.{network}.{host}");

    private static string Ip(params string[] arguments)
    {
        try
        {
            using var process = Process.Start(
                new ProcessStartInfo("ip", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var error = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEnd();
            if (!process.WaitForExit(s_limit)) process.Kill();
            if (process.ExitCode == 0) return output;
            throw new UserErrorException($"ip {string.Join(' ', arguments)} failed: {error.GetAwaiter().GetResult().Trim()}");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new UserErrorException("ip(8) is missing: apt-get install iproute2, or use --namespaces off.", e);
        }
    }
}
