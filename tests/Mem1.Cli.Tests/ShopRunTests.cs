namespace Mem1.Cli.Tests;

/// <summary>WebShop trains end to end, in the made-up shop and from files in the published layout, and refuses what contradicts itself.</summary>
public sealed class ShopRunTests
{
    private const string Products = """
        [{"asin": "B1", "name": "Oak Chair", "pricing": "$5.00", "query": "chairs", "product_category": "Home › Chairs",
          "customization_options": {"Size": [{"value": "small"}, {"value": "large"}]}},
         {"asin": "B2", "name": "Oak Table", "pricing": "$15.00", "query": "tables", "product_category": "Home › Tables", "customization_options": ""}]
        """;

    private const string Attributes = """
        {"B1": {"attributes": ["sturdy"], "instruction": "Find me sturdy chairs", "instruction_attributes": ["sturdy"]},
         "B2": {"attributes": ["sturdy"], "instruction": "Find me sturdy tables", "instruction_attributes": ["sturdy"]}}
        """;

    [Fact]
    public void The_made_up_shop_and_a_shop_of_files_train_and_go_on()
    {
        using var temp = new TempFolder();
        string[] quick = ["train", "--quick", "--serial", "--runs", temp["runs"], "--set", "environment.kind=webshop", "--set", "cloning.steps=6"];
        Cli.Run([.. quick, "--name", "made-up", "--updates", "1", "--set", "environment.shop.products_per_kind=4"]).Succeeded();
        Assert.Single(Runs.Metrics(temp["runs", "made-up"]));
        Assert.Contains("Shop online", File.ReadAllText(temp["runs", "made-up", "trajectories.jsonl"]), StringComparison.Ordinal);

        var (products, attributes) = (temp.Write("p.json", Products), temp.Write("a.json", Attributes));
        Cli.Run("shop", "--products", products, "--attributes", attributes, "--save-goals", temp["goals.jsonl"]).Succeeded();
        Cli.Run(
            [
                .. quick, "--name", "files", "--updates", "1", "--set", $"environment.shop.products={products}", "--set",
                $"environment.shop.attributes={attributes}", "--set", $"environment.shop.stored_goals={temp["goals.jsonl"]}",
            ]).Succeeded();
        Assert.Contains("sturdy", File.ReadAllText(temp["runs", "files", "trajectories.jsonl"]), StringComparison.Ordinal);
        Cli.Run("train", "--resume", "files", "--updates", "2", "--runs", temp["runs"]).Succeeded();
        Assert.Equal(2, Runs.Metrics(temp["runs", "files"]).Count);
    }

    [Theory]
    [InlineData("environment.shop.products=x.json", "environment.shop.attributes")]
    [InlineData("environment.shop.human_goals=x.json", "environment.shop.products is not")]
    [InlineData("environment.shop.products_per_kind=0", "environment.shop.products_per_kind")]
    [InlineData("environment.shop.price_seed=-1", "environment.shop.price_seed")]
    [InlineData("environment.shop.goals=easy", "synthetic or human")]
    [InlineData("environment.shop.stored_goals=/none/goals.jsonl", "/none/goals.jsonl")]
    [InlineData("environment.webshop.max_turns=0", "environment.webshop.max_turns")]
    [InlineData("environment.webshop_expert.takes_another=2", "environment.webshop_expert.takes_another")]
    [InlineData("environment.min_objectives=2", "one objective each", "environment.max_objectives=2")]
    [InlineData("evaluation.objectives=[2]", "evaluation.objectives asks for 2")]
    [InlineData("environment.kind=worlds", "environment.shop names files but environment.kind is worlds", "environment.shop.stored_goals=g.jsonl")]
    public void A_config_that_contradicts_itself_is_refused(string setting, string word, string? also = null)
    {
        using var temp = new TempFolder();
        string[] more = also is null ? [] : ["--set", also];
        Refusals.Refused(["train", "--quick", "--set", "environment.kind=webshop", "--set", setting, .. more, "--runs", temp["runs"]], word);
        Assert.False(Directory.Exists(temp["runs", "quick"]));
    }

    [Fact]
    public void The_terminal_plays_an_episode_and_says_what_is_wrong_with_its_options()
    {
        using var temp = new TempFolder();
        var played = Cli.Run("shop", "--goal", "3").Succeeded(); // without input it shows the first page and ends
        Assert.Contains("Actions: search[<content>]", played.Out, StringComparison.Ordinal);
        Refusals.Refused(["shop", "--goal", "1000000"], "the goals are 0 to");
        Refusals.Refused(["shop", "--port", "1"], "--port needs --serve");
        Refusals.Refused(["shop", "--products", temp["none.json"]], "--products and --attributes go together");
        Refusals.Refused(["shop", "--human-goals", temp["none.json"]], "--human-goals needs --products");
        Refusals.Refused(["shop", "--products", temp["none.json"], "--attributes", temp["none.json"]], "none.json");
        var (products, attributes) = (temp.Write("p.json", Products), temp.Write("a.json", """{"B1": {"attributes": ["sturdy"]}}"""));
        Refusals.Refused(["shop", "--products", products, "--attributes", attributes], "No product of the catalogue has an instruction");
    }
}
