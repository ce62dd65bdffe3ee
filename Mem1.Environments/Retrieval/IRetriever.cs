namespace Mem1.Environments.Retrieval;

/// <summary>One passage of a corpus.</summary>
/// <param name="Id">Identifier in the corpus.</param>
/// <param name="Contents">The title on the first line, then the text.</param>
public sealed record Passage(string Id, string Contents)
{
    /// <summary>The first line, without the line break; its quotation marks, if any, are part of it.</summary>
    public string Title => Contents.IndexOf('\n') is >= 0 and var end ? Contents[..end] : Contents;

    /// <summary>What follows the first line.</summary>
    public string Text => Contents.IndexOf('\n') is >= 0 and var end ? Contents[(end + 1)..] : "";
}

/// <summary>A passage that a search found.</summary>
/// <param name="Passage">The passage.</param>
/// <param name="Score">The higher, the better; comparable within one result only.</param>
public sealed record SearchHit(Passage Passage, double Score);

/// <summary>A corpus that can be searched on this machine. Thread-safe.</summary>
public interface ISearchIndex : IDisposable
{
    /// <summary>Passages in the corpus.</summary>
    long Count { get; }

    /// <summary>The best passages for a query, best first, ties in corpus order. Any text is a valid query.</summary>
    /// <param name="query">Text of a user or a model.</param>
    /// <param name="k">Most passages to return; at least 1.</param>
    /// <param name="cancellationToken">Interrupts a running search.</param>
    IReadOnlyList<SearchHit> Search(string query, int k, CancellationToken cancellationToken = default);
}

/// <summary>Where an environment's searches go: an index of this process, or a service. Thread-safe.</summary>
public interface IRetriever
{
    /// <summary>The best passages for a query, best first. Failures throw; the environment turns them into observations.</summary>
    /// <param name="query">Text of a model; never blank.</param>
    /// <param name="k">Most passages to return; at least 1.</param>
    /// <param name="cancellationToken">Cancelled when the caller gives up or its time limit has passed.</param>
    ValueTask<IReadOnlyList<SearchHit>> RetrieveAsync(string query, int k, CancellationToken cancellationToken);
}

/// <summary>Searches an index of this process on the calling thread, so that the order of results is that of the calls.</summary>
/// <param name="index">The index; not disposed by this.</param>
public sealed class IndexRetriever(ISearchIndex index) : IRetriever
{
    /// <inheritdoc/>
    public ValueTask<IReadOnlyList<SearchHit>> RetrieveAsync(string query, int k, CancellationToken cancellationToken) =>
        ValueTask.FromResult(index.Search(query, k, cancellationToken));
}
