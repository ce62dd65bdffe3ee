// Invariants: the order of the words is part of the format: a word's index is its token id in every checkpoint of the built-in
// model, so words may only be appended. All marker words of the family are named here and nowhere else.

namespace Mem1.Environments.Worlds;

/// <summary>
/// Every word of the worlds family, in the order of its token ids: 18 markers, 8 relations, 64 entities, then 32 values of each
/// relation. Texts of the family are these words joined by single spaces.
/// </summary>
public static class WorldsVocabulary
{
    /// <summary>Fills up short rows of a batch; never part of a text.</summary>
    public const string Pad = "<pad>";
    /// <summary>Opens the prompt.</summary>
    public const string Task = "<task>";
    /// <summary>Closes the prompt.</summary>
    public const string TaskEnd = "<end>";
    /// <summary>Opens the internal state.</summary>
    public const string Think = "<think>";
    /// <summary>Closes the internal state.</summary>
    public const string ThinkEnd = "</think>";
    /// <summary>Opens a query.</summary>
    public const string Search = "<search>";
    /// <summary>Closes a query.</summary>
    public const string SearchEnd = "</search>";
    /// <summary>Opens an observation.</summary>
    public const string Information = "<information>";
    /// <summary>Closes an observation.</summary>
    public const string InformationEnd = "</information>";
    /// <summary>Opens the final answer.</summary>
    public const string Answer = "<answer>";
    /// <summary>Closes the final answer.</summary>
    public const string AnswerEnd = "</answer>";
    /// <summary>Opens a document within an observation.</summary>
    public const string Document = "<doc>";
    /// <summary>Separates entries of a prompt, a memory or an answer.</summary>
    public const string Separator = ";";
    /// <summary>Ends a fact.</summary>
    public const string FactEnd = ".";
    /// <summary>Stands in the memory before the objective that is worked on next.</summary>
    public const string Next = "next";
    /// <summary>Stands between key and value of a fact when <see cref="WorldsOptions.FactsUseIs"/> asks for it.</summary>
    public const string Is = "is";
    /// <summary>The value of an objective that was searched without success.</summary>
    public const string Unknown = "unknown";
    /// <summary>Held for question-like formats; not used by the current one.</summary>
    public const string QuestionMark = "?";

    /// <summary>Values that each relation can take.</summary>
    public const int ValuesPerRelation = 32;

    /// <summary>The marker words.</summary>
    public static IReadOnlyList<string> Markers { get; } =
    [
        Pad, Task, TaskEnd, Think, ThinkEnd, Search, SearchEnd, Information, InformationEnd, Answer, AnswerEnd, Document,
        Separator, FactEnd, Next, Is, Unknown, QuestionMark,
    ];

    /// <summary>The relations.</summary>
    public static IReadOnlyList<string> Relations { get; } =
        ["capital", "leader", "anthem", "flower", "animal", "food", "export", "language"];

    /// <summary>The entities: 64 countries whose names are one word.</summary>
    public static IReadOnlyList<string> Entities { get; } =
    [
        "Albania", "Algeria", "Angola", "Argentina", "Armenia", "Austria", "Bahrain", "Belize", "Benin", "Bhutan", "Bolivia",
        "Brazil", "Brunei", "Bulgaria", "Burundi", "Cameroon", "Canada", "Chad", "Chile", "Colombia", "Croatia", "Cuba", "Cyprus",
        "Denmark", "Dominica", "Ecuador", "Egypt", "Estonia", "Ethiopia", "Fiji", "Finland", "France", "Gabon", "Gambia", "Georgia",
        "Ghana", "Greece", "Grenada", "Guinea", "Guyana", "Haiti", "Honduras", "Hungary", "Iceland", "India", "Indonesia", "Iran",
        "Iraq", "Ireland", "Israel", "Italy", "Jamaica", "Japan", "Jordan", "Kenya", "Kiribati", "Kuwait", "Laos", "Latvia",
        "Lebanon", "Lesotho", "Liberia", "Libya", "Tonga",
    ];

    /// <summary>All words; a word's index is its token id.</summary>
    public static IReadOnlyList<string> Words { get; } = [.. Markers, .. Relations, .. Entities, .. Relations.SelectMany(ValuesOf)];

    private static readonly Dictionary<string, int> s_relations = Index(Relations);
    private static readonly Dictionary<string, int> s_entities = Index(Entities);

    // Words that give a text its structure: none of them may stand inside a memory, a query or an answer.
    private static readonly HashSet<string> s_structure =
    [
        Pad, Task, TaskEnd, Think, ThinkEnd, Search, SearchEnd, Information, InformationEnd, Answer, AnswerEnd, Document,
    ];

    /// <summary>A value of a relation, such as <c>ant_6</c>.</summary>
    /// <param name="relation">Index into <see cref="Relations"/>.</param>
    /// <param name="number">From 0 to <see cref="ValuesPerRelation"/> - 1.</param>
    public static string Value(int relation, int number)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(number);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(number, ValuesPerRelation);
        return $"{Relations[relation][..3]}_{number}";
    }

    internal static int RelationIndex(string word) => s_relations.GetValueOrDefault(word, -1);

    internal static int EntityIndex(string word) => s_entities.GetValueOrDefault(word, -1);

    internal static bool IsStructure(string word) => s_structure.Contains(word);

    private static IEnumerable<string> ValuesOf(string relation) =>
        Enumerable.Range(0, ValuesPerRelation).Select(n => $"{relation[..3]}_{n}");

    private static Dictionary<string, int> Index(IReadOnlyList<string> words) =>
        words.Select((word, i) => (word, i)).ToDictionary(p => p.word, p => p.i, StringComparer.Ordinal);
}
