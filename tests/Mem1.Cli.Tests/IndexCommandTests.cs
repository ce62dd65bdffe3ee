using System.IO.Compression;
using System.Text;
using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class IndexCommandTests
{
    private const string Corpus = """
        {"id": "0", "contents": "\"Paris\"\nParis is the capital of France."}
        {"id": "1", "contents": "\"Oslo\"\nOslo is the capital of Norway."}

        """;

    [Fact]
    public void BuildsOnceSaysWhatItDidAndSearches()
    {
        using var folder = new TempFolder();
        using (var zip = new GZipStream(File.Create(folder["c.jsonl.gz"]), CompressionLevel.Fastest)) zip.Write(Encoding.UTF8.GetBytes(Corpus));
        string[] arguments = ["data", "index", "--corpus", folder["c.jsonl.gz"], "--out", folder["i"]];
        var first = Cli.Run(arguments).Succeeded();
        Assert.StartsWith($"2 passages -> {folder["i"]}: built in ", first.Out);
        Assert.DoesNotContain("unfinished", first.Out);
        Assert.Contains("already current, nothing was done", Cli.Run(arguments).Succeeded().Out);

        File.Delete(folder["i"]);
        File.WriteAllText(folder["i.building"], "half"); // what a killed build leaves
        Assert.Contains("started from the beginning", Cli.Run(arguments).Succeeded().Out);
        Assert.False(File.Exists(folder["i.building"]));

        var json = Cli.Run("data", "search", folder["i"], "Norway's capital?", "-k", "1", "--json").Succeeded();
        Assert.Equal("1", JsonDocument.Parse(Assert.Single(json.OutLines)).RootElement.GetProperty("id").GetString());
        Assert.Contains("0: \"Paris\"", Cli.Run("data", "search", folder["i"], "\"capital of France\"", "--match").Succeeded().Out);
    }

    [Fact]
    public void RefusalsNameTheFileAndWhatToDo()
    {
        using var folder = new TempFolder();
        Refusals.Refused(["data", "search", folder["no"], "x"], folder["no"], "mem1 data index");
        Refusals.Refused(["data", "search", folder.Write("notes", "my notes"), "x"], folder["notes"], "not a search index");
        Refusals.Refused(["data", "search", folder["no"], "x", "-k", "0"], "-k is 0");
        Refusals.Refused(["data", "index", "--corpus", folder.Write("twice", Corpus + "\n" + Corpus), "--out", folder["i"]], "line 4, field id", "line 1");
        Refusals.Refused(["retriever", "--index", folder["no"]], folder["no"]);
        Refusals.Refused(["retriever", "--index", folder["no"], "--port", "70000"], "--port is 70000");
        Assert.False(File.Exists(folder["i"]));
    }
}
