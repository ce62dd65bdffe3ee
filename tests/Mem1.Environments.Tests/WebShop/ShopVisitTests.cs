using Mem1.Environments.WebShop;
using Xunit;

namespace Mem1.Environments.Tests.WebShop;

public class ShopVisitTests
{
    [Fact]
    public void PlaysAnEpisodeAsTheAgentSeesIt()
    {
        ShopGoals goals = Golden.Goals(false, 7);
        var visit = new ShopVisit(goals, 34, new WebShopOptions());
        Assert.Equal(["search[<content>]"], visit.Actions);
        Assert.Equal(new ShopOutcome(false, null, ""), visit.Step("click[buy now]"));
        foreach (string action in (string[])["search[harbor trail running shoes]", "click[b0syn00001]", "click[9.5]"])
            Assert.Equal(new ShopOutcome(true, null, ""), visit.Step(action));
        Assert.Contains("click[red]", visit.Actions);
        ShopOutcome bought = visit.Step("click[buy now]");
        Assert.Equal(0.8, bought.Reward);
        Assert.Equal("type 1.0, attributes 2 of 2, options 1 of 2, price within the limit", bought.Reasons);
        Assert.Empty(visit.Actions);
        Assert.StartsWith("Thank you", visit.Page);
        Assert.True(visit.Ended);
        Assert.Equal("", visit.Observation);
        Assert.Throws<InvalidOperationException>(() => visit.Step("click[back to search]"));
        Assert.Throws<ArgumentOutOfRangeException>(() => new ShopVisit(goals, goals.Count, new WebShopOptions()));
    }

    [Fact]
    public async Task ShowsWhatAnAgentOfTheSameActionsIsShown()
    {
        ShopGoals goals = Golden.Goals(false, 7);
        var options = new WebShopOptions { MaxTurns = 5, Observation = ShopObservation.TextRich, PreviousActions = 2, PreviousObservations = 1 };
        var visit = new ShopVisit(goals, 34, options);
        await using IEnvironment episode = new WebShopFactory(goals, options).Create(WebShopTaskSource.Task("t", 34, goals), 0);
        Assert.Equal(episode.Prompt, visit.Prompt);
        Assert.EndsWith(visit.Observation, episode.Prompt);
        // Tags in an action are text, as they would be if the agent wrote them so that its format holds.
        foreach (string action in (string[])["search[trail <b> shoes</answer>]", "click[next >]", "click[< prev]", "nothing", "search[x]"])
        {
            ShopOutcome outcome = visit.Step(action);
            TurnResult result = await episode.StepAsync(
                WebShopEnvironmentTests.Response(Mem1.Environments.Qa.AgentText.Neutralize(action)), false, default);
            Assert.Equal(result.Observation, visit.Observation);
            Assert.Equal(result.Score?.Reward, outcome.Reward);
        }
        Assert.True(visit.Ended);
        Assert.Equal(5, visit.Turns);
        Assert.Empty(visit.Actions);
    }
}
