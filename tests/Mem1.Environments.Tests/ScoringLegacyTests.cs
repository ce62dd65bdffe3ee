// Expected values are those of the original's own functions, run; what they get wrong is part of them.
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Tests;

public sealed class ScoringLegacyTests
{
    private static string[][] Golds(string spec) => [.. spec.Split(" & ").Select(g => g.Split(" | "))];

    [Theory]
    [InlineData("the beatles", "Beatles | The Fab Four", 1)]
    [InlineData("JFK", "John F. Kennedy", 0)]
    [InlineData("jay z", "Jay-Z", 0)]
    [InlineData("...", "The", 1)] // both empty
    [InlineData("", "...", 1)]
    [InlineData("Paris; Jay-Z", "Paris & Jay-Z | JAY Z", 2)]
    [InlineData("Jay-Z; Paris", "Paris & Jay-Z | JAY Z", 0)]
    [InlineData("Paris", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData("Paris; jay z; extra", "Paris & Jay-Z | JAY Z", 2)]
    [InlineData("Paris, Jay-Z", "Paris & Jay-Z | JAY Z", 0)]
    [InlineData(null, "Paris & Jay-Z | JAY Z", 0)]
    [InlineData(null, "The & x", 1)] // the prompt's placeholder equals an empty golden answer
    [InlineData(";Jay-Z", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData("A; B", "x; y & z", 0)]
    public void Training(string? answer, string golds, double expected) => Check(LegacyRule.Training, answer, golds, expected);

    [Theory]
    [InlineData("It is Paris, France", "Paris", true)]
    [InlineData("Paris", "Paris, France", false)]
    [InlineData("anything", "The", true)]
    [InlineData("Comparison", "Paris", true)]
    public void Within(string answer, string golden, bool expected) => Assert.Equal(expected, LegacyScorer.IsWithin(answer, [golden]));

    [Theory]
    [InlineData("no tags", null)]
    [InlineData("<answer>one</answer>", null)]
    [InlineData("<answer> ... </answer> then <answer> Paris </answer>", "Paris")]
    [InlineData("<answer>a</answer><answer>b</answer><answer> c\n</answer>", "c")]
    [InlineData("<answer>a</answer> <answer>unclosed", null)]
    [InlineData("<answer>a <answer>b</answer> <answer>c</answer>", "c")]
    [InlineData("<Answer>a</Answer><answer>b</answer>", null)]
    [InlineData("<answer>a</answer></answer><answer></answer>", "")]
    [InlineData("x</answer><answer>y</answer><answer>z", null)]
    public void ExtractsAsTrainingDid(string transcript, string? expected) => Assert.Equal(expected, LegacyScorer.ExtractTraining(transcript));

    [Theory]
    [InlineData("The Beatles", "the beatles")]
    [InlineData("A.B.C.", "a b c")]
    [InlineData("don't", "don t")]
    [InlineData("...", "")]
    [InlineData("$1.5 million", "1 5 million")]
    [InlineData("  x\ty\n z", "x y z")]
    [InlineData("“Hello”", "“hello”")]
    public void PreprocessesAsEvaluationDid(string text, string expected) => Assert.Equal(expected, LegacyScorer.Preprocess(text));

    [Theory]
    [InlineData("<answer>Paris; Jay-Z</answer>", "Paris & Jay Z", 2, 2)]
    [InlineData("<answer>Paris</answer>", "Paris & x", 0, 0)]
    [InlineData("<answer>Paris; Jay Z; x</answer>", "Paris & Jay Z", 0, 0)]
    [InlineData("<answer>The Beatles</answer>", "Beatles", 0, 0.6666666666666666)]
    [InlineData("<answer>Barack Hussein Obama</answer>", "Barack Obama", 0, 0.8)]
    [InlineData("<answer>the the the cat</answer>", "the cat", 0, 1)]
    [InlineData("<answer>a</answer><answer>Paris</answer>", "Paris", 1, 1)]
    [InlineData("<answer>a</answer><answer>Paris", "Paris", 0, 0)]
    [InlineData("</answer><answer>", "Paris", 0, 0)]
    [InlineData("Paris", "Paris", 0, 0)]
    [InlineData("<answer>Paris;</answer>", "Paris", 0, 0)]
    [InlineData("<answer>Paris;</answer>", "Paris & ...", 2, 1)]
    [InlineData("<answer>don't</answer>", "dont", 0, 0)]
    [InlineData("x<|im_start|>assistant<answer>paris</answer>", "Paris", 1, 1)]
    [InlineData("<ANSWER>Paris</ANSWER>", "Paris", 1, 1)]
    [InlineData("<answer>New York; London</answer>", "New York City | NYC & Paris", 0, 0.8)]
    public void Evaluation(string solution, string golds, double exact, double f1)
    {
        (double exactMatch, double foundF1) = LegacyScorer.EvaluationScore(solution, Golds(golds));
        Assert.Equal(exact, exactMatch);
        Assert.Equal(f1, foundF1, 15);
    }

    [Theory]
    [InlineData("<answer>a</answer>", true)]
    [InlineData("<answer><answer></answer></answer>", true)]
    [InlineData("</answer><answer>", false)]
    [InlineData("<answer>", false)]
    [InlineData("<think><answer>x</answer>", true)]
    [InlineData("<answer>a</answer></answer><answer>", false)]
    public void Balance(string text, bool expected) => Assert.Equal(expected, LegacyScorer.IsBalanced(text));

    [Theory]
    [InlineData("Paris; Jay-Z", "Paris & Jay-Z", 2)]
    [InlineData("Paris, France; Jay", "Paris & Jay-Z", 2)]
    [InlineData("Paris", "Paris & Jay-Z", 0)]
    [InlineData(";", "Paris & Jay-Z", 2)]
    [InlineData("Paris; JAY Z", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData(null, "Paris & Jay-Z", 0)]
    [InlineData("a; e", "Paris & Texas", 2)]
    [InlineData("Paris;Jay-Z;x;y", "Paris & Jay-Z", 2)]
    [InlineData("Paris", "Paris", 1)] // one question from here on
    [InlineData("target", "Paris", 1)]
    [InlineData("Paris, France", "Paris", 0)]
    [InlineData("", "Paris", 1)]
    [InlineData(null, "Paris", 0)]
    [InlineData("]", "Paris", 1)]
    [InlineData("\"O'Hara\"", "O'Hara", 1)]
    public void Rollout(string? answer, string golds, double expected) => Check(LegacyRule.Rollout, answer, golds, expected);

    [Fact]
    public void AMissingAnswerReadsNoneToTheRolloutDriver() =>
        Assert.Equal(1, LegacyScorer.RolloutMatches(null, [["None of the above"]]));

    [Fact]
    public void EvaluationOfAnAnswerIsThatOfItsBlock()
    {
        Check(LegacyRule.Evaluation, "Paris; Jay-Z", "Paris & Jay Z", 2);
        Check(LegacyRule.Evaluation, "Paris", "Paris & Jay Z", 0);
        Check(LegacyRule.Evaluation, null, "...", 0);
    }

    private const string Prompted = "Write <answer> answer1; answer2; ... </answer>, as in <answer> ... </answer>.\n";

    /// <summary>The rule for single questions, over whole transcripts.</summary>
    [Theory]
    [InlineData(Prompted + "<answer>Paris</answer>", "Paris", 1, 1)]
    [InlineData(Prompted + "<answer>paris france</answer>", "Paris", 0, 1)]
    [InlineData(Prompted, "Paris", 0, 0)]
    [InlineData("<answer>Paris</answer>", "Paris", 0, 0)] // one block is taken for the prompt's
    [InlineData(Prompted + "<answer>the beatles</answer>", "Beatles | The Fab Four", 1, 1)]
    [InlineData(Prompted + "<answer>jayz</answer>", "Jay-Z", 1, 1)]
    [InlineData(Prompted + "<answer>jay z</answer>", "Jay-Z", 0, 0)]
    public void SingleQuestions(string transcript, string golden, double exact, double within)
    {
        Assert.Equal(exact, LegacyScorer.SingleScore(transcript, golden.Split(" | ")));
        Assert.Equal(within, LegacyScorer.SingleScore(transcript, golden.Split(" | "), within: true));
    }

    /// <summary>Training took the text of a single golden answer for a list of characters.</summary>
    [Theory]
    [InlineData("Paris", "Paris", 0)]
    [InlineData("P", "Paris", 1)]
    [InlineData("the", "a b", 1)]
    [InlineData("Beatles", "Beatles", 0)]
    public void TrainingOnSingleQuestions(string answer, string golden, double expected) =>
        Assert.Equal(expected, LegacyScorer.TrainingMatchesOfOne(answer, [golden]));

    private const string Assistant = "<|im_start|>assistant\n";

    [Theory]
    [InlineData(Assistant + "<think>x</think><answer>paris france</answer>", "paris", 0.6666666666666666)]
    [InlineData(Assistant + "<think>x</think><answer>Paris</answer>", "Paris", 0)] // the golden answer keeps its capital letter
    [InlineData(Assistant + "<answer>the cat</answer><answer>paris</answer>", "paris", 0)] // the first answer counts
    [InlineData(Assistant + "<think>x<answer>paris</answer>", "paris", 0)]
    [InlineData(Assistant + "nothing", "paris", 0)]
    [InlineData(Assistant + "<answer>2008</answer>", "2008", 1)]
    [InlineData("<answer>paris</answer>" + Assistant + "<answer>rome</answer>", "paris | rome italy", 0.6666666666666666)]
    [InlineData("<answer><answer>x</answer></answer>", "x", 0.6666666666666666)] // balanced, and its text is "<answer>x"
    [InlineData("</answer><answer>", "x", 0)]
    public void WebSearch(string transcript, string golden, double expected) =>
        Assert.Equal(expected, LegacyScorer.WebSearchF1(transcript, golden.Split(" | ")));

    [Theory]
    [InlineData("The Beatles", "The Beatles")]
    [InlineData("U.S.A.", "U S A")]
    public void WebSearchKeepsCase(string text, string expected) => Assert.Equal(expected, LegacyScorer.Spaced(text));

    private static void Check(LegacyRule rule, string? answer, string golds, double expected) => Assert.Equal(
        expected, LegacyScorer.ExactMatches(rule, answer, [.. Golds(golds).Select((g, i) => new Objective($"{i}", "?", g))]));
}
