// Invariants:
//  * One owner calls it; calls to the server run on the thread pool and come back through one queue.
//  * Every token carries the version of the weights that made it: as the server says, or, where it does not, because nothing is in flight
//    while weights change (requests are sent anew under the new ones).
//  * A request that was cancelled, or sent anew, is never answered by its former call.
using System.Collections.Concurrent;
using Mem1.Model;
using Mem1.Model.Checkpoints;

namespace Mem1.Actors;

/// <summary>A policy on a server of its own, token ids in and token ids out.</summary>
public sealed class EndpointEngine : IGenerationEngine
{
    // The owner answers its other messages between two steps; this is how long they may wait.
    private static readonly TimeSpan StepWait = TimeSpan.FromMilliseconds(5);

    private readonly PolicyEndpointOptions _options;
    private readonly DecoderConfig _config;
    private readonly ITokenizer _tokenizer;
    private readonly PolicyEndpoint _endpoint;
    private readonly Dictionary<long, Attempt> _active = [];
    private readonly BlockingCollection<Attempt> _ended = [];

    /// <summary>Has the server load the weights.</summary>
    /// <param name="options">Where it is.</param>
    /// <param name="config">Shape of the model.</param>
    /// <param name="weights">Tensors that fit it.</param>
    /// <param name="policyVersion">Their version.</param>
    /// <param name="tokenizer">The model's.</param>
    /// <exception cref="RolloutWorkerException">The server cannot be used; the sentence says why.</exception>
    public EndpointEngine(
        PolicyEndpointOptions options, DecoderConfig config, ModelWeights weights, long policyVersion, ITokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _config, _tokenizer) = (options, config, tokenizer);
        _endpoint = new PolicyEndpoint(options);
        try
        {
            SwapWeights(weights, policyVersion);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public long PolicyVersion { get; private set; }

    /// <inheritdoc/>
    public int Active => _active.Count;

    /// <inheritdoc/>
    /// <remarks>Counted when a request ends.</remarks>
    public long GeneratedTokens { get; private set; }

    /// <inheritdoc/>
    public void Submit(GenerationRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Carry is not null)
            throw new ArgumentException(
                "a policy server reads its context anew each turn; memory is carried by the built-in engine only.", nameof(request));
        if (request.Observer is not null)
            throw new ArgumentException("a policy server's tokens come all at once; nothing can follow them.", nameof(request));
        if (request.Context.Length == 0 || request.Context.Length >= _config.MaxPositions)
        {
            throw new ArgumentException(
                $"a context of {request.Context.Length} tokens is empty or leaves no room in the model's {_config.MaxPositions} positions.",
                nameof(request));
        }
        _active.Add(request.Id, Send(request));
    }

    /// <inheritdoc/>
    public void Cancel(long id)
    {
        if (_active.Remove(id, out var attempt))
            attempt.Stop.Cancel();
    }

    /// <summary>Waits a moment for requests to end and returns those that did.</summary>
    /// <exception cref="RolloutWorkerException">The server failed for good.</exception>
    public IReadOnlyList<GenerationResult> Step()
    {
        if (_active.Count == 0 || !_ended.TryTake(out var ended, StepWait))
            return [];
        var results = new List<GenerationResult>();
        do
        {
            using var done = ended.Stop;
            if (!_active.TryGetValue(ended.Request.Id, out var current) || !ReferenceEquals(current, ended))
                continue;
            _active.Remove(ended.Request.Id);
            var result = ended.Answer!.GetAwaiter().GetResult();
            GeneratedTokens += result.Tokens.Length;
            results.Add(result);
        }
        while (_ended.TryTake(out ended!));
        return results;
    }

    /// <inheritdoc/>
    /// <exception cref="RolloutWorkerException">The server did not load them.</exception>
    public void SwapWeights(ModelWeights weights, long policyVersion)
    {
        var again = new List<GenerationRequest>();
        if (_options.Reload != EndpointReload.Mem1)
        {
            again.AddRange(_active.Values.Select(a => a.Request));
            foreach (var request in again)
                Cancel(request.Id);
        }
        var folder = Path.GetFullPath(_options.WeightsFolder!);
        try
        {
            new Checkpoint(_config, weights, _tokenizer).Save(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RolloutWorkerException(
                $"The weights cannot be written to rollout.endpoint.weights_folder ({folder}): {e.Message}", e);
        }
        _endpoint.Load(folder, policyVersion).GetAwaiter().GetResult();
        PolicyVersion = policyVersion;
        foreach (var request in again)
            _active.Add(request.Id, Send(request));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var attempt in _active.Values)
            attempt.Stop.Cancel();
        _active.Clear();
        _endpoint.Dispose();
    }

    private Attempt Send(GenerationRequest request)
    {
        var attempt = new Attempt(request);
        var (limit, version) = (Math.Min(request.Sampling.MaxNewTokens, _config.MaxPositions - request.Context.Length), PolicyVersion);
        attempt.Answer = Task.Run(
            () => _endpoint.Complete(request, limit, version, _config, _tokenizer.EndOfText, attempt.Stop.Token));
        attempt.Answer.ContinueWith(_ => _ended.Add(attempt), TaskScheduler.Default);
        return attempt;
    }

    private sealed class Attempt(GenerationRequest request)
    {
        public GenerationRequest Request => request;

        public CancellationTokenSource Stop { get; } = new();

        public Task<GenerationResult>? Answer { get; set; }
    }
}
