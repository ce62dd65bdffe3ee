// Invariants: the state is a function of the goal and of the actions so far; an action that does not apply changes nothing; a session
// holds positions into the shared catalogue and no product text.

using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>The pages of the shop.</summary>
internal enum ShopPage
{
    Search,
    Results,
    Item,
    Detail,
    Done,
}

/// <summary>How a shop session behaves beyond the protocol.</summary>
/// <param name="ShowAttributes">Whether item pages offer the attributes page.</param>
/// <param name="Shortcuts">Whether queries that begin with &lt;r>, &lt;c>, &lt;q> or &lt;a> bypass the search engine.</param>
/// <param name="Ratio">Which similarity the reward's fuzzy score rests on.</param>
/// <param name="ProductsPerPage">Products on a page of results; the original's number is the default.</param>
internal sealed record ShopRules(
    bool ShowAttributes = false, bool Shortcuts = false, FuzzyRatio Ratio = FuzzyRatio.Subsequence, int ProductsPerPage = 10);

/// <summary>One visitor of the shop: WebShop's state machine (Yao et al. 2022). Not thread-safe.</summary>
internal sealed class ShopSession
{
    /// <summary>Hits beyond these are not shown at all.</summary>
    public const int MostHits = 50;

    private const string BackToSearch = "back to search";
    private const string Previous = "< prev";
    private const string Next = "next >";
    private const string BuyNow = "buy now";
    private const string Base = "http://127.0.0.1:3000";

    private readonly ShopGoals _goals;
    private readonly ShopRules _rules;
    private readonly string _id;
    private readonly SeededRandom _random;
    private readonly List<KeyValuePair<string, string>> _options = [];
    private readonly List<int> _opened = [];
    private readonly Dictionary<string, int> _counts = new(StringComparer.Ordinal);
    private string[] _keywords = [];
    private int[] _hits = [];
    private int _product = -1;

    /// <param name="goals">The shop.</param>
    /// <param name="goal">Number of the goal.</param>
    /// <param name="rules">How it behaves.</param>
    /// <param name="seed">Seed of the random shortcut.</param>
    /// <param name="id">Name of the session in addresses; null for the goal's number.</param>
    public ShopSession(ShopGoals goals, int goal, ShopRules rules, ulong seed = 0, string? id = null)
    {
        _goals = goals;
        _rules = rules;
        _id = id ?? goal.ToString(System.Globalization.CultureInfo.InvariantCulture);
        _random = new SeededRandom(seed);
        Goal = goals.Goals[goal];
    }

    public ShopGoal Goal { get; }

    public ShopPage Page { get; private set; }

    /// <summary>Number of the page of results, from 1.</summary>
    public int ResultsPage { get; private set; } = 1;

    /// <summary>Which detail page is open: Description, Features, Reviews or Attributes.</summary>
    public string Detail { get; private set; } = "";

    public bool ShowAttributes => _rules.ShowAttributes;

    public int TotalResults => _hits.Length;

    /// <summary>Chosen options in the order their groups were first chosen.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Options => _options;

    /// <summary>How often each kind of action was taken since the last visit of the search page.</summary>
    public IReadOnlyDictionary<string, int> Counts => _counts;

    /// <summary>Set by a purchase.</summary>
    public ShopVerdict? Verdict { get; private set; }

    public ShopProduct Product => _goals.Catalogue.Products[_product];

    /// <summary>The products on the open page of results.</summary>
    public IEnumerable<ShopProduct> Shown => _hits.Skip((ResultsPage - 1) * _rules.ProductsPerPage)
        .Take(_rules.ProductsPerPage).Select(i => _goals.Catalogue.Products[i]);

    public bool HasSearchBar => Page == ShopPage.Search;

    /// <summary>The address of the page in the original; the rich observation reads chosen options off it.</summary>
    public string Url => Page switch
    {
        ShopPage.Search => $"{Base}/{_id}",
        ShopPage.Results => $"{Base}/search_results/{_id}/{Keywords}/{ResultsPage}",
        ShopPage.Item => $"{Base}/item_page/{_id}/{Product.Asin}/{Keywords}/{ResultsPage}/{PythonText.JsonObject(_options)}",
        ShopPage.Detail =>
            $"{Base}/item_sub_page/{_id}/{Product.Asin}/{Keywords}/{ResultsPage}/{Detail}/{PythonText.Dictionary(_options)}",
        _ => $"{Base}/done/{_id}/{Product.Asin}/{PythonText.Dictionary(_options)}",
    };

    private string Keywords => string.Join('+', _keywords);

    /// <summary>Whether a product was opened since the last visit of the search page.</summary>
    public bool WasOpened(ShopProduct product) => _opened.Contains(_goals.Catalogue.Find(product.Asin));

