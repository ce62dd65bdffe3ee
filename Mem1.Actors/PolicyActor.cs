// Invariants:
//  * One thread at a time touches the engine: this actor is its owner.
//  * Messages are handled between tokens: each step sends the next one to the back of the mailbox, so a request, a cancellation or new
//    weights wait for one token at most, and weights change at a token boundary.
//  * Every request is answered once: with its result, with a refusal, or, when this actor crashes, with a failure to retry.
//  * The newest weights outlive a crash: a restarted policy makes its engine from them and reports them in place.
//  * What the engine keeps of a carried episode goes when its asker cancels; an asker cancels when it stops.
using Akka.Actor;
using Mem1.Model;
using Microsoft.Extensions.Logging;

namespace Mem1.Actors;

/// <summary>What a policy keeps over its crashes. Touched by the policy alone.</summary>
internal sealed class PolicyMemory
{
    /// <summary>The newest weights it was given.</summary>
    public SwapWeights? Newest { get; set; }

    /// <summary>Who gave them, and is told once they are in place.</summary>
    public IActorRef? Requester { get; set; }

    /// <summary>How many policies there have been.</summary>
    public int Incarnations { get; set; }
}

/// <summary>The behaviour policy: continues contexts token by token, all open requests in one batch.</summary>
internal sealed partial class PolicyActor : CountedActor
{
    private readonly PolicyMemory _memory;
    private readonly Func<ModelWeights, long, IGenerationEngine> _makeEngine;
    private readonly RolloutTelemetry _telemetry;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly int _incarnation;

    private readonly Dictionary<long, (IActorRef Asker, long Tag)> _open = [];
    private readonly Dictionary<IActorRef, long> _idOf = [];
    private readonly List<(IActorRef Asker, Generate Request)> _waiting = [];
    private IGenerationEngine? _engine;
    private readonly Dictionary<IActorRef, long> _episodeOf = [];
    private long _nextId;
    private long _nextEpisode;
    private bool _stepping;

    public PolicyActor(
        PolicyMemory memory,
        Func<ModelWeights, long, IGenerationEngine> makeEngine,
        RolloutTelemetry telemetry,
        TimeProvider time,
        ILoggerFactory loggers)
        : base(telemetry.Board)
    {
        _memory = memory;
        _makeEngine = makeEngine;
        _telemetry = telemetry;
        _time = time;
        _log = loggers.CreateLogger<PolicyActor>();
        _incarnation = ++memory.Incarnations;

        Receive<DrawToken>(OnDrawToken);
        Receive<Generate>(OnGenerate);
        Receive<CancelGeneration>(_ =>
        {
            OnCancel();
            if (_episodeOf.Remove(Sender, out var episode))
                _engine?.Release(episode);
        });
        Receive<SwapWeights>(OnSwapWeights);
        Receive<BeginAnew>(anew => throw new RestartRequestedException(anew.Reason));
    }

    private void OnGenerate(Generate request)
    {
        // A newer request takes the place of one that is still open.
        OnCancel();
        if (_engine is null && _memory.Newest is null)
            _waiting.Add((Sender, request));
        else
            Submit(Sender, request);
    }

    private void Submit(IActorRef asker, Generate request)
    {
        var engine = Engine();
        var id = _nextId++;
        CarriedEpisode? carry = null;
        if (request.Carried is { } carried)
        {
            if (!_episodeOf.TryGetValue(asker, out var episode))
                _episodeOf.Add(asker, episode = _nextEpisode++);
            carry = new CarriedEpisode(episode, carried.Prompt, carried.Turns);
        }
        try
        {
            engine.Submit(
                new GenerationRequest(id, request.Context, request.Sampling, request.StopStrings, request.Seed)
                {
                    Carry = carry,
                    SharedPrompt = request.Prompt,
                });
        }
        catch (ArgumentException refusal)
        {
            // The request is at fault, not the engine: its asker hears of it and nobody else.
            asker.Tell(new GenerationFailed(request.Tag, $"The model refused the request: {refusal.Message}", Retry: false));
            return;
        }
        _open.Add(id, (asker, request.Tag));
        _idOf.Add(asker, id);
        KeepStepping();
    }

    private void OnDrawToken(DrawToken tick)
    {
        if (tick.Incarnation != _incarnation)
            return;
        _stepping = false;
        if (_engine is not { Active: > 0 } engine)
            return;

        var (requests, tokens, start) = (engine.Active, engine.GeneratedTokens, _time.GetTimestamp());
        var (prefill, reused) = (engine.PrefillTokens, engine.ReusedTokens);
        var finished = engine.Step();
        _telemetry.Decoded(requests, engine.GeneratedTokens - tokens, _time.GetElapsedTime(start));
        _telemetry.Prefilled(engine.PrefillTokens - prefill, engine.ReusedTokens - reused);

        foreach (var result in finished)
        {
            if (!_open.Remove(result.Id, out var open))
                continue;
            _idOf.Remove(open.Asker);
            open.Asker.Tell(new Generated(open.Tag, result));
        }
        KeepStepping();
    }

    private void KeepStepping()
    {
        if (_stepping || _engine is not { Active: > 0 })
            return;
        _stepping = true;
        Self.Tell(new DrawToken(_incarnation));
    }

    private void OnCancel()
    {
        var asker = Sender;
        _waiting.RemoveAll(waiting => waiting.Asker.Equals(asker));
        if (!_idOf.Remove(asker, out var id))
            return;
        _open.Remove(id);
        _engine?.Cancel(id);
    }

    private void OnSwapWeights(SwapWeights swap)
    {
        (_memory.Newest, _memory.Requester) = (swap, Sender);
        if (_engine is not null && _engine.PolicyVersion != swap.Version)
        {
            _engine.SwapWeights(swap.Weights, swap.Version);
            Installed(swap);
        }
        else if (_engine is null)
        {
            Engine();
        }
        else
        {
            Sender.Tell(new WeightsSwapped(swap.Version));
        }

        foreach (var (asker, request) in _waiting)
            Submit(asker, request);
        _waiting.Clear();
    }

    private IGenerationEngine Engine()
    {
        if (_engine is not null)
            return _engine;
        var newest = _memory.Newest ?? throw new InvalidOperationException("The policy has no weights yet.");
        _engine = _makeEngine(newest.Weights, newest.Version);
        Installed(newest);
        return _engine;
    }

    private void Installed(SwapWeights swap)
    {
        _telemetry.Swapped(swap.Version);
        LogInstalled(_log, swap.Version, _engine!.Active);
        _memory.Requester?.Tell(new WeightsSwapped(swap.Version));
    }

    protected override void PreRestart(Exception reason, object message)
    {
        const string lost = "The policy crashed while it was generating.";
        foreach (var (asker, tag) in _open.Values)
            asker.Tell(new GenerationFailed(tag, lost, Retry: true));
        foreach (var (asker, request) in _waiting)
            asker.Tell(new GenerationFailed(request.Tag, lost, Retry: true));
        if (message is Generate failing)
            Sender.Tell(new GenerationFailed(failing.Tag, lost, Retry: true));
        base.PreRestart(reason, message);
    }

    protected override void PostRestart(Exception reason)
    {
        base.PostRestart(reason);
        // Through the mailbox, so that an engine that cannot be made is a failure like any other and counts against the same limit.
        if (_memory.Newest is { } newest)
            Self.Tell(newest, _memory.Requester ?? ActorRefs.NoSender);
    }

    protected override void PostStop()
    {
        _engine?.Dispose();
        _engine = null;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Policy version {Version} is in place; {Active} requests go on under it.")]
    private static partial void LogInstalled(ILogger logger, long version, int active);
}
