using System.CommandLine;
using Mem1.Environments.Data;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data</c>: files in, files out.</summary>
internal static class DataCommand
{
    public static Command Create()
    {
        var from = new Option<string>("--from")
        {
            Description = "Format of the input: flashrag or nq (JSON Lines), squad or hotpotqa (JSON)",
            Required = true,
            HelpName = "FORMAT",
        };
        from.AcceptOnlyFromAmong([.. DataSetFormats.Names]);
        var input = new Option<FileInfo>("--input")
        {
            Description = "File to convert; gzip is read as it is",
            Required = true,
            HelpName = "FILE",
        };
        var corpus = new Option<FileInfo?>("--corpus")
        {
            Description = "Passages to write (squad and hotpotqa bring them)",
            HelpName = "FILE.jsonl",
        };
        var tasks = new Option<FileInfo>("--tasks") { Description = "Questions to write", Required = true, HelpName = "FILE.jsonl" };
        var convert = new Command(
            "convert",
            """
            Convert a data set to the files that mem1 train reads.

            Examples:
              ./mem1 data convert --from squad --input xquad.en.json --corpus corpus.jsonl --tasks tasks.jsonl
              ./mem1 data convert --from nq --input NQ-open.dev.jsonl --tasks tasks.jsonl
              ./mem1 train --corpus corpus.jsonl --tasks tasks.jsonl
            """)
        {
            from, input, corpus, tasks,
        };
        convert.SetAction(parse =>
        {
            var format = DataSetFormats.Parse(parse.GetValue(from)!)!.Value;
            if (parse.GetValue(corpus) is not null && !format.HasPassages())
                throw new UserErrorException($"The format {format.Name()} has no passages, so --corpus does not go with it.");
            string?[] files = [parse.GetValue(input)!.FullName, parse.GetValue(corpus)?.FullName, parse.GetValue(tasks)!.FullName];
            if (files.OfType<string>().Distinct(StringComparer.Ordinal).Count() < files.OfType<string>().Count())
                throw new UserErrorException("--input, --corpus and --tasks must name different files.");
            var done = DataSetConverter.Convert(format, files[0]!, files[1], files[2]!);
            if (parse.GetValue(corpus) is not null) Console.WriteLine($"{done.Passages} passages -> {parse.GetValue(corpus)}");
            Console.WriteLine($"{done.Tasks} questions -> {parse.GetValue(tasks)}"
                + (done.Skipped > 0 ? $" ({done.Skipped} without an answer were left out)" : ""));
            return 0;
        });
        return new Command(
            "data",
            """
            Prepare corpora and tasks.

            Examples:
              ./mem1 data convert --from squad --input xquad.en.json --corpus corpus.jsonl --tasks tasks.jsonl
              ./mem1 data index --corpus corpus.jsonl --out corpus.index
              ./mem1 data search corpus.index "who designed the stadium?"
              ./mem1 data compose --tasks tasks.jsonl --objectives 2 --out two.jsonl
              ./mem1 data score --tasks two.jsonl --answers answers.jsonl
              ./mem1 data distil --trajectories runs/default/trajectories.jsonl --all-correct --out good.jsonl
            """)
        {
            convert, IndexCommands.Index(), IndexCommands.Search(), ComposeCommand.Create(), ScoreCommand.Create(),
            DistilCommand.Create(),
        };
    }
}
