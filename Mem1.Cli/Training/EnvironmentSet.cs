using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Tasks;
using Mem1.Environments.Worlds;
using Mem1.Model;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Training;

/// <summary>What a run needs of its environment: episodes, tasks to train and to evaluate on, the expert, and a tokenizer for a new
/// model.</summary>
internal sealed class EnvironmentSet : IDisposable
{
    // Enough repetitions for the fixed wording of prompts to be merged whole.
    private const int PromptsForTokenizer = 200;

    private readonly IDisposable? _index;

    private EnvironmentSet(
        IEnvironmentFactory factory, ITaskSource training, ITaskSource heldOut, IExpert expert, Func<ITokenizer> newTokenizer,
        Func<int, int>? responseLimit, IDisposable? index)
    {
        (Factory, Training, HeldOut, Expert, NewTokenizer, ResponseLimit, _index) =
            (factory, training, heldOut, expert, newTokenizer, responseLimit, index);
    }

    public IEnvironmentFactory Factory { get; }

    public ITaskSource Training { get; }

    public ITaskSource HeldOut { get; }

    public IExpert Expert { get; }

    /// <summary>Makes the tokenizer of a new model; may read the whole corpus.</summary>
    public Func<ITokenizer> NewTokenizer { get; }

    /// <summary>The environment's own limit of one response in tokens, by number of objectives, if it has one.</summary>
    public Func<int, int>? ResponseLimit { get; }

    /// <summary>Opens the environment a config asks for.</summary>
    /// <param name="config">Validated.</param>
    /// <param name="progress">Told of index building: share done in [0, 1] and a few words.</param>
    /// <param name="cancellationToken">Stops building.</param>
    public static EnvironmentSet Open(RunConfig config, Action<double, string> progress, CancellationToken cancellationToken)
    {
        var e = config.Environment;
        if (e.Kind == EnvironmentKind.Worlds)
        {
            var source = new WorldsTaskSource(e.Worlds);
            return new EnvironmentSet(
                new WorldsEnvironmentFactory(e.Worlds), source, source, new WorldsExpert(e.WorldsExpert),
                () => new WordLevelTokenizer(WorldsVocabulary.Words), WorldsOptions.MaxResponseTokens, index: null);
        }

        var tasks = TaskFile.Load(e.Tasks!);
        var remote = e.Retriever.Url is null ? null : new RemoteRetriever(e.Retriever);
        var index = remote is null ? OpenIndex(e, progress, cancellationToken) : null;
        IRetriever retriever = remote is null ? new IndexRetriever(index!) : remote;
        var factory = new RetrievalQaFactory(retriever, e.Retrieval);
        var training = tasks.Source("train", TaskSplit.Train, e.HeldOutFraction);
        return new EnvironmentSet(
            factory,
            training,
            tasks.Source("held-out", e.HeldOutFraction > 0 ? TaskSplit.HeldOut : TaskSplit.All, e.HeldOutFraction),
            new RetrievalQaExpert(e.Retrieval, e.RetrievalExpert),
            () => CorpusTokenizer.Train(
                Passages(index, e, progress, cancellationToken), tasks,
                Enumerable.Range(0, PromptsForTokenizer).Select(i => factory.Create(training.Get(i, e.MaxObjectives, 0), 0).Prompt),
                config.Model.VocabularySize),
            responseLimit: null, index ?? (IDisposable?)remote);
    }

    private static CorpusIndex OpenIndex(EnvironmentConfig e, Action<double, string> progress, CancellationToken cancellationToken) =>
        string.IsNullOrEmpty(e.Corpus)
            ? CorpusIndex.Open(e.Index!)
            : CorpusIndex.OpenOrBuild(
                e.Corpus,
                string.IsNullOrEmpty(e.Index) ? null : e.Index,
                new Inline<IndexProgress>(p =>
                    progress(p.TotalBytes == 0 ? 1 : (double)p.BytesRead / p.TotalBytes, $"{p.Documents:N0} passages")),
                cancellationToken);

    /// <summary>The corpus for a new tokenizer. With a search service there may be none; a byte-level vocabulary then knows the tasks' words.</summary>
    private static IEnumerable<string> Passages(
        CorpusIndex? open, EnvironmentConfig e, Action<double, string> progress, CancellationToken cancellationToken)
    {
        if (open is null && string.IsNullOrEmpty(e.Corpus)) yield break;
        using var own = open is null ? OpenIndex(e, progress, cancellationToken) : null;
        foreach (var passage in (open ?? own)!.Passages()) yield return passage.Contents;
    }

    public void Dispose() => _index?.Dispose();

    /// <summary>Reports on the calling thread, unlike <see cref="Progress{T}"/>.</summary>
    private sealed class Inline<T>(Action<T> report) : IProgress<T>
    {
        public void Report(T value) => report(value);
    }
}
