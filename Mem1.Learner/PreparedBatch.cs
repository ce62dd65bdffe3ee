// Keeps: everything an optimiser step needs of a batch beside the model's own outputs is here, per trajectory and per generated token in
// time order over turns; only the estimate is added after construction, once.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>The per-token numbers of one forward pass, in the order of its predictions: flat float32 tensors [N].</summary>
/// <param name="OldLogProbs">Of the policy that sampled.</param>
/// <param name="Advantages">As the estimator left them.</param>
/// <param name="OldValues">Of the critic when the batch was scored; null without one.</param>
/// <param name="Returns">What the critic should say; null without one.</param>
/// <param name="ReferenceLogProbs">Of the reference policy; null without one.</param>
/// <param name="ProximalLogProbs">Of the policy the update starts from, where the trust interval lies about it; else null.</param>
/// <param name="Importance">Weights of the policy loss; null when all are 1.</param>
/// <param name="Shares">Weights of all losses; null when all are 1.</param>
/// <param name="IsState">Whether a token is internal state (else of an action).</param>
internal sealed record PickedTokens(
    Tensor OldLogProbs, Tensor Advantages, Tensor? OldValues, Tensor? Returns, Tensor? ReferenceLogProbs, Tensor? ProximalLogProbs,
    Tensor? Importance, Tensor? Shares, bool[] IsState);

/// <summary>What an update made of the generated tokens of a trajectory, in time order over its turns.</summary>
/// <param name="Values">Of the critic for the state before each token; null without a critic.</param>
/// <param name="Advantages">As they weighed in the loss.</param>
public sealed record TokenEstimates(float[]? Values, double[] Advantages);

/// <summary>A batch that is scored and, after <see cref="Take"/>, estimated.</summary>
internal sealed class PreparedBatch
{
    private readonly int[][] _offsets;
    private readonly bool[][] _isState;
    private IReadOnlyList<double[]> _advantages = [];
    private IReadOnlyList<double[]>? _returns;

    public PreparedBatch(IReadOnlyList<Trajectory> batch, IReadOnlyList<TokenScores> scores, IReadOnlyList<TokenScores>? reference)
    {
        (Trajectories, Scores) = (batch, scores);
        Behaviour = [.. batch.Select(t => t.Turns.SelectMany(turn => turn.LogProbs).ToArray())];
        Reference = reference is null ? null : [.. reference.Select(r => r.LogProbs)];
        _offsets = Scoring.TurnOffsets(batch);
        _isState = [.. batch.Select(t => t.Turns.SelectMany(
            turn => Enumerable.Range(0, turn.Generated.Length).Select(k => k < turn.StateLength)).ToArray())];
    }

    public IReadOnlyList<Trajectory> Trajectories { get; }

    /// <summary>Log-probs and values under the weights the update starts from.</summary>
    public IReadOnlyList<TokenScores> Scores { get; }

    /// <summary>Log-probs of the policy that sampled.</summary>
    public IReadOnlyList<float[]> Behaviour { get; }

    /// <summary>Log-probs of the reference policy; null without one.</summary>
    public IReadOnlyList<float[]>? Reference { get; private init; }

    /// <summary>A batch as it was in a saved step.</summary>
    public static PreparedBatch Of(SavedStep step) => new(step.Trajectories, step.Scores, null)
    {
        Reference = step.Reference,
        _advantages = step.Advantages,
        _returns = step.Returns,
    };

    /// <summary>A step over some of the trajectories, to be written down.</summary>
    public SavedStep Save(long update, long policyVersion, IReadOnlyList<int> members, double klFactor) => new()
    {
        Update = update,
        PolicyVersion = policyVersion,
        Members = members,
        KlFactor = klFactor,
        Trajectories = Trajectories,
        Scores = Scores,
        Reference = Reference,
        Advantages = _advantages,
        Returns = _returns,
    };

    /// <summary>What the update made of each trajectory's tokens, by episode, for the record.</summary>
    public IReadOnlyDictionary<string, TokenEstimates> Estimates()
    {
        var all = new Dictionary<string, TokenEstimates>(StringComparer.Ordinal);
        for (var i = 0; i < _advantages.Count; i++)
            all[Trajectories[i].EpisodeId] = new TokenEstimates(_returns is null ? null : Scores[i].Values, _advantages[i]);
        return all;
    }

    public void Take(AdvantageEstimate estimate) => (_advantages, _returns) = (estimate.Advantages, estimate.Returns);

