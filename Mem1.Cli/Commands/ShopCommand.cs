using System.CommandLine;
using Mem1.Environments.WebShop;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 shop</c>: an episode of WebShop in the terminal, as the agent sees it.</summary>
internal static class ShopCommand
{
    public static Command Create()
    {
        var products = new Option<FileInfo?>("--products")
        {
            Description = "Product file (items_shuffle*.json); without it a made-up shop", HelpName = "FILE.json",
        };
        var attributes = new Option<FileInfo?>("--attributes")
        {
            Description = "Attribute file (items_ins_v2*.json), with --products", HelpName = "FILE.json",
        };
        var nouns = new Option<FileInfo?>("--nouns") { Description = "Nouns of each title; guessed without it", HelpName = "FILE.json" };
        var goal = new Option<int>("--goal") { Description = "Number of the goal to play, from 0", HelpName = "N" };
        var seed = new Option<uint>("--seed") { Description = "Seed of price limits", HelpName = "N", DefaultValueFactory = _ => 42 };
        var rich = new Option<bool>("--rich") { Description = "Mark buttons and chosen options" };
        var command = new Command(
            "shop",
            """
            Shop in the terminal as an agent does: one action a line.

            Examples:
              ./mem1 shop --goal 3
              ./mem1 shop --products items_shuffle_1000.json --attributes items_ins_v2_1000.json --rich
            """)
        {
            products, attributes, nouns, goal, seed, rich,
        };
        command.SetAction(parse =>
        {
            if (parse.GetValue(products) is null != parse.GetValue(attributes) is null)
                throw new UserErrorException("--products and --attributes go together.");
            if (parse.GetValue(nouns) is not null && parse.GetValue(products) is null)
                throw new UserErrorException("--nouns needs --products.");
            var catalogue = parse.GetValue(products) is { } file
                ? ShopCatalogue.Load(new ShopFilePaths
                {
                    Products = file.FullName,
                    Attributes = parse.GetValue(attributes)!.FullName,
                    TitleNouns = parse.GetValue(nouns)?.FullName,
                })
                : GeneratedShop.Create();
            var goals = ShopGoals.Make(catalogue, GoalKind.Synthetic, parse.GetValue(seed));
            if (parse.GetValue(goal) is var number && (number < 0 || number >= goals.Count))
                throw new UserErrorException($"--goal is {number}, but the goals are 0 to {goals.Count - 1}.");
            var mode = parse.GetValue(rich) ? ShopObservation.TextRich : ShopObservation.Text;
            Play(new ShopVisit(goals, number, new WebShopOptions { Observation = mode }));
            return 0;
        });
        return command;
    }

    // Ends with the purchase or with the input.
    private static void Play(ShopVisit visit)
    {
        while (true)
        {
            Console.WriteLine($"{visit.Page}\n\nActions: {string.Join(", ", visit.Actions)}");
            Console.Write("> ");
            if (Console.ReadLine() is not { } action) return;
            var outcome = visit.Step(action.Trim());
            if (!outcome.Offered) Console.WriteLine("(The page does not offer that.)");
            Console.WriteLine();
            if (outcome.Reward is not { } reward) continue;
            Console.WriteLine($"{visit.Page}\n\nReward {reward:0.###}: {outcome.Reasons}");
            return;
        }
    }
}
