// Invariants: an episode of the expert depends only on the task, the seed and the observations; its memory lists solved objectives
// (all of them, or with RestatesMemory off the last one) in question order; it always answers within one turn per objective plus one.

using Mem1.Environments.Common;

namespace Mem1.Environments.Worlds;

/// <summary>
/// Plays worlds in question order, one search per objective, with an error now and then. Behaviour cloning from it teaches the
/// format and most of the skill; mending its errors is left to reinforcement learning. Thread-safe.
/// </summary>
public sealed class WorldsExpert : IExpert
{
    private readonly WorldsExpertOptions _options;

    /// <summary>Makes the expert.</summary>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WorldsExpert(WorldsExpertOptions options)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _options = options;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The task is not one of this family.</exception>
    public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => new Episode(task, seed, _options);

    private sealed class Episode : IExpertEpisode
    {
        private const ulong Purpose = 0x65787072;

        private readonly (string Entity, string Relation, string Value)[] _asked;
        private readonly WorldsExpertOptions _options;
        private readonly SeededRandom _random;
        private readonly List<string> _values = [];

        public Episode(EnvironmentTask task, ulong seed, WorldsExpertOptions options)
        {
            _options = options;
            _random = new SeededRandom(Purpose, seed);
            _asked = [.. task.Objectives.Select(o => o.Question.Split(' ') is [var entity, var relation]
                ? (entity, relation, o.GoldenAnswers[0])
                : throw new ArgumentException($"Task {task.Id} is not one of the worlds family.", nameof(task)))];
        }

        public string Respond(string? observation)
        {
            if (observation is not null && _values.Count < _asked.Length)
                _values.Add(Read(observation));

            bool solved = _values.Count == _asked.Length;
            var words = new List<string> { WorldsVocabulary.Think };
            for (int k = _options.RestatesMemory ? 0 : Math.Max(0, _values.Count - 1); k < _values.Count; k++)
            {
                words.AddRange(Entry(k));
                words.Add(k == _values.Count - 1 ? WorldsVocabulary.Next : WorldsVocabulary.Separator);
            }
            if (_values.Count == 0)
                words.Add(WorldsVocabulary.Next);
            if (!solved)
                words.AddRange([_asked[_values.Count].Entity, _asked[_values.Count].Relation]);
            words.Add(WorldsVocabulary.ThinkEnd);

            if (solved || (_values.Count > 0 && _random.Chance(_options.AnswersEarly)))
            {
                words.Add(WorldsVocabulary.Answer);
                for (int k = 0; k < _values.Count; k++)
                    words.AddRange(k == 0 ? Entry(k) : [WorldsVocabulary.Separator, .. Entry(k)]);
                words.Add(WorldsVocabulary.AnswerEnd);
            }
            else
            {
                (string entity, string relation, _) = _asked[_values.Count];
                if (_random.Chance(_options.SearchesWrongRelation))
                    relation = _random.Choose(WorldsVocabulary.Relations);
                words.AddRange([WorldsVocabulary.Search, entity, relation, WorldsVocabulary.SearchEnd]);
            }
            return string.Join(' ', words);
        }

        private string[] Entry(int k) => [_asked[k].Entity, _asked[k].Relation, _values[k]];

        /// <summary>The value it takes down for the open objective.</summary>
        private string Read(string observation)
        {
            (string entity, string relation, string value) = _asked[_values.Count];
            double error = _random.NextDouble();
            if (error >= _options.CopiesWrongDocument + _options.WritesUnknown)
                return value;
            if (error >= _options.CopiesWrongDocument)
                return WorldsVocabulary.Unknown;
            List<List<string[]>> others = [.. Documents(observation).Where(d => d[0][0] != entity)];
            if (others.Count == 0)
                return WorldsVocabulary.Unknown;
            List<string[]> wrong = _random.Choose(others);
            return (wrong.FirstOrDefault(f => f[1] == relation) ?? _random.Choose(wrong))[^1];
        }

        /// <summary>Facts by document: entity, relation, perhaps "is", value.</summary>
        private static List<List<string[]>> Documents(string observation) =>
        [
            .. observation.Split(WorldsVocabulary.Document).Skip(1)
                .Select(text => text.Replace(WorldsVocabulary.InformationEnd, "", StringComparison.Ordinal)
                    .Split(WorldsVocabulary.FactEnd, StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
                    .Select(fact => fact.Split(' ')).Where(fact => fact.Length >= 3).ToList())
                .Where(facts => facts.Count > 0),
        ];
    }
}
