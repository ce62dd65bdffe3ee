// The children of an actor. A name belongs to a child from the moment ActorOf reserves it until the parent has processed that
// child's termination. ActorOf on the guardians comes from any thread, so the table is guarded by a lock.
using Akka.Util;

namespace Akka.Actor;

internal sealed partial class ActorCell
{
    private readonly Lock _childrenGate = new();
    private readonly Dictionary<string, ChildRestartStats> _children = [];
    private readonly HashSet<string> _dying = [];

    private WaitReason _waitReason;
    private Exception _recreateCause;
    private long _nextChildNumber;

    /// <summary>What the cell goes on with when its dying children are gone.</summary>
    private enum WaitReason
    {
        None,
        Recreation,
        Creation,
        Termination,
    }

    private bool IsTerminating => _waitReason == WaitReason.Termination;

    private bool IsWaitingForChildren => _waitReason is WaitReason.Recreation or WaitReason.Creation;

    public IActorRef ActorOf(Props props, string name = null) => AttachChild(props, name, checkName: true);

    public IActorRef Child(string name) => ChildRef(name);

    public IEnumerable<IActorRef> GetChildren() => ChildRefs();

    public void Stop(IActorRef child)
    {
        if (child is InternalActorRefBase target)
        {
            lock (_childrenGate)
            {
                if (_children.TryGetValue(target.Path.Name, out var stats) && stats.Child.Equals(target))
                {
                    _dying.Add(target.Path.Name);
                }
            }

            target.Stop();
        }
    }

    internal LocalActorRef AttachChild(Props props, string name, bool checkName)
    {
        ArgumentNullException.ThrowIfNull(props);
        if (checkName && name is not null && !ActorPath.IsValidPathElement(name))
        {
            throw new InvalidActorNameException(
                name.Length == 0
                    ? "Actor name must not be empty."
                    : $"Illegal actor name [{name}]. Names are ASCII letters, digits and -_.*$+:@&=,!~';() and must not start with $.");
        }

        var dispatcher = SystemImpl.Dispatchers.Lookup(SystemImpl.LocalProvider.Deployed(ref props, _self.Path, name));
        LocalActorRef child;
        lock (_childrenGate)
        {
            if (IsTerminating || _mailbox.IsClosed)
            {
                throw new InvalidOperationException("Cannot create child while terminating or terminated");
            }

            name ??= "$" + Base64.Digits(_nextChildNumber++);
            if (_children.ContainsKey(name))
            {
                throw new InvalidActorNameException($"Actor name \"{name}\" is not unique!");
            }

            // Uid 0 means "no uid" in a path.
            var path = new ChildActorPath(_self.Path, name, Random.Shared.Next(1, int.MaxValue));
            child = new LocalActorRef(path, self => new ActorCell(SystemImpl, self, props, _self, dispatcher));
            _children.Add(name, new ChildRestartStats(child));
        }

        for (var suspended = _mailbox.SuspendCount; suspended > 0; suspended--)
        {
            child.Suspend();
        }

        child.Cell.EnqueueSystem(new Dispatch.SysMsg.Create());
        return child;
    }

    internal InternalActorRefBase ChildRef(string name)
    {
        lock (_childrenGate)
        {
            return _children.TryGetValue(name, out var stats) ? stats.Child : ActorRefs.Nobody;
        }
    }

    internal InternalActorRefBase[] ChildRefs()
    {
        lock (_childrenGate)
        {
            return _children.Values.Select(stats => stats.Child).ToArray();
        }
    }

    private ChildRestartStats[] ChildStats()
    {
        lock (_childrenGate)
        {
            return _children.Values.ToArray();
        }
    }

    private ChildRestartStats StatsOf(IActorRef child)
    {
        lock (_childrenGate)
        {
            return _children.TryGetValue(child.Path.Name, out var stats) && stats.Child.Equals(child) ? stats : null;
        }
    }

    /// <summary>
    /// True when there are dying children to wait for; then the cell goes on in <see cref="ChildTerminated"/>. From the moment the reason
    /// is Termination no child can be added, so none is forgotten.
    /// </summary>
    private bool WaitForDyingChildren(WaitReason reason)
    {
        lock (_childrenGate)
        {
            if (_dying.Count > 0 || reason == WaitReason.Termination)
            {
                _waitReason = reason;
            }

            return _dying.Count > 0;
        }
    }

    private bool StopChildrenAndWait(WaitReason reason)
    {
        InternalActorRefBase[] children;
        bool wait;
        lock (_childrenGate)
        {
            children = ChildRefs();
            _dying.UnionWith(_children.Keys);
            wait = WaitForDyingChildren(reason);
        }

        foreach (var child in children)
        {
            child.Stop();
        }

        return wait;
    }

    private void ChildTerminated(InternalActorRefBase child)
    {
        WaitReason goOn;
        lock (_childrenGate)
        {
            _children.Remove(child.Path.Name);
            if (!_dying.Remove(child.Path.Name) || _dying.Count > 0)
            {
                return;
            }

            goOn = _waitReason;
            if (goOn != WaitReason.Termination)
            {
                _waitReason = WaitReason.None;
            }
        }

        switch (goOn)
        {
            case WaitReason.Recreation:
                FinishRecreate(_recreateCause, _actor);
                break;
            case WaitReason.Creation:
                FinishCreate();
                break;
            case WaitReason.Termination:
                FinishTerminate();
                break;
            default:
                break;
        }
    }

    private void SuspendChildren(IActorRef except)
    {
        foreach (var child in ChildRefs())
        {
            if (!child.Equals(except))
            {
                child.Suspend();
            }
        }
    }
}

/// <summary>How often a child was restarted, kept by its parent over the child's restarts.</summary>
internal sealed class ChildRestartStats(InternalActorRefBase child)
{
    private int _retries;
    private long _windowStart = -1;

    internal InternalActorRefBase Child { get; } = child;

    /// <summary>
    /// Counts one more failure and says whether a restart is allowed. <paramref name="maxRetries"/> 0 never allows one, negative sets no
    /// limit; <paramref name="windowMs"/> of 0 or less (or infinite) counts for ever, otherwise the limit (1 when negative) is per window.
    /// </summary>
    internal bool MayRestart(int maxRetries, int windowMs)
    {
        if (maxRetries == 0)
        {
            return false;
        }

        if (windowMs <= 0)
        {
            return maxRetries < 0 || ++_retries <= maxRetries;
        }

        var now = Environment.TickCount64;
        if (_windowStart < 0)
        {
            _windowStart = now;
        }

        if (now - _windowStart <= windowMs)
        {
            return ++_retries <= (maxRetries > 0 ? maxRetries : 1);
        }

        _retries = 1;
        _windowStart = now;
        return true;
    }
}
