using Mem1.Environments.Common;

namespace Mem1.Environments.Worlds;

/// <summary>How a world is made, searched and paid for. The defaults are the measured recipe of the built-in model.</summary>
public sealed record WorldsOptions
{
    /// <summary>Entities in a world for each objective, the asked one included.</summary>
    public int EntitiesPerObjective { get; init; } = 2;

    /// <summary>Entities in a world on top of those, so that even one objective has distractors.</summary>
    public int ExtraEntities { get; init; } = 6;

    /// <summary>Facts per entity, each of another relation; a document lists all facts of one entity.</summary>
    public int FactsPerEntity { get; init; } = 2;

    /// <summary>Whether a fact reads "entity relation is value" instead of "entity relation value".</summary>
    public bool FactsUseIs { get; init; }

    /// <summary>Share of tasks in which every objective asks the same relation, so that only the entity tells facts apart.</summary>
    public double SameRelationProbability { get; init; } = 0.5;

    /// <summary>What the entity's name in a query adds to the score of its document.</summary>
    public double EntityWeight { get; init; } = 2;

    /// <summary>What each relation in a query adds to the score of a document that has a fact of it.</summary>
    public double RelationWeight { get; init; } = 1;

    /// <summary>Documents in an observation.</summary>
    public int Documents { get; init; } = 3;

    /// <summary>Turns an episode may take beyond one per objective; the last of them must answer.</summary>
    public int ExtraTurns { get; init; } = 2;

    /// <summary>Reward of an episode that ends by a broken format or by the response limit.</summary>
    public double InvalidFormatReward { get; init; } = -0.1;

    /// <summary>Most objectives one task can have: asked entities are distinct and so are golden values.</summary>
    public static int MaxObjectives { get; } = Math.Min(WorldsVocabulary.Entities.Count, WorldsVocabulary.ValuesPerRelation);

    /// <summary>How many responses an episode of this many objectives may take.</summary>
    public int MaxTurns(int objectives) => objectives + ExtraTurns;

    /// <summary>
    /// A limit of words (tokens) for one response that no sensible response reaches: a full memory and a full answer take 8 words per
    /// objective and a few markers.
    /// </summary>
    public static int MaxResponseTokens(int objectives) => (8 * objectives) + 10;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .AtLeast("worlds.entities_per_objective", EntitiesPerObjective, 1)
        .AtLeast("worlds.extra_entities", ExtraEntities, 0)
        .AtLeast("worlds.facts_per_entity", FactsPerEntity, 1)
        .Require(
            FactsPerEntity <= WorldsVocabulary.Relations.Count,
            $"worlds.facts_per_entity is {FactsPerEntity} but there are only {WorldsVocabulary.Relations.Count} relations")
        .Probability("worlds.same_relation_probability", SameRelationProbability)
        .AtLeast("worlds.entity_weight", EntityWeight, 0)
        .AtLeast("worlds.relation_weight", RelationWeight, 0)
        .AtLeast("worlds.documents", Documents, 1)
        .AtLeast("worlds.extra_turns", ExtraTurns, 1)
        .Require(
            double.IsFinite(InvalidFormatReward) && InvalidFormatReward <= 0,
            $"worlds.invalid_format_reward is {InvalidFormatReward} but must be 0 or less, or a broken format would pay")
        .Problems;
}

/// <summary>How often the scripted player of a world errs, per turn.</summary>
public sealed record WorldsExpertOptions
{
    /// <summary>Answers before every objective is solved (once it knows at least one).</summary>
    public double AnswersEarly { get; init; } = 0.30;

    /// <summary>Copies the value of another document into its memory.</summary>
    public double CopiesWrongDocument { get; init; } = 0.12;

    /// <summary>Writes "unknown" into its memory though the value is in front of it.</summary>
    public double WritesUnknown { get; init; } = 0.12;

    /// <summary>Searches with a random relation.</summary>
    public double SearchesWrongRelation { get; init; } = 0.12;

    /// <summary>
    /// Whether its internal state lists everything solved so far, as an agent must whose context forgets; else only what the last search
    /// brought, which is enough where every turn stays in the context.
    /// </summary>
    public bool RestatesMemory { get; init; } = true;

    /// <summary>An expert that never errs: for measuring what a flawless run costs.</summary>
    public static WorldsExpertOptions Flawless { get; } =
        new() { AnswersEarly = 0, CopiesWrongDocument = 0, WritesUnknown = 0, SearchesWrongRelation = 0 };

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Probability("expert.answers_early", AnswersEarly)
        .Probability("expert.copies_wrong_document", CopiesWrongDocument)
        .Probability("expert.writes_unknown", WritesUnknown)
        .Probability("expert.searches_wrong_relation", SearchesWrongRelation)
        .Require(
            CopiesWrongDocument + WritesUnknown <= 1,
            $"expert.copies_wrong_document and expert.writes_unknown add up to {CopiesWrongDocument + WritesUnknown}, more than 1")
        .Problems;
}
