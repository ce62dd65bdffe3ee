// Keeps: reads a run folder and changes nothing in it; holds one line of its files at a time, however long the run is.
using System.CommandLine;
using System.Globalization;
using Mem1.Cli.Training;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 trace find</c>: the way of one episode from its task to the weights it helped to make.</summary>
internal static class TraceFindCommand
{
    // How many names an error lists.
    private const int Named = 5;

    // 00-TRACE-SPAN-01 (W3C Trace Context): where the trace begins, and how long it is.
    private const int HeaderLength = 55, TraceStart = 3, TraceLength = 32;

    public static Command Create()
    {
        var run = new Argument<string>("RUN") { Description = "Name of a run below --runs, or a run folder" };
        var id = new Argument<string>("ID") { Description = "A trace id or an episode id, or the beginning of one; a traceparent header" };
        var runs = new Option<string>("--runs")
        {
            Description = "Where run folders are",
            HelpName = "DIR",
            DefaultValueFactory = _ => "runs",
        };
        var json = new Option<bool>("--json") { Description = "The line of traces.jsonl" };
        var command = new Command(
            "find",
            """
            Tell the way of an episode: its tries, who played them and how they ended, the update that trained on it, the weights it made.

            Examples:
              ./mem1 trace find default 4bf92f35           the trace id that stands in the logs
              ./mem1 trace find default u12-3              an episode id
            """)
        {
            run, id, runs, json,
        };
        command.SetAction(parse =>
        {
            var folder = TraceCommand.Folder(parse.GetValue(runs)!, parse.GetValue(run)!);
            var record = Find(Path.Combine(folder, TraceRecord.FileName), parse.GetValue(id)!);
            Console.Out.Write(parse.GetValue(json) ? record.ToJson() + "\n" : Text(record, Recorded(folder, record.EpisodeId)));
            return 0;
        });
        return command;
    }

    private static TraceRecord Find(string path, string id)
    {
        if (!File.Exists(path))
        {
            throw new UserErrorException(
                $"there is no {path}: the run has done no update yet, checkpoint.traces is off, or an older version wrote it.");
        }

        var wanted = id.Length == HeaderLength && id[TraceStart - 1] == '-' ? id.Substring(TraceStart, TraceLength) : id;
        TraceRecord? only = null;
        var found = new List<string>();
        foreach (var line in File.ReadLines(path))
        {
            // Most lines are of others: looking for the text is far cheaper than reading the JSON.
            if (!line.Contains(wanted, StringComparison.Ordinal) || TraceRecord.Parse(line) is not { } record) continue;
            if (record.EpisodeId == wanted || record.TraceId == wanted) return record;
            if (!record.EpisodeId.StartsWith(wanted, StringComparison.Ordinal)
                && !record.TraceId.StartsWith(wanted, StringComparison.Ordinal))
            {
                continue;
            }

            only = record;
            if (found.Count <= Named) found.Add(record.EpisodeId);
        }

        if (found.Count == 1) return only!;
        throw new UserErrorException(found.Count > 1
            ? $"several episodes begin with \"{wanted}\": {string.Join(", ", found.Take(Named))}{(found.Count > Named ? ", ..." : "")}; "
                + "name one."
            : $"no episode that was trained on or given up is called \"{wanted}\"; one that is still played has no line in {path} yet.");
    }

    /// <summary>The line of trajectories.jsonl that has the episode; 0 if none has.</summary>
    private static int Recorded(string folder, string episode)
    {
        var path = Path.Combine(folder, TrajectoryRecord.FileName);
        if (!File.Exists(path)) return 0;
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            // As it is written: the name is the second property of the line.
            if (line.AsSpan(0, Math.Min(line.Length, 400)).Contains($"\"episode_id\":\"{episode}\"", StringComparison.Ordinal))
                return number;
        }

        return 0;
    }

    private static string Text(TraceRecord r, int recorded)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"trace    {(r.TraceId.Length > 0 ? r.TraceId : "not known: given up before the learner was started again")}");
        Line($"episode  {r.EpisodeId}");
        foreach (var t in r.Tries)
        {
            var leased = t.Leased is { } at ? $"leased {Time(at)}" : "leased before the learner was started again";
            var from = t.FromTurn > 0 ? $", goes on from turn {t.FromTurn}" : "";
            var took = t is { Leased: { } began, Ended: { } over }
                ? string.Create(CultureInfo.InvariantCulture, $" after {(over - began).TotalSeconds:0.0} s") : "";
            var reason = t.Reason.Length > 0 ? $": {t.Reason.ReplaceLineEndings(" ")}" : "";
            var worker = t.Worker.Length > 0 ? t.Worker : "an unknown worker";
            Line($"try {t.Attempt,-4} {worker}: {leased}{from}, {t.How.Replace('_', ' ')}{took}{reason}");
        }

        if (r.Turns is { } turns)
        {
            var versions = r.OldestVersion == r.NewestVersion
                ? $"version {r.OldestVersion}" : $"versions {r.OldestVersion} to {r.NewestVersion}";
            Line($"played   {turns} turns, {r.GeneratedTokens} tokens sampled under {versions}, reward {r.Reward:0.###}, ended: {r.End}");
        }

        if (r.State == "consumed")
            Line($"update   trained on by update {r.Update}, done {Time(r.Written)}; weights version {r.PolicyVersion}");
        else
            Line($"update   given up before update {r.Update}: nothing was trained on it");
        if (recorded > 0) Line($"tokens   ./mem1 trace show RUN '#{recorded}'");
        return text.ToString();
    }

    private static string Time(DateTimeOffset at) =>
        at.ToUniversalTime().ToString("yyyy-MM-dd HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
}
