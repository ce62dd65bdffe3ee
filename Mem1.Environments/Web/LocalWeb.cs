// Invariants: pages, questions and rankings depend on the options and the seed alone; every golden answer is unique in the web, stands on
// exactly one page, and is in that page's description unless the question needs the page to be opened.

using System.Text;
using Mem1.Environments.Common;

namespace Mem1.Environments.Web;

/// <summary>What a local web is made of.</summary>
public sealed record LocalWebOptions
{
    /// <summary>Number of pages; each is about one made-up town.</summary>
    public int Pages { get; init; } = 200;

    /// <summary>Share of the questions whose answer only the page itself holds; the others are answered by its description.</summary>
    public double OpenShare { get; init; }

    /// <summary>Seed of everything in it.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Require(
            Pages is >= LocalWeb.FewestPages and <= LocalWeb.MostPages,
            $"local.pages is {Pages} but must lie between {LocalWeb.FewestPages} and {LocalWeb.MostPages}")
        .Probability("local.open_share", OpenShare)
        .Problems;
}

/// <summary>A page of a local web.</summary>
/// <param name="Path">Path of its address.</param>
/// <param name="Title">Its title.</param>
/// <param name="Description">What a search shows of it.</param>
/// <param name="Details">What only the page shows.</param>
/// <param name="Links">Paths of the pages it links to.</param>
public sealed record LocalPage(string Path, string Title, string Description, string Details, IReadOnlyList<string> Links);

/// <summary>
/// Generated pages about made-up towns that link to each other, a search over them, and questions about them: the web of tests and of
/// runs without a network. Immutable and thread-safe.
/// </summary>
public sealed class LocalWeb
{
    /// <summary>Fewest pages: some are held out and some are trained on.</summary>
    public const int FewestPages = 10;

    /// <summary>Most pages: there are no more names.</summary>
    public const int MostPages = 100_000;

    /// <summary>Host name of all pages; the domain test belongs to nobody (RFC 6761).</summary>
    public const string Host = "towns.test";

    private const int LinksPerPage = 4;

    // Words of a title count more than those of a text, as everywhere.
    private const int TitleWeight = 3;

    private static readonly string[] s_described = ["river", "mayor", "festival", "dish"];
    private static readonly string[] s_detailed = ["bridge", "museum", "flower", "founder"];

    private static readonly string[] s_starts =
    [
        "ba", "be", "bo", "da", "de", "do", "fa", "fe", "ga", "go", "ha", "he", "ka", "ke", "ko", "la", "le", "lo", "ma", "me", "mo", "na",
        "ne", "no", "pa", "pe", "po", "ra", "re", "ro", "sa", "se", "so", "ta", "te", "to", "va", "ve", "vo", "za",
    ];

    private static readonly string[] s_ends = ["bar", "den", "fell", "garth", "holm", "kirk", "lund", "mere", "nor", "ric", "stad", "vik"];

    private readonly Dictionary<string, int> _byPath;
    private readonly Dictionary<string, List<(int Page, int Weight)>> _words = new(StringComparer.Ordinal);
    private readonly List<Objective>[] _questions;

    private LocalWeb(LocalPage[] pages, List<Objective>[] questions)
    {
        Pages = pages;
        _questions = questions;
        _byPath = Enumerable.Range(0, pages.Length).ToDictionary(i => pages[i].Path, StringComparer.Ordinal);
        for (int i = 0; i < pages.Length; i++)
        {
            foreach (var group in Words($"{pages[i].Description} {pages[i].Details}").Concat(
                         Enumerable.Repeat(Words(pages[i].Title), TitleWeight).SelectMany(w => w)).GroupBy(w => w, StringComparer.Ordinal))
            {
                if (!_words.TryGetValue(group.Key, out List<(int, int)>? list))
                    _words[group.Key] = list = [];
                list.Add((i, group.Count()));
            }
        }
    }

    /// <summary>All pages.</summary>
    public IReadOnlyList<LocalPage> Pages { get; }

