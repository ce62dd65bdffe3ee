using Mem1.Environments.Retrieval;
using Mem1.Environments.Web;
using Mem1.Tests;

namespace Mem1.Environments.Tests.Retrieval;

/// <summary>Indexes and recordings are files that people pass on: damaged ones end in the typed exception, and never in a crash or a hang.</summary>
public sealed class DamagedIndexTests : IDisposable
{
    private readonly DirectoryInfo _folder = new(Damage.Folder());

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void An_index()
    {
        string corpus = Path.Combine(_folder.FullName, "c.jsonl"), path = Path.Combine(_folder.FullName, "c.index");
        File.WriteAllLines(corpus, Enumerable.Range(0, 300).Select(i =>
            $$"""{"id": "{{i}}", "contents": "\"Town {{i}}\"\nTown {{i}} lies by river {{i % 7}} and has the mayor {{i % 13}}."}"""));
        CorpusIndex.OpenOrBuild(corpus, path).Dispose();
        byte[] sound = File.ReadAllBytes(path);
        Damage.Survives<DataFormatException>(sound, 700, bytes =>
        {
            File.WriteAllBytes(path, bytes);
            using CorpusIndex index = CorpusIndex.Open(path);
            index.Search("river mayor 5 town", 4, Token);
            index.Filter("river AND mayor", 4, Token);
        });
    }

    [Fact]
    public void Postings_that_contradict_the_corpus()
    {
        // The database is whole; what we wrote into it is not.
        string corpus = Path.Combine(_folder.FullName, "c.jsonl"), path = Path.Combine(_folder.FullName, "c.index");
        File.WriteAllText(corpus, """{"id": "0", "contents": "\"Oslo\"\nOslo lies by a fjord."}""" + "\n");
        CorpusIndex.OpenOrBuild(corpus, path).Dispose();
        byte[] sound = File.ReadAllBytes(path);
        foreach (string change in (string[])[
            "UPDATE terms SET windows = x'FFFFFFFF0F000A'", "UPDATE terms SET windows = x'00'", "UPDATE terms SET windows = x'00FFFFFFFF0FFF'",
            "UPDATE terms SET postings = x'00'", "UPDATE terms SET postings = x''", "UPDATE terms SET windows = 'text'",
            "UPDATE terms SET passages = 9000000000", "UPDATE lengths SET codes = x''", "UPDATE lengths SET codes = 5", "DELETE FROM lengths",
            "DELETE FROM documents", "DELETE FROM meta WHERE key = 'terms'",
            "UPDATE meta SET value = 'many' WHERE key = 'documents'", "UPDATE meta SET value = '-1' WHERE key = 'documents'",
        ])
        {
            File.WriteAllBytes(path, sound);
            using (var connection = new Microsoft.Data.Sqlite.SqliteConnection($"Data Source={path};Pooling=False"))
            {
                connection.Open();
                using Microsoft.Data.Sqlite.SqliteCommand command = connection.CreateCommand();
                command.CommandText = change;
                command.ExecuteNonQuery();
            }

            var refusal = Record.Exception(() =>
            {
                using CorpusIndex index = CorpusIndex.Open(path);
                index.Search("oslo fjord", 4, Token);
            });
            if (refusal is not null) Assert.True(refusal is DataFormatException, $"{change}: {refusal}");
        }
    }

    [Fact]
    public async Task A_recording()
    {
        string path = Path.Combine(_folder.FullName, "web.db");
        var results = new WebResult[] { new("A", "a", "http://a/"), new("B", "b", "http://b/") };
        using (WebRecording recording = WebRecording.Open(path, RecordingMode.Record))
        {
            ISearchProvider search = recording.Around(new Fixed(results));
            for (int i = 0; i < 20; i++) await search.SearchAsync($"query {i}", 2, Token);
        }

        byte[] sound = File.ReadAllBytes(path);
        Damage.Survives<DataFormatException>(sound, 700, bytes =>
        {
            File.WriteAllBytes(path, bytes);
            using WebRecording recording = WebRecording.Open(path, RecordingMode.ReplayOnly);
            ISearchProvider search = recording.Around(new Fixed([]));
            for (int i = 0; i < 20; i += 6)
            {
                try
                {
                    Assert.DoesNotContain(search.SearchAsync($"query {i}", 2, Token).GetAwaiter().GetResult(), r => r is null);
                }
                catch (WebAccessException)
                {
                    // What the agent is told.
                }
            }
        });
    }

    private sealed class Fixed(WebResult[] results) : ISearchProvider
    {
        public string Name => "fixed";

        public Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken) =>
            Task.FromResult<IReadOnlyList<WebResult>>(results);
    }
}
