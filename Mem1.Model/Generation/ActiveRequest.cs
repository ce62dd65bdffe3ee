// Invariants: a token is drawn from the request's own random stream at its own index, whichever engine made the logits and whatever else is
// in flight; a request ends with the token that completes a stop string, is the end of text, or fills its room.
using Mem1.Model.Decoding;

namespace Mem1.Model.Generation;

/// <summary>A request in flight: its tokens so far and what was drawn of them.</summary>
internal class ActiveRequest
{
    private readonly List<float> _logProbs = [];
    private readonly List<long> _versions = [];

    /// <param name="request">As submitted.</param>
    /// <param name="total">Most tokens, context included.</param>
    public ActiveRequest(GenerationRequest request, int total)
    {
        Request = request;
        Tokens = new int[total];
        request.Context.CopyTo(Tokens, 0);
        Length = request.Context.Length;
    }

    public GenerationRequest Request { get; }

    /// <summary>Context and what was drawn; its length is the limit.</summary>
    public int[] Tokens { get; }

    /// <summary>Tokens so far.</summary>
    public int Length { get; private set; }

    public List<int> Generated { get; } = [];

    public FinishReason? Finish { get; private set; }

    /// <summary>The most likely tokens in the place of the last one drawn.</summary>
    private IReadOnlyList<TokenLogProb> Top { get; set; } = [];

    /// <summary>Checks what every engine asks of a request; the context is the caller's to check.</summary>
    /// <exception cref="ArgumentException">It cannot run.</exception>
    public static void Require(GenerationRequest request, bool inFlight)
    {
        SamplingOptions sampling = request.Sampling;
        if (sampling.MaxNewTokens < 1)
            throw new ArgumentException($"MaxNewTokens is {sampling.MaxNewTokens}; it must be at least 1.", nameof(request));
        if (!(sampling.Temperature >= 0) || !float.IsFinite(sampling.Temperature))
            throw new ArgumentException($"Temperature is {sampling.Temperature}; it must be 0 or a positive number.", nameof(request));
        if (!(sampling.TopP > 0) || sampling.TopP > 1)
            throw new ArgumentException($"TopP is {sampling.TopP}; it must be above 0 and at most 1.", nameof(request));
        if (request.SharedPrompt < 0 || request.SharedPrompt > request.Context.Length)
        {
            throw new ArgumentException(
                $"SharedPrompt is {request.SharedPrompt}; the context has {request.Context.Length} tokens.", nameof(request));
        }
        if (inFlight)
            throw new ArgumentException($"a request with id {request.Id} is in flight already.", nameof(request));
    }

    /// <summary>How many tokens may be drawn on so many positions.</summary>
    /// <exception cref="ArgumentException">None.</exception>
    public static int Room(DecoderConfig config, GenerationRequest request, int taken)
    {
        if (taken >= config.MaxPositions)
        {
            throw new ArgumentException(
                $"a context of {taken} tokens leaves no room in the model's {config.MaxPositions} positions.", nameof(request));
        }
        return (int)Math.Min((long)request.Sampling.MaxNewTokens, config.MaxPositions - taken);
    }

    /// <summary>Draws the next token.</summary>
    /// <param name="logits">One per vocabulary entry.</param>
    /// <param name="sampler">Scratch memory of the calling thread.</param>
    /// <param name="version">Of the weights that made the logits.</param>
    /// <param name="endOfText">The model's, if it has one.</param>
    /// <param name="stops">Finds stop strings.</param>
    public void Draw(ReadOnlySpan<float> logits, Sampler sampler, long version, int? endOfText, StopMatcher stops)
    {
        SamplingOptions sampling = Request.Sampling;
        double uniform = sampling.Temperature == 0 ? 0 : RandomStream.Uniform(Request.Seed, (ulong)Generated.Count);
        (int drawn, float logProb) = sampler.Draw(logits, sampling, uniform);
        Tokens[Length++] = drawn;
        Generated.Add(drawn);
        _logProbs.Add(logProb);
        _versions.Add(version);
        if (Request.TopLogProbs > 0)
            Top = sampler.Top(logits, Request.TopLogProbs);
        if (drawn == endOfText)
            Finish = FinishReason.EndOfText;
        else if (stops.Completes(Generated, Request.StopStrings))
            Finish = FinishReason.Stop;
        else if (Length == Tokens.Length)
            Finish = FinishReason.Length;
    }

    /// <summary>Tells the observer of the token drawn last.</summary>
    public void Report() => Request.Observer?.Drawn(Generated[^1], _logProbs[^1], _versions[^1], Top);

    public GenerationResult Result() => new(Request.Id, [.. Generated], [.. _logProbs], [.. _versions], Finish!.Value);
}
