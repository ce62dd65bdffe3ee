using System.CommandLine;
using Mem1.Environments.Data;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data</c>: files in, files out.</summary>
internal static class DataCommand
{
    public static Command Create()
    {
        var from = new Option<string>("--from") { Description = "Format of the input: squad (SQuAD v1.1 JSON)", Required = true, HelpName = "FORMAT" };
        from.AcceptOnlyFromAmong("squad");
        var input = new Option<FileInfo>("--input") { Description = "File to convert", Required = true, HelpName = "FILE.json" };
        var corpus = new Option<FileInfo>("--corpus") { Description = "Passages to write", Required = true, HelpName = "FILE.jsonl" };
        var tasks = new Option<FileInfo>("--tasks") { Description = "Questions to write", Required = true, HelpName = "FILE.jsonl" };
        var convert = new Command(
            "convert",
            """
            Convert a data set to the two files that mem1 train reads.

            Example:
              ./mem1 data convert --from squad --input xquad.en.json --corpus corpus.jsonl --tasks tasks.jsonl
              ./mem1 train --corpus corpus.jsonl --tasks tasks.jsonl
            """)
        {
            from, input, corpus, tasks,
        };
        convert.SetAction(parse =>
        {
            var done = SquadConverter.Convert(
                parse.GetValue(input)!.FullName, parse.GetValue(corpus)!.FullName, parse.GetValue(tasks)!.FullName);
            Console.WriteLine($"{done.Passages} passages -> {parse.GetValue(corpus)}");
            Console.WriteLine($"{done.Tasks} questions -> {parse.GetValue(tasks)}"
                + (done.Skipped > 0 ? $" ({done.Skipped} without an answer were left out)" : ""));
            return 0;
        });
        return new Command(
            "data",
            """
            Prepare corpora and tasks.

            Example:
              ./mem1 data convert --from squad --input xquad.en.json --corpus corpus.jsonl --tasks tasks.jsonl
            """)
        {
            convert,
        };
    }
}
