using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Mem1.Cli.Configuration;
using Mem1.Cli.Shop;
using Mem1.Cli.Training;
using Mem1.Environments.WebShop;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 shop</c>: an episode of WebShop in the terminal or in a browser, as the agent sees it.</summary>
internal static class ShopCommand
{
    // Beside that of the search service, and rarely taken.
    private const int StandardPort = 8040;

    public static Command Create()
    {
        var products = File("--products", "Product file (items_shuffle*.json); without it a made-up shop");
        var attributes = File("--attributes", "Attribute file (items_ins_v2*.json), with --products");
        var human = File("--human-goals", "Human instructions (items_human_ins.json); their goals are then played");
        var nouns = File("--nouns", "Nouns of each title; guessed without it");
        var goals = File("--goals", "Goals stored before, in place of making them");
        var save = File("--save-goals", "Store the goals with their price limits, and stop");
        var goal = Number("--goal", "Number of the goal to play, from 0", 0, 0, int.MaxValue);
        var seed = Number("--seed", "Seed of price limits", new ShopSection().PriceSeed, 0, int.MaxValue);
        var turns = Number("--turns", "Actions an episode may take", new WebShopOptions().MaxTurns, 1, int.MaxValue);
        var rich = new Option<bool>("--rich") { Description = "Mark buttons and chosen options" };
        var serve = new Option<bool>("--serve") { Description = "In a browser, on this machine only" };
        var port = Number("--port", "Port of --serve; 0 for any that is free", StandardPort, 0, ushort.MaxValue);
        var command = new Command(
            "shop",
            """
            Shop as an agent does: in the terminal, one action a line, or in a browser.

            Examples:
              ./mem1 shop --goal 3
              ./mem1 shop --serve
              ./mem1 shop --products items_shuffle_1000.json --attributes items_ins_v2_1000.json --rich
              ./mem1 shop --products items_shuffle_1000.json --attributes items_ins_v2_1000.json --save-goals goals.jsonl
            """)
        {
            products, attributes, human, nouns, goals, save, goal, seed, turns, rich, serve, port,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            if (parse.GetResult(port) is { Implicit: false } && !parse.GetValue(serve))
                throw new UserErrorException("--port needs --serve.");
            var shop = new ShopSection
            {
                Products = parse.GetValue(products)?.FullName,
                Attributes = parse.GetValue(attributes)?.FullName,
                HumanGoals = parse.GetValue(human)?.FullName,
                TitleNouns = parse.GetValue(nouns)?.FullName,
                StoredGoals = parse.GetValue(goals)?.FullName,
                Goals = parse.GetValue(human) is null ? GoalKind.Synthetic : GoalKind.Human,
                PriceSeed = parse.GetValue(seed),
            };
            if (shop.Products is null != shop.Attributes is null) throw new UserErrorException("--products and --attributes go together.");
            if (shop.Products is null && (shop.HumanGoals ?? shop.TitleNouns) is not null)
                throw new UserErrorException($"{(shop.HumanGoals is null ? "--nouns" : "--human-goals")} needs --products.");
            var opened = ShopSet.OpenGoals(shop);
            if (parse.GetValue(save) is { } file)
            {
                opened.Save(file.FullName);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{opened.Count:N0} goals in {file.FullName}"));
                return 0;
            }

            var number = parse.GetValue(goal);
            if (number >= opened.Count) throw new UserErrorException($"--goal is {number}, but the goals are 0 to {opened.Count - 1}.");
            var options = new WebShopOptions
            {
                Observation = parse.GetValue(rich) ? ShopObservation.TextRich : ShopObservation.Text,
                MaxTurns = parse.GetValue(turns),
            };
            if (parse.GetValue(serve))
                await Serve(opened, number, options, parse.GetValue(port), cancellationToken).ConfigureAwait(false);
            else
                Play(new ShopVisit(opened, number, options));
            return 0;
        });
        return command;
    }

    // Ends with the episode or with the input.
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
            Console.WriteLine($"{visit.Page}\n\nReward {reward.ToString("0.###", CultureInfo.InvariantCulture)}: {outcome.Reasons}");
            return;
        }
    }

    private static async Task Serve(ShopGoals goals, int goal, WebShopOptions options, int port, CancellationToken cancellationToken)
    {
        var server = await ShopServer.StartAsync(goals, goal, options, port, cancellationToken).ConfigureAwait(false);
        await using (server.ConfigureAwait(false))
        {
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{goals.Catalogue.Count:N0} products, {goals.Count:N0} goals at {server.Address}; Ctrl-C stops"));
            try
            {
                await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                Console.WriteLine("stopping");
            }
        }
    }

    private static Option<FileInfo?> File(string name, string description) => new(name) { Description = description, HelpName = "FILE" };

    private static Option<int> Number(string name, string description, int standard, int least, int most)
    {
        var option = new Option<int>(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => standard };
        option.Validators.Add((OptionResult result) =>
        {
            if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, CultureInfo.InvariantCulture, out var n)
                && (n < least || n > most))
            {
                result.AddError($"{name} is {n}; it must be {(most == int.MaxValue ? $"at least {least}" : $"from {least} to {most}")}.");
            }
        });
        return option;
    }
}
