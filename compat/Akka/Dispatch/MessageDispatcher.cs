// What runs mailboxes. A dispatcher only decides on which thread and in what order; that an actor runs on one thread at a time
// is the mailbox's business. "Dispatcher" and "TaskDispatcher" use the .NET thread pool, "ForkJoinDispatcher" its own threads
// (one thread makes every actor on it run in one fixed order), "PinnedDispatcher" a thread per actor,
// "SynchronizedDispatcher" the synchronisation context of the thread that first asked for it.
using System.Collections.Concurrent;
using Akka.Actor;
using Akka.Configuration;

namespace Akka.Dispatch;

public abstract class MessageDispatcher
{
    private protected MessageDispatcher(string id, int throughput)
    {
        Id = id;
        Throughput = throughput;
    }

    public string Id { get; }

    /// <summary>Most user messages an actor handles before it gives its thread to another.</summary>
    public int Throughput { get; }

    internal abstract void Execute(Mailbox mailbox);

    /// <summary>The dispatcher of a new actor: itself, unless each actor gets its own.</summary>
    internal virtual MessageDispatcher ForActor(ActorPath path) => this;

    /// <summary>The actor has ended (its own last run is still on the stack).</summary>
    internal virtual void Detach()
    {
    }

    /// <summary>The system has ended.</summary>
    internal virtual void Shutdown()
    {
    }
}

internal sealed class ThreadPoolDispatcher(string id, int throughput) : MessageDispatcher(id, throughput)
{
    internal override void Execute(Mailbox mailbox) => ThreadPool.UnsafeQueueUserWorkItem(mailbox, preferLocal: false);
}

internal sealed class SynchronizedDispatcher(string id, int throughput) : MessageDispatcher(id, throughput)
{
    private readonly SynchronizationContext _context = SynchronizationContext.Current ?? new SynchronizationContext();

    internal override void Execute(Mailbox mailbox) => _context.Post(static m => ((Mailbox)m).Run(), mailbox);
}

/// <summary>A fixed number of threads of its own, fed in order of arrival.</summary>
internal sealed class DedicatedThreadsDispatcher : MessageDispatcher
{
    private readonly BlockingCollection<Mailbox> _ready = [];

    internal DedicatedThreadsDispatcher(string id, int throughput, int threads, string threadName)
        : base(id, throughput)
    {
        for (var i = 0; i < threads; i++)
        {
            new Thread(Loop) { IsBackground = true, Name = $"{threadName}-{i + 1}" }.Start();
        }
    }

    internal override void Execute(Mailbox mailbox)
    {
        try
        {
            _ready.Add(mailbox);
        }
        catch (InvalidOperationException)
        {
            // The threads are gone because the system (or the one pinned actor) has ended; late work still has to become dead letters.
            ThreadPool.UnsafeQueueUserWorkItem(mailbox, preferLocal: false);
        }
    }

    internal override void Shutdown() => _ready.CompleteAdding();

    private void Loop()
    {
        foreach (var mailbox in _ready.GetConsumingEnumerable())
        {
            mailbox.Run();
        }
    }
}

internal sealed class PinnedDispatcher(string id, int throughput) : MessageDispatcher(id, throughput)
{
    internal override void Execute(Mailbox mailbox) => throw new InvalidOperationException("A pinned dispatcher runs nothing itself.");

    internal override MessageDispatcher ForActor(ActorPath path) => new OneActor(Id, Throughput, path);

    private sealed class OneActor(string id, int throughput, ActorPath path) : MessageDispatcher(id, throughput)
    {
        private readonly DedicatedThreadsDispatcher _thread = new(id, throughput, 1, path.ToStringWithoutAddress());

        internal override void Execute(Mailbox mailbox) => _thread.Execute(mailbox);

        internal override void Detach() => _thread.Shutdown();
    }
}

/// <summary>The dispatchers of one system by configuration path.</summary>
public sealed class Dispatchers
{
    public const string DefaultDispatcherId = "akka.actor.default-dispatcher";

    public const string InternalDispatcherId = "akka.actor.internal-dispatcher";

    private readonly ConcurrentDictionary<string, Lazy<MessageDispatcher>> _byId = new();
    private readonly Config _config;

    internal Dispatchers(Config config) => _config = config;

    public bool HasDispatcher(string id) => _config.HasPath(id);

    public MessageDispatcher Lookup(string dispatcherName)
    {
        var id = string.IsNullOrEmpty(dispatcherName) ? DefaultDispatcherId : dispatcherName;
        return _byId.GetOrAdd(id, name => new Lazy<MessageDispatcher>(() => Make(name))).Value;
    }

    internal void Shutdown()
    {
        foreach (var dispatcher in _byId.Values.Where(made => made.IsValueCreated))
        {
            dispatcher.Value.Shutdown();
        }
    }

    private MessageDispatcher Make(string id)
    {
        if (!_config.HasPath(id))
        {
            throw new ConfigurationException($"Dispatcher [{id}] not configured.");
        }

        var settings = _config.GetConfig(id).WithFallback(_config.GetConfig(DefaultDispatcherId));
        var throughput = settings.GetInt("throughput", 30);
        switch (settings.GetString("type"))
        {
            case "Dispatcher" when settings.GetString("executor") == "fork-join-executor":
            case "ForkJoinDispatcher":
                var threads = settings.GetInt("dedicated-thread-pool.thread-count", Environment.ProcessorCount);
                return new DedicatedThreadsDispatcher(id, throughput, threads, id);
            case "Dispatcher":
            case "TaskDispatcher":
                return new ThreadPoolDispatcher(id, throughput);
            case "PinnedDispatcher":
                return new PinnedDispatcher(id, throughput);
            case "SynchronizedDispatcher":
                return new SynchronizedDispatcher(id, throughput);
            case var other:
                throw new ConfigurationException($"Dispatcher [{id}] has the unknown type [{other}].");
        }
    }
}
