using System.CommandLine;
using Mem1.Environments.Data;
using Mem1.Environments.Scoring;
using Mem1.Environments.Tasks;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data compose</c>: multi-objective tasks from question files.</summary>
internal static class ComposeCommand
{
    // Enough tasks to measure progress on, few enough to leave for training.
    private const double DefaultHeldOut = 0.1;

    public static Command Create()
    {
        var tasks = new Option<string>("--tasks")
        {
            Description = "Question files, separated by commas; FORMAT:FILE for another format than flashrag",
            Required = true,
            HelpName = "[FORMAT:]FILE,...",
        };
        var objectives = new Option<int>("--objectives")
        {
            Description = $"Questions of a task, 1 to {TaskFile.MaxObjectives}",
            HelpName = "N",
            DefaultValueFactory = _ => 2,
        };
        var mix = new Option<bool>("--mix") { Description = "Draw the questions of a task from all files together, shuffled" };
        var shuffle = new Option<bool>("--shuffle")
        {
            Description = "Shuffle each file's questions first, instead of taking them in order",
        };
        var seed = new Option<ulong>("--seed") { Description = "Seed of shuffling", HelpName = "S", DefaultValueFactory = _ => 1 };
        var output = new Option<FileInfo>("--out") { Description = "Task file to write", Required = true, HelpName = "FILE.jsonl" };
        var heldOut = new Option<FileInfo?>("--held-out")
        {
            Description = "Second task file, of questions that are in no task of the first",
            HelpName = "FILE.jsonl",
        };
        var fraction = new Option<double>("--held-out-fraction")
        {
            Description = "Share of the questions for the second file",
            HelpName = "X",
            DefaultValueFactory = _ => DefaultHeldOut,
        };
        var command = new Command(
            "compose",
            $"""
            Compose tasks of several objectives from question files.

            A task is N consecutive questions of one file, as in the original (or shuffled, or mixed from all files). Questions left
            over at the end, fewer than N, are dropped and counted. A question mark is put at the end of a question that has none.

            Examples:
              ./mem1 data compose --tasks nq.jsonl,hotpotqa:hotpot_dev.json --objectives 2 --out two.jsonl
              ./mem1 data compose --tasks a.jsonl,b.jsonl --mix --objectives 8 --out train.jsonl --held-out test.jsonl
              ./mem1 train --corpus corpus.jsonl --tasks train.jsonl

            Formats: {string.Join(", ", DataSetFormats.Names)}.
            """)
        {
            tasks, objectives, mix, shuffle, seed, output, heldOut, fraction,
        };
        command.SetAction(parse =>
        {
            var held = parse.GetValue(heldOut);
            if (held is null && parse.GetResult(fraction) is { Implicit: false })
                throw new UserErrorException("--held-out-fraction needs --held-out FILE, where the held-out tasks go.");
            var options = new TaskComposition
            {
                Objectives = parse.GetValue(objectives),
                Mix = parse.GetValue(mix),
                Shuffle = parse.GetValue(shuffle),
                Seed = parse.GetValue(seed),
                HeldOutFraction = held is null ? 0 : parse.GetValue(fraction),
            };
            if (options.Validate() is [var problem, ..])
                throw new UserErrorException($"{char.ToUpperInvariant(problem[0])}{problem[1..]}.");
            if (held is not null && options.HeldOutFraction == 0)
                throw new UserErrorException("--held-out-fraction is 0, so --held-out would get nothing; leave --held-out out.");

            QuestionSource[] sources = [.. parse.GetValue(tasks)!.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(Source)];
            if (sources.Length == 0) throw new UserErrorException("--tasks names no file.");
            string[] paths =
                [.. sources.Select(s => s.Path), parse.GetValue(output)!.FullName, .. held is null ? (string[])[] : [held.FullName]];
            if (paths.Select(Path.GetFullPath).Distinct(StringComparer.Ordinal).Count() < paths.Length)
                throw new UserErrorException("--tasks, --out and --held-out must name different files.");

            var done = TaskComposer.Compose(sources, options, parse.GetValue(output)!.FullName, held?.FullName);
            var objectivesEach = $"{options.Objectives} objective{(options.Objectives == 1 ? "" : "s")}";
            Console.WriteLine($"{done.Training} tasks of {objectivesEach} -> {parse.GetValue(output)}");
            if (held is not null) Console.WriteLine($"{done.HeldOut} held-out tasks -> {held}");
            Console.WriteLine($"{done.Questions} questions read, {done.LeftOver} left over and dropped");
            if (done.WithSeparator > 0)
            {
                Console.WriteLine(
                    $"{done.WithSeparator} questions have a golden answer with \"{AnswerScorer.Separator}\" in it; it is scored as "
                    + "one answer, written with a comma or as it stands");
            }

            return 0;
        });
        return command;
    }

    private static QuestionSource Source(string text)
    {
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && DataSetFormats.Parse(text[..colon]) is { } format
            ? new QuestionSource(format, text[(colon + 1)..])
            : new QuestionSource(DataSetFormat.FlashRag, text);
    }
}
