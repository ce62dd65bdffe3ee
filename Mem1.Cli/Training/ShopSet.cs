// Keeps: the shop of a section is the same wherever it is opened (train, shop, bench): goals, prices and limits follow from the section.
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Environments.WebShop;

namespace Mem1.Cli.Training;

/// <summary>WebShop for a run.</summary>
internal static class ShopSet
{
    // MEM1 gives a response as many; a smaller context sets its own limit.
    private const int MaxResponseTokens = 1000;

    // Enough for the wording of pages and of the expert to be merged whole.
    private const int EpisodesForTokenizer = 200;

    // Merges settle long before this much text; the published catalogue holds gigabytes.
    private const long MaxCharacters = 20_000_000;

    private static readonly string[] s_tags =
        ["<think>", "</think>", "<summary>", "</summary>", "<answer>", "</answer>", "<state>", "</state>"];

    /// <summary>Opens it.</summary>
    /// <param name="environment">Validated, of kind webshop.</param>
    /// <param name="progress">Told of loading.</param>
    /// <param name="cancellationToken">Stops loading.</param>
    /// <exception cref="UserErrorException">The shop has too few goals.</exception>
    public static EnvironmentSet Open(EnvironmentConfig environment, Action<double, string> progress, CancellationToken cancellationToken)
    {
        var goals = OpenGoals(environment.Shop, products =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            progress(0, $"{products:N0} products");
        });
        if (goals.Count < 2)
            throw new UserErrorException("The shop has a single goal; training needs at least two, one of them to evaluate on.");
        var factory = new WebShopFactory(goals, environment.Webshop);
        var training = WebShopTaskSource.Training(goals);
        var expert = new WebShopExpert(goals, environment.Webshop, environment.WebshopExpert);
        return new EnvironmentSet
        {
            Factory = factory,
            Training = training,
            HeldOut = WebShopTaskSource.Test(goals),
            Expert = expert,
            ResponseLimit = _ => MaxResponseTokens,
            Learnt = (() => Bounded(Episodes(factory, training, expert).Concat(goals.Catalogue.Texts())), s_tags),
        };
    }

    /// <summary>The shop and its goals.</summary>
    /// <param name="shop">Validated.</param>
    /// <param name="progress">Told of the number of products read now and then.</param>
    /// <exception cref="UserErrorException">The files hold no goals of the kind that is asked for.</exception>
    /// <exception cref="DataFormatException">A file is missing or malformed.</exception>
    public static ShopGoals OpenGoals(ShopSection shop, Action<int>? progress = null)
    {
        var catalogue = string.IsNullOrEmpty(shop.Products)
            ? GeneratedShop.Create(shop.CatalogueSeed, shop.ProductsPerKind, shop.Kinds)
            : ShopCatalogue.Load(
                new ShopFilePaths
                {
                    Products = shop.Products,
                    Attributes = shop.Attributes!,
                    Wishes = Given(shop.HumanGoals),
                    TitleNouns = Given(shop.TitleNouns),
                },
                shop.MostProducts > 0 ? shop.MostProducts : null, progress is null ? null : new Inline(progress));
        if (Given(shop.StoredGoals) is { } stored) return ShopGoals.Load(stored, catalogue);
        try
        {
            return ShopGoals.Make(catalogue, shop.Goals, (uint)shop.PriceSeed);
        }
        catch (InvalidOperationException e)
        {
            // What the catalogue lacks; the sentence says it.
            throw new UserErrorException(e.Message, e);
        }

        static string? Given(string? path) => string.IsNullOrEmpty(path) ? null : path;
    }

    /// <summary>What a tokenizer meets in episodes: the expert's responses and the pages they lead to.</summary>
    private static IEnumerable<string> Episodes(WebShopFactory factory, WebShopTaskSource tasks, WebShopExpert expert)
    {
        for (var i = 0; i < EpisodesForTokenizer; i++)
        {
            var task = tasks.Get(i, 1, 0);
            var environment = factory.Create(task, 0);
            var player = expert.Begin(task, (ulong)i);
            string? observation = null;
            while (true)
            {
                var response = player.Respond(observation);
                yield return response;
                var step = environment.StepAsync(response, truncated: false, CancellationToken.None);
                // The shop answers at once.
                var result = step.IsCompleted ? step.Result : throw new InvalidOperationException("The shop did not answer at once.");
                if (result.Score is not null) break;
                yield return observation = result.Observation;
            }
        }
    }

    private static IEnumerable<string> Bounded(IEnumerable<string> texts)
    {
        long characters = 0;
        foreach (var text in texts)
        {
            if (characters > MaxCharacters) yield break;
            characters += text.Length;
            yield return text;
        }
    }

    /// <summary>Reports on the calling thread, unlike <see cref="Progress{T}"/>.</summary>
    private sealed class Inline(Action<int> report) : IProgress<int>
    {
        public void Report(int value) => report(value);
    }
}
