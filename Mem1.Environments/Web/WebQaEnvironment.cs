// Invariants: nothing the web says can open or close a block of the format; a failed search or page becomes an observation and is counted,
// and never an exception; the same results always make the same observation.

using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Web;

/// <summary>
/// Makes episodes of multi-objective question answering over the web: retrieval QA whose searches bring titles, snippets and addresses,
/// and, if the options allow it, &lt;open> to read a page. Thread-safe.
/// </summary>
public sealed class WebQaFactory : IEnvironmentFactory
{
    private readonly WebQaOptions _options;
    private readonly WebLookup _lookup;

    /// <summary>Makes the factory.</summary>
    /// <param name="search">Where searches go; not disposed by this.</param>
    /// <param name="pages">Reads pages; may be null when the options do not allow to open any.</param>
    /// <param name="options">How episodes run.</param>
    /// <param name="failed">Told of every failure, with the query or address, from any thread: for the log.</param>
    /// <param name="time">Clock of the time limit; null for the system's.</param>
    /// <exception cref="ArgumentException">The options contradict themselves, or pages are to be opened and nothing reads them.</exception>
    public WebQaFactory(
        ISearchProvider search, IPageReader? pages, WebQaOptions options, Action<string, Exception>? failed = null,
        TimeProvider? time = null)
    {
        Checks.Demand(options.Validate(), nameof(options));
        if (options.OpenPages && pages is null)
            throw new ArgumentException("Pages are to be opened but there is no page reader.", nameof(pages));
        _options = options;
        _lookup = new WebLookup(search, options.OpenPages ? pages : null, options, failed, time ?? TimeProvider.System);
        StopStrings = options.OpenPages
            ? [AgentText.SearchEnd, AgentText.AnswerEnd, AgentText.OpenEnd] : [AgentText.SearchEnd, AgentText.AnswerEnd];
    }

    /// <inheritdoc/>
    public string Name => "web-qa";

    /// <inheritdoc/>
    public IReadOnlyList<string> StopStrings { get; }

    /// <inheritdoc/>
    public string InternalStateEnd => AgentText.ThinkEnd;

    /// <inheritdoc/>
    public string? RightAction(EnvironmentTask task) => AgentText.RightAnswer(task);

    /// <inheritdoc/>
    public string ObservationEnd => AgentText.InformationEnd;

    /// <inheritdoc/>
    public IEnvironment Create(EnvironmentTask task, ulong seed) => new QaEpisode(
        task, _options.Qa, QaPrompt.For(task, _options.Qa, "the web", _options.OpenPages), _lookup);
}

/// <summary>Searches the web and opens pages. Thread-safe.</summary>
internal sealed class WebLookup(
    ISearchProvider search, IPageReader? pages, WebQaOptions options, Action<string, Exception>? failed, TimeProvider time) : IQaLookup
{
    private const string NoTitle = "No title.";
    private const string NoSnippet = "No snippet available.";

    public bool AllowsOpen => pages is not null;

    public ValueTask<(string Body, bool Failed)> LookUpAsync(AgentAction action, CancellationToken cancellationToken) =>
        action.IsOpen ? OpenAsync(action.Content, cancellationToken) : SearchAsync(action.Content, cancellationToken);

    /// <summary>A result as a passage: title in quotation marks, snippet, address.</summary>
    internal static Passage Document(WebResult result)
    {
        string title = result.Title.Length > 0 ? result.Title : NoTitle;
        string snippet = result.Snippet.Length > 0 ? result.Snippet : NoSnippet;
        return new Passage(result.Url, $"\"{title}\"\n{snippet}{(result.Url.Length > 0 ? $"\nURL: {result.Url}" : "")}");
    }

    private async ValueTask<(string Body, bool Failed)> SearchAsync(string query, CancellationToken cancellationToken)
    {
        if (!query.Any(c => !char.IsWhiteSpace(c) && !char.IsControl(c)))
            return (CorpusLookup.EmptyQuery, false);
        int count = options.Qa.Documents;
        (IReadOnlyList<WebResult>? results, _) = await TryAsync(
            query, cancel => search.SearchAsync(query, count, cancel), cancellationToken);
        if (results is null)
            return (CorpusLookup.SearchFailed, true);
        return results.Count == 0
            ? ("No page matches this query. Try other keywords.", false)
            : (AgentText.Documents([.. results.Take(count).Select(Document)]), false);
    }

    private async ValueTask<(string Body, bool Failed)> OpenAsync(string url, CancellationToken cancellationToken)
    {
        if (url.Length == 0)
            return ("The address was empty. Write the URL of a page between the open tags.", false);
        (WebPage? page, Exception? fault) = await TryAsync(url, cancel => pages!.ReadAsync(url, cancel), cancellationToken);
        if (page is null)
        {
            var failure = fault as WebAccessException;
            string clause = failure?.Clause ?? "reading it failed";
            // An address that is none is the agent's mistake and not the web's.
            return ($"The page could not be opened: {clause}. Search, or open another page.", failure?.Failure != WebFailure.BadAddress);
        }
        string text = AgentText.Neutralize(Cut(page.Text, options.PageCharacters));
        string title = AgentText.Neutralize(page.Title.Length > 0 ? page.Title : NoTitle);
        return ($"Page(Title: \"{title}\") {(text.Length > 0 ? text : "The page holds no text.")}\n", false);
    }

    /// <summary>A value, or null when it failed in any way but the caller's cancellation.</summary>
    private async ValueTask<(T? Value, Exception? Fault)> TryAsync<T>(
        string what, Func<CancellationToken, Task<T>> act, CancellationToken cancellationToken)
        where T : class
    {
        using var late = new CancellationTokenSource(options.ActionTimeout, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, late.Token);
        try
        {
            // A provider that ignores its token must not hold up the episode; what it returns late is dropped.
            return (await act(either.Token).WaitAsync(either.Token), null);
        }
        catch (Exception e)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Exception fault = late.IsCancellationRequested
                ? new WebAccessException(
                    WebFailure.Timeout, $"There was no answer within {options.ActionTimeout.TotalSeconds:0.#} s.", inner: e)
                : e;
            failed?.Invoke(what, fault);
            return (null, fault);
        }
    }

    /// <summary>The beginning of a text, cut at the end of a word and marked as cut.</summary>
    private static string Cut(string text, int most)
    {
        if (text.Length <= most)
            return text;
        int end = text.LastIndexOfAny([' ', '\n'], most);
        // A text without white space is cut anywhere, but not within a character.
        if (end <= 0)
            end = char.IsHighSurrogate(text[most - 1]) ? most - 1 : most;
        return new StringBuilder(text, 0, end, end + 4).Append(" ...").ToString();
    }
}
