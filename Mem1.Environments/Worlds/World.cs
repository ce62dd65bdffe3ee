// Invariants: a world holds the task's facts plus distractors drawn from the episode's seed alone; every distractor has a fact of an
// asked relation, so a relation by itself never points at one document. What a search returns depends on the seed, the turn and the
// query's set of words, and on nothing else.

using Mem1.Environments.Common;

namespace Mem1.Environments.Worlds;

/// <summary>An asked fact: entity, relation and the value that answers it.</summary>
internal sealed record WorldFact(string Entity, string Relation, string Value);

/// <summary>The documents of one episode.</summary>
internal sealed class World
{
    private const ulong FactPurpose = 0x66616374;
    private const ulong SearchPurpose = 0x73656172;

    private readonly WorldsOptions _options;
    private readonly ulong _seed;
    private readonly List<(string Entity, (string Relation, string Value)[] Facts)> _documents = [];

    public World(EnvironmentTask task, ulong seed, WorldsOptions options)
    {
        _options = options;
        _seed = seed;
        Asked = ReadTask(task);

        var random = new SeededRandom(FactPurpose, seed);
        foreach (WorldFact fact in Asked)
            _documents.Add((fact.Entity, Facts(random, WorldsVocabulary.RelationIndex(fact.Relation), fact.Value)));

        var asked = Asked.Select(f => f.Entity).ToHashSet(StringComparer.Ordinal);
        string[] others = [.. WorldsVocabulary.Entities.Where(e => !asked.Contains(e))];
        random.Shuffle<string>(others);
        int wanted = (options.EntitiesPerObjective * Asked.Count) + options.ExtraEntities - Asked.Count;
        foreach (string entity in others.Take(wanted))
        {
            int relation = WorldsVocabulary.RelationIndex(random.Choose(Asked).Relation);
            _documents.Add((entity, Facts(random, relation, RandomValue(random, relation))));
        }
    }

    public IReadOnlyList<WorldFact> Asked { get; }

    public int DocumentCount => _documents.Count;

    /// <summary>The observation words of a search: the best documents by term weights, ties at random, then shuffled.</summary>
    public IEnumerable<string> Search(IEnumerable<string> query, int turn)
    {
        var words = query.ToHashSet(StringComparer.Ordinal);
        var random = new SeededRandom(SearchPurpose, _seed, (ulong)turn);
        int[] top =
        [
            .. Enumerable.Range(0, _documents.Count)
                .Select(i => (Index: i, Score: ScoreOf(i), Tie: random.NextUInt64()))
                .OrderByDescending(d => d.Score).ThenBy(d => d.Tie).ThenBy(d => d.Index)
                .Take(_options.Documents).Select(d => d.Index),
        ];
        random.Shuffle<int>(top);
        return top.SelectMany(DocumentWords);

        double ScoreOf(int i) =>
            (words.Contains(_documents[i].Entity) ? _options.EntityWeight : 0)
            + (_options.RelationWeight * _documents[i].Facts.Count(f => words.Contains(f.Relation)));
    }

    private static IReadOnlyList<WorldFact> ReadTask(EnvironmentTask task)
    {
        var facts = new List<WorldFact>();
        foreach (Objective objective in task.Objectives)
        {
            string[] words = objective.Question.Split(' ');
            if (words.Length != 2 || WorldsVocabulary.EntityIndex(words[0]) < 0 || WorldsVocabulary.RelationIndex(words[1]) < 0
                || objective.GoldenAnswers.Count != 1)
            {
                throw new ArgumentException(
                    $"Task {task.Id}: objective {objective.Id} asks \"{objective.Question}\", which is not an entity and a relation of "
                    + "the worlds family with one golden value.", nameof(task));
            }
            facts.Add(new WorldFact(words[0], words[1], objective.GoldenAnswers[0]));
        }
        if (facts.DistinctBy(f => f.Entity).Count() != facts.Count)
            throw new ArgumentException($"Task {task.Id} asks about one entity twice.", nameof(task));
        return facts;
    }

    private (string Relation, string Value)[] Facts(SeededRandom random, int relation, string value)
    {
        int[] others = [.. Enumerable.Range(0, WorldsVocabulary.Relations.Count).Where(r => r != relation)];
        random.Shuffle<int>(others);
        (string Relation, string Value)[] facts =
        [
            (WorldsVocabulary.Relations[relation], value),
            .. others.Take(_options.FactsPerEntity - 1).Select(r => (WorldsVocabulary.Relations[r], RandomValue(random, r))),
        ];
        random.Shuffle(facts.AsSpan());
        return facts;
    }

    private IEnumerable<string> DocumentWords(int document)
    {
        (string entity, (string Relation, string Value)[] facts) = _documents[document];
        yield return WorldsVocabulary.Document;
        foreach ((string relation, string value) in facts)
        {
            yield return entity;
            yield return relation;
            if (_options.FactsUseIs)
                yield return WorldsVocabulary.Is;
            yield return value;
            yield return WorldsVocabulary.FactEnd;
        }
    }

    private static string RandomValue(SeededRandom random, int relation) =>
        WorldsVocabulary.Value(relation, random.Next(WorldsVocabulary.ValuesPerRelation));
}
