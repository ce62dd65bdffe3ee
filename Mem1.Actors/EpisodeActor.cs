// The rollout loop. Read it from top to bottom: lease -> environment -> (context -> response -> observation -> sub-trajectory)*.
//
// Invariants:
//  * The policy always continues prompt ++ the last turn's segments (ConstantMemoryContext): everything older is gone, and so is the
//    part of the last response that the environment's format discards. Only the memory full, there to compare with, keeps it all.
//  * Token in, token out: generated ids go to the next context and to the learner as they were drawn; an observation is encoded once.
//  * Turn j is sent before turn j+1 is asked for, and only one of the two is ever in hand: memory is constant, back-pressure holds.
//  * An episode that goes on from turns played before (TaskLease.prefix) is, from then on, the episode that was never cut off: the same
//    actions have been played to an environment of the same seed, and it has answered the same, token for token.
//  * The episode ends in one of three ways: its last turn was accepted (EpisodeFinished), it was given up with a reason
//    (EpisodeGivenUp), or it crashed. In the last two its lease is handed back.
using Akka.Actor;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Actors;

/// <summary>What every episode of a worker shares.</summary>
internal sealed record EpisodeServices(
    RolloutWorkerOptions Options,
    IEnvironmentFactory Environments,
    ITokenizer Tokenizer,
    RolloutTelemetry Telemetry,
    TimeProvider Time,
    ILoggerFactory Loggers);

/// <summary>Plays one lease.</summary>
internal sealed partial class EpisodeActor : CountedActor, IWithTimers
{
    private readonly TaskLease _lease;
    private readonly EpisodeServices _services;
    private readonly RolloutWorkerOptions _options;
    private readonly IActorRef _policy;
    private readonly IActorRef _uplink;
    private readonly ILogger _log;
    private readonly EnvironmentSession _environment;

    private IEpisodeContext _context = null!;
    private CarriedHistory? _history;
    private int _maxTurns;
    private int _generationFailures;
    private int _callFailures;
    private int _environmentFailures;
    private long _tag;
    private long _generationStart;
    private TimeSpan _generationTime;
    private long _environmentStart;
    private GenerationResult? _response;
    private (int[] State, int[] Action) _split;
    private int? _sent;
    private bool _ended;
    private string? _leaving;

    public EpisodeActor(TaskLease lease, EpisodeServices services, IActorRef policy, IActorRef uplink)
        : base(services.Telemetry.Board)
    {
        _lease = lease;
        _services = services;
        _options = services.Options;
        _policy = policy;
        _uplink = uplink;
        _log = services.Loggers.CreateLogger<EpisodeActor>();
        _environment = new EnvironmentSession(
            _options.EnvironmentDeadline, _options.EnvironmentGrace, _options.Serial, services.Time);

        Receive<EnvironmentReady>(OnEnvironmentReady);
        Receive<Generated>(OnGenerated);
        Receive<EnvironmentStepped>(stepped => OnEnvironmentStepped(stepped.Result));
        Receive<TurnAccepted>(OnTurnAccepted);

        Receive<GenerationFailed>(OnGenerationFailed);
        Receive<EnvironmentFailed>(OnEnvironmentFailed);
        Receive<RetryEnvironment>(_ => CallEnvironment());
        Receive<FinishTurn>(finish => _leaving = finish.Reason);
    }

    public ITimerScheduler Timers { get; set; } = null!;

    // 1. The lease. A lease that cannot be played anywhere goes back at once; the learner counts its tries.
    protected override void PreStart()
    {
        if ((LeaseReader.Problem(_lease) ?? PlayedTurn.Problem(_lease)) is { } problem)
            GiveUp($"The lease is invalid: {problem}");
        else
            CallEnvironment();
    }

    // 2. The prompt is the first context.
    private void OnEnvironmentReady(EnvironmentReady ready)
    {
        _callFailures = 0;
        _maxTurns = ready.MaxTurns;
        var prompt = _services.Tokenizer.EncodePrompt(ready.Prompt);
        if (prompt.Length == 0 || !IEpisodeContext.PromptFits(prompt, _options.MaxContextTokens))
        {
            GiveUp($"The prompt has {prompt.Length} tokens; a context holds 1 to {_options.MaxContextTokens - 1}.");
            return;
        }
        _context = _options.Memory == RolloutMemory.Full
            ? new FullContext(prompt, _options.MaxContextTokens)
            : new ConstantMemoryContext(prompt, _options.MaxContextTokens);
        if (_options.Memory == RolloutMemory.Carry)
            _history = new CarriedHistory(prompt, _options.MaxContextTokens, _options.MaxEpisodeTokens);
        if (_lease.Prefix.Count > 0 && !PlayedTurn.Prompt(_lease.Prefix[0]).SequenceEqual(prompt))
            GiveUp("The episode cannot be gone on with: its prompt is another one than before.");
        else
            GoOn();
    }