    /// <summary>Makes a web.</summary>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public static LocalWeb Generate(LocalWebOptions options)
    {
        Checks.Demand(options.Validate(), nameof(options));
        var random = new SeededRandom(0x6C776562, options.Seed);
        var used = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        string[] towns = [.. Enumerable.Range(0, options.Pages).Select(_ => Name(random, used))];
        var pages = new LocalPage[towns.Length];
        var questions = new List<Objective>[towns.Length];
        for (int i = 0; i < towns.Length; i++)
        {
            var facts = s_described.Concat(s_detailed).ToDictionary(f => f, _ => Name(random, used), StringComparer.Ordinal);
            string Sentences(IEnumerable<string> of) => string.Join(' ', of.Select(f => $"The {f} of {towns[i]} is {facts[f]}."));
            var links = new HashSet<int>();
            while (links.Count < LinksPerPage)
            {
                int to = random.Next(towns.Length);
                if (to != i)
                    links.Add(to);
            }
            pages[i] = new LocalPage(
                PathOf(towns[i]), towns[i], Sentences(s_described), Sentences(s_detailed), [.. links.Select(l => PathOf(towns[l]))]);
            questions[i] =
            [
                .. s_described.Select(_ => random.Chance(options.OpenShare) ? random.Choose(s_detailed) : random.Choose(s_described))
                    .Distinct().Select(f => new Objective($"{PathOf(towns[i])[1..]}-{f}", $"What is the {f} of {towns[i]}?", [facts[f]])),
            ];
        }
        return new LocalWeb(pages, questions);
    }

    /// <summary>
    /// The questions about the first pages or about the rest, so that held-out questions are about pages training never asked of.
    /// </summary>
    /// <param name="heldOut">Which part.</param>
    /// <param name="heldOutFraction">Share of pages whose questions are held out, in [0, 1); 0 makes both parts the whole.</param>
    public IReadOnlyList<Objective> Questions(bool heldOut, double heldOutFraction)
    {
        if (heldOutFraction == 0)
            return [.. _questions.SelectMany(q => q)];
        int first = Math.Clamp((int)Math.Round(heldOutFraction * Pages.Count), 1, Pages.Count - 1);
        return [.. (heldOut ? _questions.Take(first) : _questions.Skip(first)).SelectMany(q => q)];
    }

    /// <summary>The pages that hold words of a query, those with the rarest and most of them first, ties in page order.</summary>
    public IReadOnlyList<(LocalPage Page, double Score)> Search(string query, int count)
    {
        var scores = new Dictionary<int, double>();
        foreach (string word in Words(query).Distinct(StringComparer.Ordinal))
        {
            if (!_words.TryGetValue(word, out List<(int Page, int Weight)>? list))
                continue;
            double rarity = Math.Log(1 + ((double)Pages.Count / list.Count));
            foreach ((int page, int weight) in list)
                scores[page] = scores.GetValueOrDefault(page) + (rarity * weight / (weight + 1.0));
        }
        return [.. scores.OrderByDescending(s => s.Value).ThenBy(s => s.Key).Take(count).Select(s => (Pages[s.Key], s.Value))];
    }

    /// <summary>The HTML of a page, or null when there is none at the path.</summary>
    public string? Html(string path)
    {
        if (!_byPath.TryGetValue(path, out int i))
            return null;
        LocalPage page = Pages[i];
        var links = new StringBuilder();
        foreach (string link in page.Links)
            links.Append($"<li><a href=\"{link}\">{Pages[_byPath[link]].Title}</a></li>");
        return $"""
            <!DOCTYPE html>
            <html lang="en">
            <head><meta charset="utf-8"><title>{page.Title}</title><meta name="description" content="{page.Description}"></head>
            <body>
            <nav><a href="/">All towns</a></nav>
            <main><h1>{page.Title}</h1><p>{page.Description}</p><h2>Details</h2><p>{page.Details}</p>
            <h2>Neighbours</h2><ul>{links}</ul></main>
            <footer>A made-up page about a made-up town.</footer>
            </body>
            </html>
            """;
    }

    private static string PathOf(string town) => "/" + town.ToLowerInvariant();

    private static string Name(SeededRandom random, HashSet<string> used)
    {
        while (true)
        {
            var name = new StringBuilder();
            for (int syllables = 2 + (used.Count > 5000 ? 1 : 0) + random.Next(2); syllables > 0; syllables--)
                name.Append(random.Choose(s_starts));
            name.Append(random.Choose(s_ends));
            name[0] = char.ToUpperInvariant(name[0]);
            if (used.Add(name.ToString()))
                return name.ToString();
        }
    }

    private static IEnumerable<string> Words(string text)
    {
        var word = new StringBuilder();
        foreach (char c in text)
        {
            if (char.IsLetterOrDigit(c))
            {
                word.Append(char.ToLowerInvariant(c));
            }
            else if (word.Length > 0)
            {
                yield return word.ToString();
                word.Clear();
            }
        }
        if (word.Length > 0)
            yield return word.ToString();
    }
}
