using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Tasks;
using Mem1.Environments.Worlds;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Training;

/// <summary>What a run needs of its environment: episodes, tasks to train and to evaluate on, the expert, and a tokenizer for a new
/// model.</summary>
internal sealed class EnvironmentSet : IDisposable
{
    // Keeps held-out tasks apart from those of training (TrainRun has 1 and 3 to 5).
    private const ulong HeldOutTasks = 2;

    // Enough repetitions for the fixed wording of prompts to be merged whole.
    private const int PromptsForTokenizer = 200;

    public required IEnvironmentFactory Factory { get; init; }

    public required ITaskSource Training { get; init; }

    public required ITaskSource HeldOut { get; init; }

    /// <summary>The scripted player; null when the environment has none.</summary>
    public required IExpert? Expert { get; init; }

    /// <summary>Makes the tokenizer of a new model; may read the whole corpus.</summary>
    public Func<ITokenizer> NewTokenizer { get; private set; } = () => new WordLevelTokenizer(WorldsVocabulary.Words);

    /// <summary>The environment's own limit of one response in tokens, by number of objectives, if it has one.</summary>
    public Func<int, int>? ResponseLimit { get; init; }

    /// <summary>A sentence on what became of the searches so far, if there is something to say.</summary>
    public Func<string?> SearchNote { get; init; } = () => null;

    /// <summary>Texts and tags from which a byte-level tokenizer is learnt; null for the worlds, which have words of their own.</summary>
    public (Func<IEnumerable<string>> Texts, IReadOnlyList<string> Tags)? Learnt { get; init; }

    /// <summary>What is closed with this, first to last.</summary>
    public IReadOnlyList<IDisposable> Owned { get; init; } = [];

    /// <summary>An evaluation's task and the seed of its episode: the same for mem1 train and mem1 eval.</summary>
    /// <param name="seed">Of the run or the evaluation.</param>
    /// <param name="objectives">How many.</param>
    /// <param name="index">From 0.</param>
    public (EnvironmentTask Task, ulong Seed) HeldOutTask(ulong seed, int objectives, int index) => (
        HeldOut.Get(index, objectives, Seeds.Mix(seed, HeldOutTasks, (ulong)objectives)),
        Seeds.Mix(seed, HeldOutTasks, (ulong)objectives, (ulong)index));

    /// <summary>The limit of one response in tokens.</summary>
    public int ResponseTokens(RolloutConfig rollout, int objectives) =>
        rollout.MaxNewTokens > 0 ? rollout.MaxNewTokens
        : ResponseLimit?.Invoke(objectives) ?? 64 + (32 * objectives); // a memory entry and an answer of some words each

    /// <summary>Opens the environment a config asks for.</summary>
    /// <param name="config">Validated.</param>
    /// <param name="progress">Told of index building: share done in [0, 1] and a few words.</param>
    /// <param name="cancellationToken">Stops building.</param>
    /// <exception cref="UserErrorException">The environment cannot be had, or has no tasks of a number of objectives that is asked for.</exception>
    public static EnvironmentSet Open(RunConfig config, Action<double, string> progress, CancellationToken cancellationToken)
    {
        var e = config.Environment;
        var set = e.Kind == EnvironmentKind.Mix ? OpenMix(e, config.Seed, progress, cancellationToken)
            : OpenOne(e, config.Seed, progress, cancellationToken);
        try
        {
            RequireObjectives(config, set);
        }
        catch
        {
            set.Dispose();
            throw;
        }

        if (set.Learnt is not ({ } texts, { } tags)) return set;
        set.NewTokenizer = () =>
        {
            var objectives = set.Training.ObjectiveCounts?[^1] ?? e.MostObjectives();
            var prompts = Enumerable.Range(0, PromptsForTokenizer).Select(i => set.Factory.Create(set.Training.Get(i, objectives, 0), 0).Prompt);
            return BpeTrainer.Train(prompts.Concat(texts()), config.Model.VocabularySize, [.. tags]);
        };
        return set;
    }

    private static EnvironmentSet OpenOne(
        EnvironmentConfig e, ulong seed, Action<double, string> progress, CancellationToken cancellationToken) => e.Kind switch
        {
            EnvironmentKind.Worlds => OpenWorlds(e),
            EnvironmentKind.Retrieval => OpenRetrieval(e, progress, cancellationToken),
            EnvironmentKind.Web => WebSet.Open(e, seed),
            EnvironmentKind.Webshop => ShopSet.Open(e, progress, cancellationToken),
            EnvironmentKind.Assembly => OpenAssembly(e),
            _ => throw new ArgumentOutOfRangeException(nameof(e), e.Kind, "This kind does not stand alone."),
        };

    private static EnvironmentSet OpenWorlds(EnvironmentConfig e)
    {
        var source = new WorldsTaskSource(e.Worlds);
        return new EnvironmentSet
        {
            Factory = new WorldsEnvironmentFactory(e.Worlds),
            Training = source,
            HeldOut = source,
            Expert = new WorldsExpert(e.WorldsExpert),
            ResponseLimit = WorldsOptions.MaxResponseTokens,
        };
    }