    // Turns that were played before are played again, to the environment alone; the first turn that was not is asked for.
    private void GoOn()
    {
        if (_context.Turn >= _lease.Prefix.Count)
        {
            AskPolicy();
            return;
        }
        TakeResponse(PlayedTurn.Response(_lease.Prefix[_context.Turn]));
    }

    private void OnReplayed(TurnResult result, int[] keptState, int[] keptAction, int[] information)
    {
        var turn = _lease.Prefix[_context.Turn];
        if (result.End != EpisodeEnd.None || !information.AsSpan().SequenceEqual([.. turn.Observation])
            || !_context.NextFits(keptState.Length + keptAction.Length, information.Length)
            || _history?.NextFits(_split.State.Length + _split.Action.Length, information.Length) == false)
        {
            GiveUp($"The episode cannot be gone on with: the environment answers turn {turn.Turn} differently than before.");
            return;
        }
        _response = null;
        Advance(keptState, keptAction, information);
        GoOn();
    }

    // 3. The response: the policy continues the context. Its seed is a function of lease and turn, whatever else is in the batch.
    private void AskPolicy()
    {
        if (_leaving is { } leaving)
        {
            GiveUp(leaving); // between two turns: all that was played is with the uplink
            return;
        }

        var asked = _lease.Sampling;
        var limit = Math.Min(Math.Min(asked.MaxNewTokens, _options.MaxNewTokens), _history?.Room ?? _context.Room);
        _services.Telemetry.Board.Enter(Self.Path.Name, "generating", _context.Turn);
        _generationStart = _services.Time.GetTimestamp();
        _policy.Tell(new Generate(
            ++_tag,
            _history?.Context ?? _context.ToArray(),
            new SamplingOptions(asked.Temperature, asked.TopP, limit),
            _services.Environments.StopStrings,
            TurnSeed.Mix(_lease.HasSamplingSeed ? _lease.SamplingSeed : _lease.Seed, _context.Turn))
        {
            Prompt = _context.PromptLength,
            Carried = _history?.Turns,
        });
    }

    private void OnGenerated(Generated message)
    {
        if (message.Tag != _tag)
            return;
        _generationFailures = 0;
        _generationTime = _services.Time.GetElapsedTime(_generationStart);
        var result = message.Result;
        var count = result.Tokens.Length;
        if (count == 0 || result.LogProbs.Length != count || result.PolicyVersions.Length != count)
        {
            throw new InvalidOperationException(
                $"The engine returned {count} tokens, {result.LogProbs.Length} log-probs and " +
                $"{result.PolicyVersions.Length} versions.");
        }
        _services.Telemetry.Board.Generated(Self.Path.Name, result.PolicyVersions[^1]);
        TakeResponse(result);
    }

    private void TakeResponse(GenerationResult result)
    {
        _response = result;
        _split = ResponseTokens.Split(result.Tokens, _services.Environments.InternalStateEnd, _services.Tokenizer);
        CallEnvironment();
    }

    // 4. The observation: the environment takes the response's text. A call that throws is tried again with the same response.
    private void CallEnvironment()
    {
        _services.Telemetry.Board.Enter(Self.Path.Name, "environment", _context?.Turn ?? 0);
        _environmentStart = _services.Time.GetTimestamp();
        if (_response is null)
        {
            _environment.CreateAsync(_services.Environments, LeaseReader.Task(_lease), _lease.Seed)
                .PipeTo(Self, success: ready => ready, failure: cause => new EnvironmentFailed(cause));
            return;
        }
        var text = ResponseTokens.Text(_response, _services.Environments.StopStrings, _services.Tokenizer);
        _environment.StepAsync(text, truncated: _response.Finish == FinishReason.Length)
            .PipeTo(Self, success: result => new EnvironmentStepped(result), failure: cause => new EnvironmentFailed(cause));
    }

