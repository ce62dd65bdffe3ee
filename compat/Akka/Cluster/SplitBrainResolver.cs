// Which side of a split goes down. Every node decides by the same rule from what it sees, once membership and reachability have been
// stable for a while, and only the first reachable member acts; so both sides come to decisions that fit together. A view that does not
// settle ends with everything down.
using Akka.Actor;
using Akka.Configuration;

namespace Akka.Cluster;

internal sealed class SplitBrainResolver
{
    /// <summary>The least time of trouble before an unstable cluster is given up, as in the original.</summary>
    private static readonly TimeSpan s_leastUnstable = TimeSpan.FromSeconds(4);

    private readonly string _strategy;
    private readonly string _role;
    private readonly int _quorum;
    private readonly bool _downIfAlone;
    private readonly TimeSpan _stableAfter;
    private readonly TimeSpan? _unstableLimit;
    private string _view = "";
    private long _stableSince;
    private long? _troubleSince;

    internal SplitBrainResolver(Config config)
    {
        _strategy = config.GetString("active-strategy");
        if (_strategy is not ("keep-majority" or "static-quorum" or "keep-oldest" or "down-all"))
        {
            throw new ConfigurationException(
                $"akka.cluster.split-brain-resolver.active-strategy is [{_strategy}]; "
                + "it must be keep-majority, static-quorum, keep-oldest or down-all.");
        }

        var own = config.GetConfig(_strategy);
        _role = own.GetString("role") is { Length: > 0 } role ? role : null;
        _quorum = own.GetInt("quorum-size");
        _downIfAlone = own.GetBoolean("down-if-alone", true);
        if (_strategy == "static-quorum" && _quorum <= 0)
        {
            throw new ConfigurationException("akka.cluster.split-brain-resolver.static-quorum.quorum-size must be above 0.");
        }

        _stableAfter = config.GetTimeSpan("stable-after");
        _unstableLimit = config.GetString("down-all-when-unstable") switch
        {
            "off" or "false" => null,
            "on" or "true" => _stableAfter + TimeSpan.FromTicks(Math.Max(s_leastUnstable.Ticks, _stableAfter.Ticks * 3 / 4)),
            _ => _stableAfter + config.GetTimeSpan("down-all-when-unstable"),
        };
    }

    /// <summary>The members to down now; mostly none.</summary>
    internal IReadOnlyList<Member> Decide(Gossip gossip, UniqueAddress self, long now)
    {
        var members = gossip.Members.Values.Where(member => member.Status != MemberStatus.Down).ToArray();
        var unreachable = members.Where(gossip.IsUnreachable).ToArray();
        var view = string.Join(';', members.Select(
            member => $"{member.UniqueAddress} {(gossip.IsUnreachable(member) ? "-" : "+")}{IsSettled(member)}"));
        if (view != _view)
        {
            (_view, _stableSince) = (view, now);
        }

        if (unreachable.Length == 0)
        {
            _troubleSince = null;
            return [];
        }

        _troubleSince ??= now;
        var reachable = members.Except(unreachable).ToArray();
        var responsible = reachable.FirstOrDefault(IsSettled);
        if (responsible?.UniqueAddress != self)
        {
            return [];
        }

        if (now - _stableSince >= _stableAfter.TotalMilliseconds)
        {
            return KeepsReachable(members.Where(Counts).ToArray(), reachable.Where(Counts).ToArray()) ? unreachable
                : _strategy == "down-all" ? members
                : reachable;
        }

        return _unstableLimit is { } limit && now - _troubleSince >= limit.TotalMilliseconds ? members : [];
    }

    private static bool IsSettled(Member member) => member.Status is MemberStatus.Up or MemberStatus.Leaving;

    private bool Counts(Member member) => IsSettled(member) && (_role is null || member.HasRole(_role));

    private bool KeepsReachable(Member[] all, Member[] reachable)
    {
        switch (_strategy)
        {
            case "keep-majority":
                return reachable.Length * 2 != all.Length
                    ? reachable.Length * 2 > all.Length
                    : all.Length == 0 || reachable.Contains(all.Min());
            case "static-quorum":
                return reachable.Length >= _quorum;
            case "keep-oldest":
                var oldest = all.Order(Member.AgeOrdering).FirstOrDefault();
                var withOldest = oldest is null || reachable.Contains(oldest);
                var oldestIsAlone = withOldest ? reachable.Length == 1 : all.Length - reachable.Length == 1;

                // The oldest alone goes down, but not in favour of nobody.
                return _downIfAlone && oldestIsAlone && all.Length > 1 ? !withOldest : withOldest;
            default:
                return false;
        }
    }
}