    /// <summary>The numbers of a pass, on the model's device; they belong to the caller's dispose scope.</summary>
    public PickedTokens Pick(LayoutBatch pass, PpoOptions options, Device device)
    {
        var decoupled = options.OffPolicy != OffPolicyCorrection.None;
        return new PickedTokens(
            Gather((i, k) => Behaviour[i][k]), Gather((i, k) => (float)_advantages[i][k]),
            _returns is null ? null : Gather((i, k) => Scores[i].Values[k]),
            _returns is { } returns ? Gather((i, k) => (float)returns[i][k]) : null,
            Reference is { } reference ? Gather((i, k) => reference[i][k]) : null,
            decoupled ? Gather((i, k) => Scores[i].LogProbs[k]) : null,
            decoupled ? Gather((i, k) => Importance(Scores[i].LogProbs[k] - Behaviour[i][k], options)) : null,
            Shared(options) ? Gather((i, k) => Counts(i, k, options)
                ? options.Aggregation == LossAggregation.SequenceMeanTokenMean ? 1f / Counted(i, options) : 1
                : 0) : null,
            [.. pass.Turns.SelectMany(t => Enumerable
                .Range(_offsets[t.Trajectory][t.Turn], Trajectories[t.Trajectory].Turns[t.Turn].Generated.Length)
                .Select(k => _isState[t.Trajectory][k]))]);

        static bool Shared(PpoOptions options) => options.Aggregation == LossAggregation.SequenceMeanTokenMean || !options.LossOnState;

        Tensor Gather(Func<int, int, float> of) => torch.tensor(
            pass.Turns.SelectMany(t => Enumerable
                .Range(_offsets[t.Trajectory][t.Turn], Trajectories[t.Trajectory].Turns[t.Turn].Generated.Length)
                .Select(k => of(t.Trajectory, k))).ToArray(),
            dtype: ScalarType.Float32, device: device);
    }

    /// <summary>What the summed losses of some trajectories are divided by.</summary>
    public double Normaliser(IReadOnlyCollection<int> members, PpoOptions options) =>
        options.Aggregation == LossAggregation.TokenMean ? Math.Max(1, members.Sum(i => (long)Counted(i, options))) : members.Count;

    /// <summary>Whether a token carries a loss.</summary>
    private bool Counts(int trajectory, int token, PpoOptions options) => options.LossOnState || !_isState[trajectory][token];

    private int Counted(int trajectory, PpoOptions options) =>
        options.LossOnState ? Behaviour[trajectory].Length : _isState[trajectory].Count(s => !s);

    /// <summary>Mean k1 divergence per token of the policy that sampled from the reference; no number without one.</summary>
    public double ReferenceDivergence() => Reference is null
        ? double.NaN
        : Behaviour.Zip(Reference).SelectMany(p => p.First.Zip(p.Second, (b, r) => (double)(b - r))).Average();

    /// <summary>max |log-prob learner - log-prob sampler| over tokens of a version; null when there is none.</summary>
    public double? Parity(long policyVersion)
    {
        double? worst = null;
        for (var i = 0; i < Trajectories.Count; i++)
        {
            var k = 0;
            foreach (var version in Trajectories[i].Turns.SelectMany(t => t.PolicyVersions))
            {
                if (version == policyVersion)
                    worst = Math.Max(worst ?? 0, Math.Abs((double)Scores[i].LogProbs[k] - Behaviour[i][k]));
                k++;
            }
        }

        return worst;
    }

    /// <summary>proximal / behaviour, bounded as the options say.</summary>
    internal static float Importance(float logRatio, PpoOptions options)
    {
        // The bound keeps the exponential finite; no cap is anywhere near it.
        var weight = MathF.Exp(Math.Clamp(logRatio, -20, 20));
        if (options.ImportanceCap <= 0 || weight <= options.ImportanceCap) return weight;
        return options.OffPolicy == OffPolicyCorrection.Truncated ? (float)options.ImportanceCap : 0;
    }

    /// <summary>1 - Var(return - value) / Var(return); 0 when returns do not vary, no number without a critic.</summary>
    public double ExplainedVariance()
    {
        if (_returns is null) return double.NaN;
        var all = _returns.SelectMany(r => r).ToArray();
        var errors = _returns.Zip(Scores).SelectMany(p => p.First.Zip(p.Second.Values, (r, v) => r - v)).ToArray();
        var variance = Variance(all);
        return variance <= 0 ? 0 : 1 - (Variance(errors) / variance);

        static double Variance(double[] x)
        {
            var mean = x.Average();
            return x.Average(v => (v - mean) * (v - mean));
        }
    }
}