    // 5. The sub-trajectory: what was served, what was generated on it, what came of it. Then everything older is dropped.
    private void OnEnvironmentStepped(TurnResult result)
    {
        var environmentTime = _services.Time.GetElapsedTime(_environmentStart);
        _callFailures = 0;
        _environmentFailures += result.Failures;

        var (state, action) = _split;
        var information = result.End == EpisodeEnd.None ? Tokenise(result.Observation) : [];
        var (keptState, keptAction) = _options.Memory == RolloutMemory.Full
            ? (state, action)
            : ResponseTokens.Kept(state, action, _services.Environments.DiscardedEnd, _services.Tokenizer);
        if (_context.Turn < _lease.Prefix.Count)
        {
            OnReplayed(result, keptState, keptAction, information);
            return;
        }
        if (result.End == EpisodeEnd.None && _context.Turn + 1 >= _maxTurns)
            result = _environment.Abort(EpisodeEnd.TurnLimit);
        else if (result.End == EpisodeEnd.None && !NextFits(information.Length))
            result = _environment.Abort(EpisodeEnd.ContextFull);
        _ended = result.End != EpisodeEnd.None;
        if (_ended)
            information = [];

        var turn = SubTrajectoryWriter.Write(
            _lease, _context, _response!, state, action, information, result, _environmentFailures, _generationTime, environmentTime);
        _services.Telemetry.TurnPlayed();
        _sent = turn.Turn;
        _response = null;
        if (!_ended)
        {
            Advance(keptState, keptAction, information);
        }
        _services.Telemetry.Board.Enter(Self.Path.Name, "waiting", turn.Turn);
        _uplink.Tell(new TurnPlayed(turn));

        bool NextFits(int observed) => _context.NextFits(keptState.Length + keptAction.Length, observed)
            && (_history is null || _history.NextFits(state.Length + action.Length, observed));
    }

    // Called while _split is still that of the turn that ends.
    private void Advance(int[] keptState, int[] keptAction, int[] information)
    {
        _context.Advance(keptState, keptAction, information);
        int[] generated = [.. _split.State, .. _split.Action];
        _history?.Add(generated, generated.Length - keptState.Length - keptAction.Length, information);
    }

    private int[] Tokenise(string observation) => ObservationTokens.Encode(
        _services.Tokenizer, observation, _services.Environments.ObservationEnd, _options.MaxObservationTokens);

    // 6. The next turn, or the end. The uplink accepts a turn as soon as it has room to keep it.
    private void OnTurnAccepted(TurnAccepted accepted)
    {
        // An uplink that crashed may say it twice.
        if (accepted.Turn != _sent)
            return;
        _sent = null;
        if (!_ended)
        {
            AskPolicy();
            return;
        }
        Context.Parent.Tell(EpisodeFinished.Instance);
        Context.Stop(Self);
    }

    // What can go wrong, and how often it is tried again.
    private void OnGenerationFailed(GenerationFailed failure)
    {
        if (failure.Tag != _tag)
            return;
        if (!failure.Retry)
            GiveUp(failure.Reason);
        else if (_generationFailures++ >= _options.GenerationRetries)
            GiveUp($"{failure.Reason.TrimEnd('.')}, {_generationFailures} times in this turn.");
        else
            AskPolicy();
    }

    private void OnEnvironmentFailed(EnvironmentFailed failure)
    {
        _environmentFailures++;
        _services.Telemetry.EnvironmentFailed();
        LogEnvironmentFailed(
            _log, failure.Cause, _lease.EpisodeId, _lease.Attempt, _callFailures + 1, TraceContext.TraceIn(_lease.Traceparent));
        var sentence = $"{failure.Cause.GetType().Name}: {failure.Cause.Message}";
        if (failure.Cause is EnvironmentStuckException)
            GiveUp($"The environment hangs: {failure.Cause.Message}");
        else if (_callFailures >= _options.EnvironmentRetries)
            GiveUp($"The environment failed {_callFailures + 1} times in a row, last with {sentence}");
        else
            RetryLater();
    }

    private void RetryLater()
    {
        // Ten doublings are a thousand times the first wait; nobody means to wait longer.
        var wait = _options.EnvironmentBackoff * (1 << Math.Min(_callFailures, 10));
        _callFailures++;
        Timers.StartSingleTimer(nameof(RetryEnvironment), RetryEnvironment.Instance, wait);
    }

    private void GiveUp(string reason)
    {
        Context.Parent.Tell(new EpisodeGivenUp(reason));
        Context.Stop(Self);
    }

    protected override void PostStop()
    {
        // Harmless when nothing is open; after a crash or a stop in mid-turn it frees the place in the batch.
        _policy.Tell(new CancelGeneration(), Self);
        _ = CloseAsync(_environment, _log, _lease);
    }

    private static async Task CloseAsync(EnvironmentSession environment, ILogger log, TaskLease lease)
    {
        try
        {
            await environment.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception failure)
        {
            // The episode is over either way; what an environment throws while it cleans up concerns its author.
            LogDisposeFailed(log, failure, lease.EpisodeId, TraceContext.TraceIn(lease.Traceparent));
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message =
        "Episode {EpisodeId}, attempt {Attempt}: environment call failed (try {Try}); trace {TraceId}")]
    private static partial void LogEnvironmentFailed(
        ILogger logger, Exception cause, string episodeId, int attempt, int @try, string traceId);

    [LoggerMessage(Level = LogLevel.Warning, Message =
        "Episode {EpisodeId}: the environment threw while it was disposed; trace {TraceId}")]
    private static partial void LogDisposeFailed(ILogger logger, Exception cause, string episodeId, string traceId);
}