    private static EnvironmentSet OpenRetrieval(EnvironmentConfig e, Action<double, string> progress, CancellationToken cancellationToken)
    {
        var tasks = TaskFile.Load(e.Tasks!);
        var remote = e.Retriever.Url is null ? null : new RemoteRetriever(
            e.Retriever, authorization: TokenArgument.Of(e.Retriever.TokenFile, RetrieverCommand.TokenVariable)?.Header);
        var index = remote is null ? OpenIndex(e, progress, cancellationToken) : null;
        ITaskSource training, heldOut;
        try
        {
            training = tasks.Source("train", TaskSplit.Train, e.HeldOutFraction);
            heldOut = tasks.Source("held-out", e.HeldOutFraction > 0 ? TaskSplit.HeldOut : TaskSplit.All, e.HeldOutFraction);
        }
        catch
        {
            index?.Dispose();
            remote?.Dispose();
            throw;
        }

        IRetriever retriever = remote is null ? new IndexRetriever(index!) : remote;
        var searches = new SearchLog(e.Retriever.Url ?? "the index", remote is null ? null : () => remote.CacheHits);
        return new EnvironmentSet
        {
            Factory = new RetrievalQaFactory(retriever, e.Retrieval, searches.Failed),
            Training = training,
            HeldOut = heldOut,
            SearchNote = searches.Sentence,
            Expert = new RetrievalQaExpert(e.Retrieval, e.RetrievalExpert),
            Learnt = (() => CorpusTokenizer.Texts(Passages(index, e, progress, cancellationToken), tasks), CorpusTokenizer.Tags),
            Owned = [index ?? (IDisposable)remote!],
        };
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

    private static EnvironmentSet OpenAssembly(EnvironmentConfig e)
    {
        var module = EnvironmentAssembly.Load(e.Assembly!);
        // Every closing tag that the environment names, and the tag that it closes, is one token.
        var factory = module.Factory;
        string[] closing = [.. factory.StopStrings, factory.InternalStateEnd, factory.ObservationEnd];
        string[] tags = [.. closing.Concat(closing.Where(t => t.StartsWith("</", StringComparison.Ordinal)).Select(t => "<" + t[2..])).Distinct()];
        return new EnvironmentSet
        {
            Factory = factory,
            Training = module.Training,
            HeldOut = module.HeldOut,
            Expert = module.Expert,
            Learnt = (() => module.Texts, tags),
            Owned = module is IDisposable open ? [open] : [],
        };
    }

    private static EnvironmentSet OpenMix(
        EnvironmentConfig e, ulong seed, Action<double, string> progress, CancellationToken cancellationToken)
    {
        var sets = new List<EnvironmentSet>();
        try
        {
            foreach (var part in e.Mix) sets.Add(OpenOne(part, seed, progress, cancellationToken));
            MixPart[] parts = [.. sets.Zip(e.Mix, (set, part) => (set, part.Share)).Select((p, i) =>
                new MixPart($"{i + 1}-{p.set.Factory.Name}", p.Share, p.set.Factory, p.set.Training, p.set.HeldOut, p.set.Expert))];
            if (EnvironmentMix.Problem(parts) is { } problem) throw new UserErrorException($"environment.mix: {problem}.");
            var mix = new EnvironmentMix(parts);
            return new EnvironmentSet
            {
                Factory = mix.Factory,
                Training = mix.Training,
                HeldOut = mix.HeldOut,
                Expert = mix.Expert,
                // The validated config has worlds alone or not at all.
                ResponseLimit = sets[0].ResponseLimit,
                SearchNote = () => sets.Select(s => s.SearchNote()).OfType<string>().ToArray() is { Length: > 0 } notes
                    ? string.Join(' ', notes)
                    : null,
                Learnt = sets[0].Learnt is null
                    ? null
                    : (() => sets.SelectMany(s => s.Learnt!.Value.Texts()), [.. sets.SelectMany(s => s.Learnt!.Value.Tags).Distinct()]),
                Owned = [.. sets],
            };
        }
        catch
        {
            foreach (var set in sets) set.Dispose();
            throw;
        }
    }

    /// <summary>Finds out before the run whether there are tasks of every number of objectives that it will ask for.</summary>
    private static void RequireObjectives(RunConfig config, EnvironmentSet set)
    {
        if (set.Training.ObjectiveCounts is { } training)
        {
            foreach (var (min, max) in config.Environment.Stages())
            {
                if (training.Any(n => n >= min && n <= max)) continue;
                throw new UserErrorException(
                    $"a task of {min} to {max} objectives is asked for, but the training tasks have {string.Join(", ", training)}; "
                    + "set environment.min_objectives and environment.max_objectives (or environment.curriculum) to that.");
            }
        }

        if (config.Evaluation.Episodes > 0 && set.HeldOut.ObjectiveCounts is { } heldOut
            && config.Evaluation.Objectives.Where(n => !heldOut.Contains(n)).ToArray() is { Length: > 0 } missing)
        {
            throw new UserErrorException(
                $"evaluation.objectives asks for {string.Join(", ", missing)}, but the held-out tasks have {string.Join(", ", heldOut)} objectives.");
        }
    }

    public void Dispose()
    {
        foreach (var open in Owned) open.Dispose();
    }

    /// <summary>Reports on the calling thread, unlike <see cref="Progress{T}"/>.</summary>
    private sealed class Inline<T>(Action<T> report) : IProgress<T>
    {
        public void Report(T value) => report(value);
    }
}
