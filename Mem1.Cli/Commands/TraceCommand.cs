// Keeps: reads a run folder and changes nothing in it; works while the run is going on and on folders of older versions, as far as what
// they hold goes.
using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Learner;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 trace</c>: looks at what was recorded of episodes; <c>show</c> has one recorded episode, segment by segment, and its attention mask.</summary>
internal static class TraceCommand
{
    // Enough of a segment to know it again; --tokens shows all of it.
    private const int TextWidth = 60;

    // How many episode names an error lists.
    private const int Named = 5;

    public static Command Create()
    {
        var run = new Argument<string>("RUN") { Description = "Name of a run below --runs, or a run folder" };
        var episode = new Argument<string>("EPISODE")
        {
            Description = "An episode id, the beginning of one, or #N: the N-th line of trajectories.jsonl (#-1 is the last)",
        };
        var runs = new Option<string>("--runs")
        {
            Description = "Where run folders are",
            HelpName = "DIR",
            DefaultValueFactory = _ => "runs",
        };
        var mask = new Option<FileInfo?>("--mask") { Description = "Draw who attends to whom", HelpName = "OUT.svg" };
        var layout = new Option<LayoutKind?>("--layout")
        {
            Description = "Of the mask and the loss mask: segments, carry or paper; the run's own without it",
            HelpName = "LAYOUT",
        };
        var tokens = new Option<bool>("--tokens") { Description = "A line per generated token" };
        var json = new Option<bool>("--json") { Description = "The record as JSON, with the layout token by token" };
        var show = new Command(
            "show",
            """
            Print a recorded episode by segments: what was kept, what was pruned, tokens, log-probs, versions, loss mask.

            Examples:
              ./mem1 trace show default '#-1'
              ./mem1 trace show default '#1' --tokens --mask mask.svg
              ./mem1 trace show default '#1' --layout carry --mask carry.svg
            """)
        {
            run, episode, runs, mask, layout, tokens, json,
        };
        show.SetAction(parse =>
        {
            var record = Find(parse.GetValue(runs)!, parse.GetValue(run)!, parse.GetValue(episode)!);
            var kind = parse.GetValue(layout) ?? KindOf(record);
            var sequence = record.HasTokens ? ILayout.Of(kind).Describe(record.ToTrajectory()) : null;
            if (parse.GetValue(mask) is { } file)
            {
                AtomicFile.WriteText(
                    file.FullName,
                    MaskDrawing.Draw(
                        sequence ?? throw new UserErrorException(
                            $"episode {record.EpisodeId} was written by a version that kept no token ids; no mask can be drawn of it."),
                        $"{record.EpisodeId}, {kind.ToString().ToLowerInvariant()} layout, {sequence.Tokens.Count} tokens"));
            }

            Console.Out.Write(parse.GetValue(json) ? Json(record, kind, sequence) : Text(record, kind, sequence, parse.GetValue(tokens)));
            return 0;
        });
        return new Command("trace", "Look at recorded episodes.\n\nExample:\n  ./mem1 trace show default '#-1' --mask mask.svg") { show, TraceFindCommand.Create() };
    }

    /// <summary>The folder of a run, by name or as it stands.</summary>
    internal static string Folder(string runs, string run) => Directory.Exists(Path.Combine(runs, run)) ? Path.Combine(runs, run) : run;

