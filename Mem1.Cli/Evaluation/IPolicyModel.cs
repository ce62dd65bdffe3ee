// Keeps: at temperature 0 an answer depends on the context alone; one engine thread, any number of callers.
using System.Threading.Channels;
using Mem1.Cli.Serve;
using Mem1.Model;

namespace Mem1.Cli.Evaluation;

/// <summary>A context to continue.</summary>
/// <param name="Prompt">The environment's prompt as text, before any chat template.</param>
/// <param name="PromptTokens">The prompt within the template, as tokens.</param>
/// <param name="History">What follows it.</param>
/// <param name="Sampling">How to draw, and how many.</param>
/// <param name="Stops">Strings that end the continuation and stay in it.</param>
/// <param name="Seed">Of its random stream.</param>
internal sealed record PolicyRequest(
    string Prompt, int[] PromptTokens, int[] History, SamplingOptions Sampling, IReadOnlyList<string> Stops, ulong Seed)
{
    /// <summary>All that the model continues.</summary>
    public int[] Context => [.. PromptTokens, .. History];
}

/// <summary>A continuation.</summary>
/// <param name="Tokens">Stop string included, and the end-of-text token if that ended it.</param>
/// <param name="Finish">Why it ended.</param>
internal sealed record PolicyResponse(int[] Tokens, FinishReason Finish);

/// <summary>What is evaluated. Thread-safe.</summary>
internal interface IPolicyModel : IDisposable
{
    /// <summary>Continues a context.</summary>
    Task<PolicyResponse> GenerateAsync(PolicyRequest request, CancellationToken cancellationToken);
}

/// <summary>The model of a checkpoint, in this process.</summary>
/// <param name="engine">Taken over.</param>
/// <param name="batch">Most continuations at once.</param>
internal sealed class EngineModel(IGenerationEngine engine, int batch) : IPolicyModel
{
    // Whoever asks is an episode that is played; there are never more of them than this beyond the batch.
    private const int Waiting = 1 << 16;

    private readonly EngineLoop _loop = new(engine, batch, Waiting);

    public async Task<PolicyResponse> GenerateAsync(PolicyRequest request, CancellationToken cancellationToken)
    {
        var events = Channel.CreateUnbounded<JobEvent>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var job = new Job(
            0,
            new GenerationRequest(_loop.NextId(), request.Context, request.Sampling, request.Stops, request.Seed)
            {
                SharedPrompt = request.PromptTokens.Length,
            },
            events.Writer);
        if (!_loop.TryAdmit([job])) throw new InvalidOperationException("The engine has no room for another continuation.");
        var tokens = new List<int>();
        try
        {
            await foreach (var e in events.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false))
            {
                if (e.Failure is { } failure) throw new InvalidOperationException(failure.Message, failure);
                if (e.Finish is { } finish) return new PolicyResponse([.. tokens], finish);
                tokens.Add(e.Token);
            }
        }
        catch (OperationCanceledException)
        {
            _loop.Cancel([job]);
            throw;
        }

        throw new InvalidOperationException("The engine ended a continuation without saying why.");
    }

    public void Dispose() => _loop.Dispose();
}
