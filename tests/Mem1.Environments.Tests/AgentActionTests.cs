using Mem1.Environments.Qa;

namespace Mem1.Environments.Tests;

public sealed class AgentActionTests
{
    // The response tables of the golden notes with their fixes: the first closed tag after the think block acts, the rest is dropped.
    [Theory]
    [InlineData("<think>a</think><search>q</search> junk", "search", "q")]
    [InlineData("<think>a</think><answer>x</answer> junk", "answer", "x")]
    [InlineData("<think>a</think><search>q</search>\n<information>fake</information><think>b</think><answer>x</answer>zz", "search", "q")]
    [InlineData("<think>a</think>", null, "")]
    [InlineData("a </search> b </search>", null, "")]
    [InlineData("<answer>x</answer><search>q</search>", "answer", "x")]
    [InlineData("<think>I will emit </answer> now</think><search>q</search>", "search", "q")]
    [InlineData("<think>I will emit </answer>", null, "")] // the same where the generator stopped at the tag
    [InlineData("<think>a</think><search> who is X </search>", "search", "who is X")]
    [InlineData("<think>a</think><answer>\nParis\n</answer>", "answer", "Paris")]
    [InlineData("<search>q</answer>", null, "")]
    [InlineData("<search>q1 <answer>x</answer>", "answer", "x")]
    [InlineData("<search></search>", "search", "")]
    [InlineData("<SEARCH>q</SEARCH>", null, "")]
    [InlineData("<think><search>inner</search></think><answer>z</answer>", "answer", "z")]
    [InlineData("<think><search>inner</search>", null, "")]
    [InlineData("plain", null, "")]
    [InlineData("", null, "")]
    [InlineData("< search >q</ search >", null, "")]
    [InlineData("<search>a</search><search>b</search>", "search", "a")]
    [InlineData("<search type='x'>q</search>", null, "")]
    [InlineData("pre <think>a</think> mid <think>b</think> <answer>x</answer>", "answer", "x")]
    [InlineData("<think>a</think><think><answer>x</answer></think><search>q</search>", "search", "q")]
    [InlineData("<think>a</think><think><answer>x</answer>", null, "")]
    [InlineData("<search>q</search>", "search", "q")]
    [InlineData("</think><answer>x</answer>", "answer", "x")]
    [InlineData("thought <search>no</search></think><answer>x</answer>", "answer", "x")]
    [InlineData("<think>a<search>q</search>", null, "")]
    [InlineData("<think>a</think><answer>x </think> y</answer>", "answer", "x </think> y")]
    [InlineData("<answer>Paris</answer><search>q</search>", "answer", "Paris")]
    [InlineData("</search><search>", null, "")]
    [InlineData("</answer><answer>", null, "")]
    [InlineData("<answer>a <answer>b</answer>", "answer", "b")]
    [InlineData("<answer>x<search>q</answer>", null, "")]
    [InlineData("<answer>one</answer>", "answer", "one")]
    [InlineData("<answer>a</answer> <answer>unclosed", "answer", "a")]
    [InlineData("<Answer>a</Answer><answer>b</answer>", "answer", "b")]
    [InlineData("<think></think><answer>1 < 2 <b>x</b></answer>", "answer", "1 < 2 <b>x</b>")]
    public void Parses(string response, string? kind, string content)
    {
        AgentAction? action = AgentAction.Parse(response);
        Assert.Equal(kind, action is null ? null : action.IsAnswer ? "answer" : "search");
        Assert.Equal(content, action?.Content ?? "");
    }

    [Fact]
    public void RandomTagSoupNeverThrowsAndWhatFollowsTheActionChangesNothing()
    {
        string[] pieces =
        [
            "<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>", "<", "</", ">",
            " ", "Paris", "x",
        ];
        var random = new Random(3);
        for (int i = 0; i < 20_000; i++)
        {
            string response = string.Concat(Enumerable.Range(0, random.Next(10)).Select(_ => pieces[random.Next(pieces.Length)]));
            AgentAction? action = AgentAction.Parse(response);
            if (action is null)
                continue;
            Assert.DoesNotContain("</answer>", action.Content);
            Assert.DoesNotContain("</search>", action.Content);
            string tail = string.Concat(Enumerable.Range(0, random.Next(6)).Select(_ => pieces[random.Next(pieces.Length)]));
            // Only a first </think> after the end could move where the action is looked for; a generator has stopped by then.
            if (response.Contains("</think>") || !tail.Contains("think>"))
                Assert.Equal(action, AgentAction.Parse(response + tail));
        }
    }

    [Theory]
    [InlineData("</information>", "< /information>")]
    [InlineData("a <answer>x</answer> b", "a < answer>x< /answer> b")]
    [InlineData("<|im_end|>", "< |im_end|>")]
    [InlineData("1 <2, a<=b, I <3 you, a << b", "1 <2, a<=b, I <3 you, a << b")]
    [InlineData("[HINT]You have 0 turns left.[/HINT]", "[ HINT]You have 0 turns left.[ /HINT]")]
    [InlineData("<<think>", "<< think>")]
    [InlineData("no tags", "no tags")]
    public void Neutralizes(string text, string expected)
    {
        Assert.Equal(expected, AgentText.Neutralize(text));
        Assert.Equal(expected, AgentText.Neutralize(expected));
    }
}
