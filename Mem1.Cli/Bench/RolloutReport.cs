using System.Globalization;

namespace Mem1.Cli.Bench;

/// <summary>One way at one batch size on a number of threads.</summary>
/// <param name="Size">Of the model.</param>
/// <param name="Way">managed, libtorch or python3-torch.</param>
/// <param name="Threads">Of the way.</param>
/// <param name="Batch">Sequences decoded together.</param>
/// <param name="TokensPerSecond">Generated tokens by the time of a whole round, reading the contexts included.</param>
/// <param name="DecodeTokensPerSecond">Generated tokens after the first by the time of their steps.</param>
/// <param name="PrefillTokensPerSecond">Context tokens by the time of the first step.</param>
/// <param name="TokensPerCpuSecond">Generated tokens by the processor time of the cheapest round: steadier on a busy machine.</param>
/// <param name="Rounds">Timed; the fastest counts.</param>
internal sealed record RolloutRow(
    string Size, string Way, int Threads, int Batch, double TokensPerSecond, double DecodeTokensPerSecond, double PrefillTokensPerSecond,
    double TokensPerCpuSecond, int Rounds);

/// <summary>The managed decoder against another way, each on whichever number of threads suits it best.</summary>
/// <param name="Size">Of the model.</param>
/// <param name="Batch">Sequences decoded together.</param>
/// <param name="Against">libtorch or python3-torch.</param>
/// <param name="Times">Generated tokens per second of whole rounds, as a multiple of the other's.</param>
/// <param name="DecodeTimes">The same of the steps after the first.</param>
/// <param name="PrefillTimes">Context tokens per second, as a multiple of the other's.</param>
/// <param name="CpuTimes">Generated tokens of whole rounds per second of processor time, as a multiple of the other's.</param>
internal sealed record RolloutRatio(
    string Size, int Batch, string Against, double Times, double DecodeTimes, double PrefillTimes, double CpuTimes);

/// <summary>How far another way's draws are from the managed decoder's, over the sequences that were compared.</summary>
/// <param name="Size">Of the model.</param>
/// <param name="Way">The other.</param>
/// <param name="SameTokens">Share of tokens drawn alike; after a draw that falls to another side of an edge a sequence is another.</param>
/// <param name="LogProbMaxDifference">Over the tokens drawn alike.</param>
internal sealed record RolloutAgreement(string Size, string Way, double SameTokens, double LogProbMaxDifference);

/// <summary>All of <c>mem1 bench rollout</c>.</summary>
/// <param name="Bench">rollout.</param>
/// <param name="Parameters">Of each model size, value head included, which sampling does not use.</param>
/// <param name="ContextTokens">Read before the first token is drawn.</param>
/// <param name="GeneratedTokens">Of each sequence.</param>
/// <param name="Machine">Where.</param>
/// <param name="Peer">What the python peer runs on; null when it was not there.</param>
/// <param name="PeerMissing">Why there is no peer; null when there is.</param>
/// <param name="Rows">Every way.</param>
/// <param name="Ratios">The managed decoder against the others.</param>
/// <param name="Agreements">All ways compute the same.</param>
/// <param name="Worlds">Whole episodes of the built-in task with the built-in model.</param>
internal sealed record RolloutBenchReport(
    string Bench, IReadOnlyDictionary<string, long> Parameters, int ContextTokens, int GeneratedTokens, MachineInfo Machine, string? Peer,
    string? PeerMissing, IReadOnlyList<RolloutRow> Rows, IReadOnlyList<RolloutRatio> Ratios, IReadOnlyList<RolloutAgreement> Agreements,
    IReadOnlyList<WorldsRow> Worlds)
{
    /// <summary>The table for people.</summary>
    public string Table()
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"{Machine}");
        if (Peer is not null) Line($"peer: {Peer}");
        if (PeerMissing is not null) Line($"peer: {PeerMissing}");
        Line($"Context {ContextTokens}, {GeneratedTokens} generated; tok/s: generated tokens per second of a whole round, contexts included.");
        foreach (var (size, parameters) in Parameters)
        {
            Line($"");
            Line($"{parameters:N0} parameters ({size})");
            Line($"batch  way            threads     tok/s  decode only  prefill  tok/CPU-s");
            foreach (var row in Rows.Where(r => r.Size == size).OrderBy(r => r.Batch))
            {
                var rates = $"{row.TokensPerSecond,8:0}  {row.DecodeTokensPerSecond,11:0}  {row.PrefillTokensPerSecond,7:0}  {row.TokensPerCpuSecond,9:0}";
                Line($"{row.Batch,5}  {row.Way,-13}  {row.Threads,7}  {rates}");
            }

            foreach (var group in Ratios.Where(r => r.Size == size).GroupBy(r => r.Against))
            {
                var all = string.Join(
                    "; ",
                    group.Select(r => string.Create(
                        CultureInfo.InvariantCulture, $"{r.Times:0.0} (decode {r.DecodeTimes:0.0}, CPU time {r.CpuTimes:0.0}) at {r.Batch}")));
                var same = Agreements.First(a => a.Size == size && a.Way == group.Key);
                Line($"times {group.Key}, each at its best number of threads: {all}");
                Line($"  log-probs agree to {same.LogProbMaxDifference:0.0e+0}");
            }
        }

        Line($"");
        Line($"Whole episodes of the built-in task and model, over actors and gRPC on loopback, {Worlds[0].EpisodesAtOnce} at once:");
        Line($"threads     tok/s  episodes/s  x without prompt cache  by CPU time  context tokens not read");
        foreach (var row in Worlds)
        {
            var times = $"{row.TimesWithoutPromptCache,22:0.00}  {row.CpuTimesWithoutPromptCache,11:0.00}";
            Line($"{row.Threads,7}  {row.TokensPerSecond,8:0}  {row.EpisodesPerSecond,10:0.0}  {times}  {row.PrefillSaved,23:0.0%}");
        }

        return text.ToString();
    }
}
