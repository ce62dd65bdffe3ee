using System.Globalization;
using System.Net;
using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Commands;

/// <summary>What --learners, --rank, --world and --rendezvous mean together.</summary>
internal static class LearnerGroupArguments
{
    /// <summary>Reads them.</summary>
    /// <returns>
    /// For a rank of 1 or more, its place in the group; for rank 0 of several learners, where the others are; else nothing.
    /// </returns>
    /// <exception cref="UserErrorException">They contradict each other.</exception>
    public static (LearnerGroupOptions? Own, LearnerPlacement? Placement) Read(int? learners, int? rank, int? world, string? rendezvous)
    {
        if (learners is { } count)
        {
            if (rank is not null || world is not null || rendezvous is not null)
            {
                throw new UserErrorException(
                    "--learners starts all learners here; --rank, --world and --rendezvous are for several hosts: use one or the other.");
            }

            if (count < 1) throw new UserErrorException($"--learners is {count}; it must be at least 1.");
            return (null, count == 1 ? null : new LearnerPlacement(count, null));
        }

        if (rank is null && world is null && rendezvous is null) return (null, null);
        if (rank is not { } r || world is not { } n || rendezvous is null)
        {
            throw new UserErrorException(
                "--rank, --world and --rendezvous go together: rank 0 of 2 is --rank 0 --world 2 --rendezvous HOST:PORT.");
        }

        if (n < 2) throw new UserErrorException($"--world is {n}; a group has at least 2 learners.");
        if (r < 0 || r >= n) throw new UserErrorException($"--rank is {r}; in a world of {n} it must be in 0 to {n - 1}.");
        var colon = rendezvous.LastIndexOf(':');
        if (colon < 1 || !int.TryParse(rendezvous[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port)
            || port is < 1 or > 65535)
            throw new UserErrorException($"--rendezvous is \"{rendezvous}\"; it must be HOST:PORT of the learner of rank 0.");
        var at = new DnsEndPoint(rendezvous[..colon].Trim('[', ']'), port);
        return r == 0 ? (null, new LearnerPlacement(n, at)) : (new LearnerGroupOptions(r, n, at), null);
    }
}
