using System.CommandLine;
using Mem1.Actors;
using Mem1.Protocol.Security;
using Microsoft.Extensions.Logging;

namespace Mem1.Cli.Commands;

/// <summary>The options with which a process that is no worker joins the cluster of a run (docs/cluster.md).</summary>
/// <param name="role">Of <see cref="NodeRoles"/>.</param>
internal sealed class GuestArguments(string role)
{
    private readonly Option<string?> _host = new("--cluster-host")
    {
        Description = "Name or IPv4 address by which the other nodes reach this one; the one that its traffic to the learner leaves from",
        HelpName = "HOST",
    };

    private readonly Option<int> _port = new("--cluster-port")
    {
        Description = "Port of this node of the cluster; 0 takes a free one",
        HelpName = "PORT",
    };

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Add(_host);
        command.Add(_port);
    }

    /// <summary>Joins the cluster of a learner, now or when there is one.</summary>
    /// <param name="parse">The command line.</param>
    /// <param name="learner">Where it listens.</param>
    /// <param name="security">Who this process is.</param>
    /// <param name="loggers">Where to log.</param>
    /// <exception cref="UserErrorException">The options cannot be.</exception>
    public ClusterGuest Join(ParseResult parse, Uri learner, ChannelSecurity security, ILoggerFactory loggers)
    {
        var (host, port) = (parse.GetValue(_host), parse.GetValue(_port));
        if (host is not null && !ClusterNodeOptions.IsHost(host))
            throw new UserErrorException($"--cluster-host is \"{host}\"; it must be a name or an IPv4 address.");
        if (port is < 0 or > ushort.MaxValue) throw new UserErrorException($"--cluster-port is {port}; it must be in 0 to 65535.");
        return ClusterGuest.Start(
            learner, security,
            new ClusterNodeOptions { Roles = [role], Host = host, BindAddress = host is null ? null : "0.0.0.0", Port = port }, loggers);
    }
}