    private static TrajectoryRecord Find(string runs, string run, string episode)
    {
        var path = Path.Combine(Folder(runs, run), TrajectoryRecord.FileName);
        if (!File.Exists(path))
        {
            throw new UserErrorException(
                $"there is no {path}: name a run below --runs, or a run folder, that has played training episodes.");
        }

        // A line that is being written has no end yet; a run may be going on.
        var lines = File.ReadAllText(path).Split('\n')[..^1];
        if (lines.Length == 0) throw new UserErrorException($"{path} holds no episode yet.");
        if (episode.StartsWith('#'))
        {
            if (!int.TryParse(episode.AsSpan(1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                || number == 0 || Math.Abs((long)number) > lines.Length)
            {
                throw new UserErrorException(
                    $"{episode} is no line of {path}: #1 to #{lines.Length}, or from the end #-1 to #-{lines.Length}.");
            }

            var index = number > 0 ? number - 1 : lines.Length + number;
            return TrajectoryRecord.Parse(lines[index], $"{path}, line {index + 1}");
        }

        var all = lines.Select((line, i) => TrajectoryRecord.Parse(line, $"{path}, line {i + 1}")).ToList();
        var found = all.Where(r => r.EpisodeId == episode).ToList();
        if (found.Count == 0) found = [.. all.Where(r => r.EpisodeId.StartsWith(episode, StringComparison.Ordinal))];
        if (found.Count == 1) return found[0];
        var names = string.Join(", ", (found.Count > 0 ? found : all).Take(Named).Select(r => r.EpisodeId));
        var more = (found.Count > 0 ? found : all).Count > Named ? ", ..." : "";
        throw new UserErrorException(found.Count > 0
            ? $"{found.Count} episodes begin with \"{episode}\": {names}{more}; name one."
            : $"no recorded episode begins with \"{episode}\"; there are {names}{more} (checkpoint.sampled_trajectories says how many an "
            + "update keeps).");
    }

    private static LayoutKind KindOf(TrajectoryRecord record) =>
        Enum.TryParse<LayoutKind>(record.Layout, ignoreCase: true, out var kind) ? kind : LayoutKind.Segments;

    private static string Text(TrajectoryRecord r, LayoutKind kind, LayoutSequence? sequence, bool tokens)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture).TrimEnd());
        Line($"episode {r.EpisodeId}");
        Line($"task    {r.TaskId}");
        static string Scores(IEnumerable<double> all) =>
            string.Join(" ", all.Select(s => s.ToString("0.##", CultureInfo.InvariantCulture)));
        Line($"update  {r.Update}, reward {r.Reward:0.###}, ended: {r.End}, exact match {Scores(r.ExactMatch)}, F1 {Scores(r.F1)}");
        if (sequence is not null)
        {
            var losses = sequence.Tokens.Count(t => t.Loss);
            Line($"layout  {kind.ToString().ToLowerInvariant()}: {sequence.Tokens.Count} tokens, {losses} with a loss");
        }
        else
        {
            Line($"tokens  not kept by the version that wrote this; text only");
        }

        Line($"");
        Line($"segment        tokens  loss  memory                log-prob  version  text");
        Segment("prompt", r.PromptTokens, loss: false, "kept", null, null, r.Prompt);
        for (var j = 0; j < r.Turns.Count; j++)
        {
            var t = r.Turns[j];
            var last = j == r.Turns.Count - 1;
            var state = t.GeneratedIds is null ? null : (int?)t.StateTokens;
            // What turn j leaves is all that turn j+1 reads beside the prompt; one turn later it is gone.
            var fate = last ? "end" : j + 2 < r.Turns.Count ? $"read in {j + 1}, then pruned" : $"read in {j + 1}";
            string Fate(int from, int to) => last || t.DiscardedTokens <= from ? fate
                : t.DiscardedTokens >= to ? "discarded" : $"{t.DiscardedTokens - from} discarded";
            var generated = t.GeneratedTokens;
            Segment(
                $"state {j}", state ?? 0, loss: true, Fate(0, state ?? 0), Mean(t, 0, state ?? 0) ?? t.MeanLogProb, Versions(t),
                t.InternalState);
            Segment(
                $"action {j}", generated - (state ?? 0), loss: true, Fate(state ?? 0, generated), Mean(t, state ?? 0, generated),
                Versions(t), t.Action);
            if (t.ObservationTokens > 0) Segment($"information {j}", t.ObservationTokens, loss: false, fate, null, null, t.Information);
        }

