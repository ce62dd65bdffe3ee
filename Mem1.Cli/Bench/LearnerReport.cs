using System.Globalization;

namespace Mem1.Cli.Bench;

/// <summary>One way at one number of turns.</summary>
/// <param name="Turns">K.</param>
/// <param name="Tokens">Of the stitched sequence: prompt, kept contexts and generated tokens.</param>
/// <param name="Way">segments, dense or python3-torch.</param>
/// <param name="MicroBatchTokens">Largest number of tokens in one forward and backward pass; null where a trajectory cannot be cut.</param>
/// <param name="TokensPerSecond">Tokens by the wall time of the fastest pass.</param>
/// <param name="TokensPerCpuSecond">Tokens by the processor time of the cheapest pass: steadier on a busy machine.</param>
/// <param name="Seconds">Wall time of the fastest pass.</param>
/// <param name="CpuSeconds">Processor time of the cheapest pass.</param>
/// <param name="PeakMib">Peak resident memory above what was resident before the model existed.</param>
/// <param name="Passes">Timed.</param>
internal sealed record LearnerRow(
    int Turns, int Tokens, string Way, int? MicroBatchTokens, double TokensPerSecond, double TokensPerCpuSecond, double Seconds,
    double CpuSeconds, double PeakMib, int Passes)
{
    /// <summary>Share of a pass's time not spent on preparing data; null for other ways than the product's.</summary>
    public double? Busy { get; init; }
}

/// <summary>The product against another way, both of this run.</summary>
/// <param name="Turns">K.</param>
/// <param name="MicroBatchTokens">Of the product.</param>
/// <param name="Against">dense or python3-torch.</param>
/// <param name="Speed">How many times its tokens/s.</param>
/// <param name="CpuSpeed">The same by processor time.</param>
/// <param name="Memory">How many times less peak memory.</param>
/// <param name="LogProbMaxDelta">Largest difference of any generated token's log-prob.</param>
internal sealed record LearnerRatio(
    int Turns, int MicroBatchTokens, string Against, double Speed, double CpuSpeed, double Memory, double LogProbMaxDelta);

/// <summary>All of <c>mem1 bench learner</c>.</summary>
/// <param name="Bench">learner.</param>
/// <param name="Size">Of the model.</param>
/// <param name="Parameters">Value head included.</param>
/// <param name="PromptTokens">Of the trajectory.</param>
/// <param name="ContextTokens">Kept of the turn before.</param>
/// <param name="GeneratedPerTurn">Tokens with a loss.</param>
/// <param name="TokensCounted">What tokens/s means.</param>
/// <param name="MemoryCounted">What peak memory means.</param>
/// <param name="Machine">Where.</param>
/// <param name="Peer">Versions of the peer, or null without one.</param>
/// <param name="PeerMissing">Why there is no peer.</param>
/// <param name="Rows">Measurements.</param>
/// <param name="Ratios">Segments against the others.</param>
internal sealed record LearnerBenchReport(
    string Bench, string Size, long Parameters, int PromptTokens, int ContextTokens, int GeneratedPerTurn, string TokensCounted,
    string MemoryCounted, MachineInfo Machine, string? Peer, string? PeerMissing, IReadOnlyList<LearnerRow> Rows,
    IReadOnlyList<LearnerRatio> Ratios)
{
    /// <summary>The table for people.</summary>
    public string Table()
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"{Machine}");
        Line($"One PPO update (forward, backward, optimiser) of a {Parameters:N0}-parameter model on one trajectory, one thread:");
        Line($"prompt {PromptTokens}, then in each turn {ContextTokens} tokens of kept context and {GeneratedPerTurn} generated.");
        Line($"tok/s: {TokensCounted}.");
        Line($"MiB: {MemoryCounted}.");
        Line($"Right: how many times the other way's tok/s, and which part of its memory.");
        Line($"");
        var against = string.Concat(Rows.Select(r => r.Way).Distinct().Where(w => w != LearnerBench.Segments).Select(w => $"   {w,14}"));
        Line($"turns  tokens  way            micro-batch     tok/s  tok/CPU-s  peak MiB   busy{against}");
        foreach (var row in Rows)
        {
            var what = $"{row.Turns,5}  {row.Tokens,6}  {row.Way,-13}  {row.MicroBatchTokens,11}";
            Line($"{what}  {row.TokensPerSecond,8:0}  {row.TokensPerCpuSecond,9:0}  {row.PeakMib,8:0.0}  {row.Busy,5:0.0%}{Against(row)}");
        }

        if (PeerMissing is not null) Line($"No row of {LearnerBench.Peer}: {PeerMissing}.");
        if (Peer is not null) Line($"The peer: {Peer}.");
        if (Ratios.Count > 0)
        {
            var delta = Ratios.Max(r => r.LogProbMaxDelta);
            Line($"All ways computed the same: log-probs agree to {delta:0.0e+0}, losses and gradient norms too.");
        }

        return text.ToString();
    }

    /// <summary>Two columns for each other way: how many times its tokens/s, and which part of its memory.</summary>
    private string Against(LearnerRow row)
    {
        if (row.Way != LearnerBench.Segments) return "";
        var text = new StringWriter(CultureInfo.InvariantCulture);
        foreach (var way in new[] { LearnerBench.Dense, LearnerBench.Peer })
        {
            var ratio = Ratios.FirstOrDefault(r => r.Turns == row.Turns && r.MicroBatchTokens == row.MicroBatchTokens && r.Against == way);
            if (ratio is null) continue;
            var memory = string.Create(CultureInfo.InvariantCulture, $"1/{ratio.Memory:0.0}");
            text.Write(string.Create(CultureInfo.InvariantCulture, $"   {ratio.Speed,6:0.0}x {memory,6}"));
        }

        return text.ToString();
    }
}