    /// <summary>What can be clicked, in the order of the page, lower-case, without repeats.</summary>
    public List<string> Clickables()
    {
        var names = new List<string>();
        switch (Page)
        {
            case ShopPage.Search:
                names.Add("search");
                break;
            case ShopPage.Results:
                names.Add(BackToSearch);
                if (ResultsPage > 1)
                    names.Add(Previous);
                names.Add(Next);
                names.AddRange(Shown.Select(p => p.Asin.ToLowerInvariant()));
                break;
            case ShopPage.Item:
                names.AddRange([BackToSearch, Previous, "description", "features", "reviews"]);
                if (ShowAttributes)
                    names.Add("attributes");
                names.Add(BuyNow);
                foreach (string value in Product.Options.SelectMany(o => o.Values))
                {
                    if (!names.Contains(value))
                        names.Add(value);
                }
                break;
            case ShopPage.Detail:
                names.AddRange([BackToSearch, Previous]);
                break;
        }
        return names;
    }

    /// <summary>Takes an action; one that does not apply changes nothing.</summary>
    /// <param name="text">As the agent wrote it.</param>
    /// <returns>The reward of the action: 0 but for a purchase.</returns>
    public double Step(string text)
    {
        ShopAction action = ShopAction.Parse(text);
        if (action.Argument is null)
            return 0;
        string argument = PythonText.Lower(action.Argument);
        if (action.Name == "search")
        {
            _keywords = argument.Split(' ');
            _hits = Search();
            ShowResults(1);
        }
        else if (action.Name == "click" && argument != "search" && Clickables().Contains(argument))
        {
            return Click(argument);
        }
        return 0;
    }

    private double Click(string name)
    {
        switch (Page, name)
        {
            case (_, BackToSearch):
                Page = ShopPage.Search;
                (_keywords, _hits, _product, ResultsPage) = ([], [], -1, 1);
                _options.Clear();
                _opened.Clear();
                _counts.Clear();
                return 0;
            case (ShopPage.Results, Next):
                ShowResults(ResultsPage + 1);
                return 0;
            case (ShopPage.Results, Previous):
                ShowResults(ResultsPage - 1);
                return 0;
            case (ShopPage.Results, _):
                _product = _goals.Catalogue.Find(Shown.First(p => p.Asin.ToLowerInvariant() == name).Asin);
                if (!_opened.Contains(_product))
                    _opened.Add(_product);
                Count("asin");
                Page = ShopPage.Item;
                return 0;
            case (ShopPage.Detail, _):
                Page = ShopPage.Item;
                return 0;
            case (_, Previous):
                ShowResults(ResultsPage);
                return 0;
            case (_, BuyNow):
                return Buy();
            case (_, "description" or "features" or "reviews"):
            case (_, "attributes") when ShowAttributes:
                Detail = char.ToUpperInvariant(name[0]) + name[1..];
                Count(Detail);
                Page = ShopPage.Detail;
                return 0;
            default:
                Choose(name);
                return 0;
        }
    }

    // A value that stands in two groups belongs to the later one.
    private void Choose(string value)
    {
        string group = Product.Options.Last(o => o.Values.Contains(value)).Name;
        int at = _options.FindIndex(o => o.Key == group);
        if (at < 0)
            _options.Add(new(group, value));
        else
            _options[at] = new(group, value);
        Count("options");
    }

    private double Buy()
    {
        Verdict = ShopReward.Judge(Product, _goals.Prices[_product], [.. _options.Select(o => o.Value)], Goal, _rules.Ratio);
        Count("purchase");
        Page = ShopPage.Done;
        return Verdict.Reward;
    }

    // Options do not survive a page of results, not even on the way back from an item.
    private void ShowResults(int page)
    {
        ResultsPage = page;
        _product = -1;
        _options.Clear();
        Count("search");
        Page = ShopPage.Results;
    }

    private int[] Search()
    {
        IReadOnlyList<ShopProduct> products = _goals.Catalogue.Products;
        string rest = PythonText.Strip(string.Join(' ', _keywords.Skip(1)));
        return (_rules.Shortcuts ? _keywords[0] : "") switch
        {
            "<r>" => Sample(products.Count),
            "<c>" => Where(p => p.Category == PythonText.Strip(_keywords.ElementAtOrDefault(1) ?? "")),
            "<q>" => Where(p => p.Query == rest),
            "<a>" => _goals.Catalogue.ByAttribute.TryGetValue(rest, out int[]? carriers) ? carriers : [],
            _ => [.. _goals.Catalogue.Index.Search(string.Join(' ', _keywords), MostHits).Select(h => h.Document)],
        };

        int[] Where(Func<ShopProduct, bool> holds) => [.. Enumerable.Range(0, products.Count).Where(i => holds(products[i]))];
    }

    private int[] Sample(int count)
    {
        int[] all = [.. Enumerable.Range(0, count)];
        _random.Shuffle<int>(all);
        return all[..Math.Min(count, MostHits)];
    }

    private void Count(string kind) => _counts[kind] = _counts.GetValueOrDefault(kind) + 1;
}