        Line($"");
        Line($"answer  {r.Answer}");
        if (tokens && sequence is not null)
        {
            Line($"");
            Line($"turn  kind         id  position  sees  log-prob    value  advantage  version  token");
            foreach (var ((turn, i), token) in r.Turns.SelectMany((t, j) => Enumerable.Range(0, t.GeneratedTokens).Select(i => (j, i)))
                .Zip(sequence.Tokens.Select((t, at) => (t, at)).Where(p => p.t.Loss)))
            {
                var t = r.Turns[turn];
                var value = t.Values is { } v ? v[i].ToString("0.000", CultureInfo.InvariantCulture) : "";
                var advantage = t.Advantages is { } a ? a[i].ToString("0.000", CultureInfo.InvariantCulture) : "";
                var name = token.t.Kind == TokenKind.InternalState ? "state" : "action";
                var place = FormattableString.Invariant(
                    $"{turn,4}  {name,-7}{token.t.Id,8}{token.t.Position,10}{sequence.Visible(token.at),6}");
                var numbers = FormattableString.Invariant($"{t.LogProbs![i],10:0.0000}{value,9}{advantage,11}{t.PolicyVersions![i],9}");
                Line($"{place}{numbers}  {OneLine(t.GeneratedPieces?[i] ?? "")}");
            }
        }

        return text.ToString();

        void Segment(string name, int count, bool loss, string memory, double? logProb, string? versions, string content)
        {
            var shown = OneLine(content);
            if (!tokens && shown.Length > TextWidth) shown = shown[..(TextWidth - 3)] + "...";
            var p = logProb is { } l ? l.ToString("0.000", CultureInfo.InvariantCulture) : "";
            Line($"{name,-14}{count,7}  {(loss ? "yes" : "no"),-4}  {memory,-22}{p,8}  {versions ?? "",7}  {shown}");
        }
    }

    private static double? Mean(TurnRecord t, int from, int to) => t.LogProbs is { } p && to > from ? p[from..to].Average() : null;

    private static string? Versions(TurnRecord t) => t.PolicyVersions is not { Length: > 0 } v
        ? t.PolicyVersion?.ToString(CultureInfo.InvariantCulture)
        : v.Min() == v.Max() ? v[0].ToString(CultureInfo.InvariantCulture)
        : string.Create(CultureInfo.InvariantCulture, $"{v.Min()}-{v.Max()}");

    private static string OneLine(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal)
        .Replace("\n", "\\n", StringComparison.Ordinal).Replace("\r", "\\r", StringComparison.Ordinal)
        .Replace("\t", "\\t", StringComparison.Ordinal).Replace("\u001b", "\\e", StringComparison.Ordinal);

    private static string Json(TrajectoryRecord record, LayoutKind kind, LayoutSequence? sequence)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WritePropertyName("episode");
            json.WriteRawValue(record.ToJson());
            if (sequence is not null)
            {
                json.WriteString("layout", kind.ToString().ToLowerInvariant());
                json.WriteStartArray("tokens");
                for (var i = 0; i < sequence.Tokens.Count; i++)
                {
                    var t = sequence.Tokens[i];
                    json.WriteStartObject();
                    json.WriteNumber("id", t.Id);
                    json.WriteNumber("position", t.Position);
                    json.WriteNumber("turn", t.Turn);
                    json.WriteString("kind", JsonNamingPolicy.SnakeCaseLower.ConvertName(t.Kind.ToString()));
                    json.WriteBoolean("copy", t.Copy);
                    json.WriteBoolean("loss", t.Loss);
                    json.WriteStartArray("sees"); // spans [from, to)
                    foreach (var span in sequence.Seen(i))
                    {
                        json.WriteStartArray();
                        json.WriteNumberValue(span.From);
                        json.WriteNumberValue(span.To);
                        json.WriteEndArray();
                    }

                    json.WriteEndArray();
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            }

            json.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }
}
