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
        Assert.Throws<ArgumentOutOfRangeException>(() => new ShopVisit(goals, goals.Count, new WebShopOptions()));
    }
}
