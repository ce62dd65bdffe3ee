using System.Net;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Environments.Tasks;
using Mem1.Environments.Web;

namespace Mem1.Cli.Training;

/// <summary>Web QA for a run: the search service, the page reader and the recording around both, or the local web.</summary>
internal sealed class WebSet : IDisposable
{
    private readonly List<IDisposable> _open = [];

    private WebSet()
    {
    }

    /// <summary>Opens it.</summary>
    /// <param name="environment">Validated, of kind web.</param>
    /// <param name="seed">Seed of the run, and so of the local web.</param>
    public static EnvironmentSet Open(EnvironmentConfig environment, ulong seed)
    {
        var owned = new WebSet();
        try
        {
            return owned.OpenSet(environment, seed);
        }
        catch
        {
            owned.Dispose();
            throw;
        }
    }

    /// <summary>Closes what was opened, last first.</summary>
    public void Dispose()
    {
        for (var i = _open.Count - 1; i >= 0; i--) _open[i].Dispose();
        _open.Clear();
    }

    private EnvironmentSet OpenSet(EnvironmentConfig e, ulong seed)
    {
        var web = e.Web;
        var local = web.Provider == WebProvider.Local ? LocalWeb.Generate(web.ToLocal(seed)) : null;
        var recording = Own(WebRecording.Open(web.Recording, web.RecordingMode));
        // What is only replayed has no server and no client behind it, and so no socket.
        (ISearchProvider search, IPageReader? pages) = web.RecordingMode == RecordingMode.ReplayOnly
            ? (new OfflineWeb(), new OfflineWeb()) : GoingOut(web, local);
        search = recording.Around(search, web.SearchSource(seed));
        pages = web.OpenPages ? recording.Around(pages, web.PageSource(seed)) : null;
        var options = web.ToOptions();
        var factory = new WebQaFactory(search, pages, options);

        ITaskSource training, heldOut;
        IEnumerable<Objective> questions;
        if (local is not null)
        {
            questions = local.Questions(heldOut: false, heldOutFraction: 0);
            training = new CompositeTaskSource("train", local.Questions(heldOut: false, e.HeldOutFraction));
            heldOut = new CompositeTaskSource("held-out", local.Questions(heldOut: true, e.HeldOutFraction));
        }
        else
        {
            var tasks = TaskFile.Load(e.Tasks!);
            questions = tasks.Objectives;
            training = tasks.Source("train", TaskSplit.Train, e.HeldOutFraction);
            heldOut = tasks.Source("held-out", e.HeldOutFraction > 0 ? TaskSplit.HeldOut : TaskSplit.All, e.HeldOutFraction);
        }

        return new EnvironmentSet
        {
            Factory = factory,
            Training = training,
            HeldOut = heldOut,
            Expert = new WebQaExpert(options, e.RetrievalExpert),
            Learnt = (
                // An entry of the expert's memory, too: what joins question and answer becomes a token of its own.
                () => questions.SelectMany(q => q.GoldenAnswers.Select(a => $"{q.Question}: {a}\n"))
                    .Concat(local?.Pages.Select(p => $"{p.Title}\n{p.Description}\nURL: http://{LocalWeb.Host}{p.Path}\n{p.Details}") ?? []),
                web.OpenPages ? CorpusTokenizer.TagsWithOpen : CorpusTokenizer.Tags),
            Owned = [this],
        };
    }

    private (ISearchProvider Search, IPageReader Pages) GoingOut(WebSection web, LocalWeb? local)
    {
        IReadOnlyDictionary<string, IPEndPoint> hosts = new Dictionary<string, IPEndPoint>();
        if (local is not null)
        {
            var server = LocalWebServer.StartAsync(local).GetAwaiter().GetResult();
            Own(new Stop(server));
            hosts = server.HostOverrides;
        }

        return (Provider(web, Own(WebClients.ForSearch(hosts))), Own(new PageReader(web.ToPages(hosts))));
    }

    private static SearchProvider Provider(WebSection web, HttpClient client)
    {
        var endpoint = string.IsNullOrEmpty(web.Endpoint) ? null : new Uri(web.Endpoint);
        var requests = WebRequestOptions.From(web.Qa);
        ApiKey? key = null;
        if (web.KeyName is { } variable) key = ApiKey.Read(variable, out var problem) ?? throw new UserErrorException(problem!);

        return web.Provider switch
        {
            WebProvider.Local => SearchProvider.Searxng(client, LocalWebServer.SearchAddress, options: requests),
            WebProvider.Serper => SearchProvider.Serper(client, key, endpoint, requests),
            WebProvider.Google => SearchProvider.Google(client, key, web.Engine!, endpoint, requests),
            WebProvider.Brave => SearchProvider.Brave(client, key, endpoint, requests),
            _ => SearchProvider.Searxng(client, endpoint, key, requests),
        };
    }

    private T Own<T>(T opened)
        where T : IDisposable
    {
        _open.Add(opened);
        return opened;
    }

    /// <summary>Stops the server when everything else is closed.</summary>
    private sealed class Stop(LocalWebServer server) : IDisposable
    {
        public void Dispose() => server.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }
}
