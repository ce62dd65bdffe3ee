// Invariants: an episode of the expert depends only on the task, the seed and the observations; it keeps the format; once a search has
// found anything, it buys by its last turn (given two turns for it).

using System.Text.RegularExpressions;
using Mem1.Environments.Common;
using Mem1.Environments.Qa;

namespace Mem1.Environments.WebShop;

/// <summary>How often the scripted shopper errs.</summary>
public sealed record WebShopExpertOptions
{
    /// <summary>Searches for the kind of product alone, without the attributes.</summary>
    public double SearchesVaguely { get; init; } = 0.2;

    /// <summary>Opens a product that is not the target, and buys it, though the target is on the page.</summary>
    public double TakesAnother { get; init; } = 0.12;

    /// <summary>Leaves an option out, for each.</summary>
    public double ForgetsOption { get; init; } = 0.15;

    /// <summary>Chooses another value of an option, for each.</summary>
    public double ChoosesWrongValue { get; init; } = 0.08;

    /// <summary>Looks at the description first, which costs two turns.</summary>
    public double ReadsDescription { get; init; } = 0.1;

    /// <summary>Pages of results it looks through before it takes the first product of the last one.</summary>
    public int Pages { get; init; } = 3;

    /// <summary>A shopper that never errs; it still finds only what the search brings up within its pages and turns.</summary>
    public static WebShopExpertOptions Flawless { get; } =
        new() { SearchesVaguely = 0, TakesAnother = 0, ForgetsOption = 0, ChoosesWrongValue = 0, ReadsDescription = 0, Pages = 5 };

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Probability("webshop_expert.searches_vaguely", SearchesVaguely)
        .Probability("webshop_expert.takes_another", TakesAnother)
        .Probability("webshop_expert.forgets_option", ForgetsOption)
        .Probability("webshop_expert.chooses_wrong_value", ChoosesWrongValue)
        .Probability("webshop_expert.reads_description", ReadsDescription)
        .AtLeast("webshop_expert.pages", Pages, 1)
        .Problems;
}

/// <summary>
/// Plays the shop for behaviour cloning: searches with the words of the instruction, turns pages until it sees the target, opens it,
/// chooses options and buys, with an error now and then. It recognises the target by its identifier, which the agent has to learn to do
/// by title and price. Thread-safe.
/// </summary>
public sealed partial class WebShopExpert : IExpert
{
    private readonly ShopGoals _goals;
    private readonly WebShopOptions _shop;
    private readonly WebShopExpertOptions _options;

    /// <summary>Makes the expert.</summary>
    /// <param name="goals">The shop and what to buy in it.</param>
    /// <param name="shop">How episodes run.</param>
    /// <param name="options">How often it errs.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WebShopExpert(ShopGoals goals, WebShopOptions shop, WebShopExpertOptions options)
    {
        Checks.Demand([.. shop.Validate(), .. options.Validate()], nameof(options));
        (_goals, _shop, _options) = (goals, shop, options);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The task is not one of this shop.</exception>
    public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => new Episode(
        _goals.Catalogue, _goals.Goals[WebShopTaskSource.GoalOf(task, _goals)], _shop, _options, seed);

    [GeneratedRegex(@"^find me |, and price lower than .* dollars$", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Boilerplate();

    private sealed class Episode(
        ShopCatalogue catalogue, ShopGoal goal, WebShopOptions shop, WebShopExpertOptions options, ulong seed) : IExpertEpisode
    {
        private const ulong Purpose = 0x62757965;

        // Opening a product and buying it.
        private const int TurnsToBuy = 2;

        private readonly SeededRandom _random = new(Purpose, seed);
        private readonly Queue<string> _plan = new();
        private readonly List<string> _done = [];
        private int _turn;
        private int _page = 1;

        public string Respond(string? observation)
        {
            string action = Next(observation, out string thought);
            _turn++;
            string memory = _done.Count == 0 ? "Nothing done yet." : $"So far: {string.Join("; ", _done)}.";
            // The action itself is kept beside the summary for a turn; keywords stand in the instruction anyway.
            _done.Add(action.StartsWith("search[", StringComparison.Ordinal) ? "searched" : action);
            return WebShopText.Response(AgentText.Neutralize(thought), AgentText.Neutralize(memory), AgentText.Neutralize(action));
        }

        private string Next(string? observation, out string thought)
        {
            if (observation is null)
            {
                thought = "I start with a search for what the instruction describes.";
                return $"search[{Query()}]";
            }
            if (_plan.TryDequeue(out string? planned))
            {
                thought = planned == "click[buy now]" ? "Everything is chosen, so I buy." : "The product is open and this comes next.";
                return planned;
            }
            int left = shop.MaxTurns - _turn;
            ShopProduct[] shown = [.. Shown(observation)];
            ShopProduct? target = Array.Find(shown, p => p.Asin == goal.Asin);
            if (target is null && _page < options.Pages && left > TurnsToBuy + goal.Options.Count && shown.Length > 0)
            {
                _page++;
                thought = "No product on this page fits, so I look at the next one.";
                return "click[next >]";
            }
            if (shown.Length == 0)
            {
                thought = "This page lists nothing, so I search with other words.";
                _page = 1;
                return $"search[{goal.Query}]";
            }
            ShopProduct? other = shown.FirstOrDefault(p => p.Asin != goal.Asin);
            ShopProduct taken = target is null || (other is not null && _random.Chance(options.TakesAnother)) ? other ?? shown[0] : target;
            Plan(taken, left - 1);
            thought = $"{taken.Asin} fits best, so I open it.";
            return $"click[{taken.Asin.ToLowerInvariant()}]";
        }

        private string Query()
        {
            string text = _random.Chance(options.SearchesVaguely) ? goal.Query : Boilerplate().Replace(goal.Instruction, "");
            // Brackets would end the action early.
            return text.Replace('[', ' ').Replace(']', ' ').ReplaceLineEndings(" ");
        }

        /// <summary>The products that the observation offers, in its order.</summary>
        private IEnumerable<ShopProduct> Shown(string observation)
        {
            foreach (string word in observation.Split((char[])[' ', '\n', '[', ']', '\''], StringSplitOptions.RemoveEmptyEntries)
                .Distinct(StringComparer.OrdinalIgnoreCase))
            {
                int at = catalogue.Find(word.ToUpperInvariant());
                if (at >= 0)
                    yield return catalogue.Products[at];
            }
        }

        /// <summary>What to do once the product is open, in at most this many turns, the purchase included.</summary>
        private void Plan(ShopProduct product, int turns)
        {
            var steps = new List<string>();
            string[] buttons = ["back to search", "< prev", "description", "features", "reviews", "attributes", "buy now", "search"];
            foreach (ShopOption group in product.Options)
            {
                bool Asked(string value) => goal.Options.Any(o => o.Value == value && (o.Name is null || o.Name == group.Name));
                // A value with a bracket in it cannot be clicked, and one named like a button is the button.
                string[] possible = [.. group.Values.Where(v => !v.Contains('[', StringComparison.Ordinal) && !buttons.Contains(v))];
                string? value = Array.Find(possible, Asked);
                if (value is null || _random.Chance(options.ForgetsOption))
                    continue;
                if (_random.Chance(options.ChoosesWrongValue))
                    value = _random.Choose(possible);
                steps.Add($"click[{value}]");
            }
            if (_random.Chance(options.ReadsDescription) && steps.Count + 3 <= turns)
                steps.InsertRange(0, ["click[description]", "click[< prev]"]);
            foreach (string step in steps.Take(turns - 1).Append("click[buy now]"))
                _plan.Enqueue(step);
        }
    }
}
