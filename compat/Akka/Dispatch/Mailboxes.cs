// How mailboxes are bounded, from Props and configuration.
using System.Collections.Concurrent;
using Akka.Actor;
using Akka.Configuration;

namespace Akka.Dispatch;

/// <summary>Capacity 0: unbounded. A negative push timeout waits for ever; a negative stash capacity sets no limit.</summary>
internal readonly record struct MailboxSettings(int Capacity, TimeSpan PushTimeout, int StashCapacity);

internal sealed class Mailboxes(Config config)
{
    private readonly ConcurrentDictionary<string, MailboxSettings> _byId = new();

    internal MailboxSettings SettingsFor(Props props)
    {
        var settings = _byId.GetOrAdd(props.Mailbox ?? "", Read);
        return props.StashCapacity >= 0 ? settings with { StashCapacity = props.StashCapacity } : settings;
    }

    private MailboxSettings Read(string id)
    {
        if (id.Length == 0)
        {
            return new MailboxSettings(0, TimeSpan.Zero, -1);
        }

        if (!config.HasPath(id))
        {
            throw new ConfigurationException($"Mailbox Type [{id}] not configured");
        }

        var own = config.GetConfig(id);
        var type = own.GetString("mailbox-type", "").Split(',')[0].Trim();
        var bounded = type switch
        {
            "Akka.Dispatch.BoundedMailbox" or "Akka.Dispatch.BoundedDequeBasedMailbox" => true,
            "Akka.Dispatch.UnboundedMailbox" or "Akka.Dispatch.UnboundedDequeBasedMailbox" or "" => false,
            _ => throw new ConfigurationException($"Mailbox [{id}] has the unknown mailbox-type [{type}]."),
        };
        var capacity = bounded ? own.GetInt("mailbox-capacity", 1000) : 0;
        if (bounded && capacity < 1)
        {
            throw new ConfigurationException($"Mailbox [{id}]: mailbox-capacity must be greater than 0.");
        }

        return new MailboxSettings(
            capacity, own.GetTimeSpan("mailbox-push-timeout-time", TimeSpan.FromSeconds(10)), own.GetInt("stash-capacity", -1));
    }
}

/// <summary>The entries of akka.actor.deployment: path under /user, "*" for any one name.</summary>
internal sealed class Deployment
{
    private readonly List<(string[] Elements, Config Entry)> _entries = [];

    internal Deployment(Config config)
    {
        foreach (var key in config.KeysOf("akka.actor.deployment"))
        {
            _entries.Add((key.Split('/', StringSplitOptions.RemoveEmptyEntries), config.GetConfig($"akka.actor.deployment.\"{key}\"")));
        }
    }

    internal Config Find(IReadOnlyList<string> path)
    {
        if (_entries.Count == 0)
        {
            return null;
        }

        return _entries
            .Where(entry => entry.Elements.Length == path.Count && entry.Elements.Zip(path).All(
                pair => pair.First == "*" || pair.First == pair.Second))
            .OrderBy(entry => entry.Elements.Count(element => element == "*"))
            .Select(entry => entry.Entry)
            .FirstOrDefault();
    }
}
