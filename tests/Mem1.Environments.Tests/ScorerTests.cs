using Mem1.Environments.Scoring;

namespace Mem1.Environments.Tests;

public sealed class ScorerTests
{
    private static Objective[] Golds(string spec) =>
        [.. spec.Split(" & ").Select((g, i) => new Objective($"q{i}", "?", g.Split(" | ")))];

    [Theory]
    [InlineData("the beatles", "Beatles | The Fab Four", 1)]
    [InlineData("Beatles", "Beatles", 1)] // the original compares with single characters here
    [InlineData("John F. Kennedy", "john f kennedy", 1)]
    [InlineData("JFK", "John F. Kennedy", 0)]
    [InlineData("jay z", "Jay-Z", 0)]
    [InlineData("jayz", "Jay-Z", 1)]
    [InlineData("...", "The", 0)] // both normalise to nothing, which the original counts as a match
    [InlineData("", "...", 0)]
    public void ExactMatch(string answer, string golds, double expected) =>
        Assert.Equal(expected, AnswerScorer.ExactMatch(answer, golds.Split(" | ")));

    // "fix" rows: what the original gets wrong is stated beside them.
    [Theory]
    [InlineData("Paris; Jay-Z", "Paris & Jay-Z | JAY Z", 2)]
    [InlineData("Jay-Z; Paris", "Paris & Jay-Z | JAY Z", 0)]
    [InlineData("Paris", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData("Paris; jay z; extra", "Paris & Jay-Z | JAY Z", 2)]
    [InlineData("paris;jayz", "Paris & Jay-Z | JAY Z", 2)]
    [InlineData("Paris, Jay-Z", "Paris & Jay-Z | JAY Z", 0)]
    [InlineData(null, "Paris & Jay-Z | JAY Z", 0)]
    [InlineData("", "Paris & Jay-Z | JAY Z", 0)]
    [InlineData("unknown; Jay-Z", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData(null, "The & x", 0)] // fix: the placeholder of the prompt matched an empty gold
    [InlineData("...", "The & x", 0)]
    [InlineData("Paris;", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData(";Jay-Z", "Paris & Jay-Z | JAY Z", 1)]
    [InlineData("The Beatles; paris", "Beatles & Paris", 2)]
    [InlineData("Paris", "Paris", 1)] // fix: 0
    [InlineData("P", "Paris", 0)] // fix: 1
    [InlineData("the", "a b", 0)] // fix: 1
    [InlineData("paris france", "Paris", 0)]
    [InlineData(";;;", "The & A", 0)]
    [InlineData("Paris;", "Paris", 1)]
    [InlineData("A, B", "A; B", 1)] // a golden answer with the separator in it: punctuation does not count
    [InlineData("A; B", "A; B", 1)]
    public void CountsExactMatches(string? answer, string golds, double expected)
    {
        AnswerScore score = AnswerScorer.Score(answer, Golds(golds));
        Assert.Equal(expected, score.ExactMatch.Sum());
        Assert.Equal(expected, new RewardOptions { Kind = RewardKind.Count }.Reward(score.ExactMatch));
        Assert.Equal(expected / score.ExactMatch.Count, new RewardOptions().Reward(score.ExactMatch));
    }

    // Golden answers that hold the separator, among several objectives.
    [Theory]
    [InlineData("K, B; Paris", "K; B & Paris", 2, 2)] // as the prompt asks
    [InlineData("K; B; Paris", "K; B & Paris", 2, 2)] // as it stands
    [InlineData("K;B;Paris", "K;B & Paris", 2, 2)] // no space: the normaliser glues
    [InlineData("K;B;Paris", "K; B & Paris", 2, 2)]
    [InlineData("Paris; K; B", "Paris & K; B", 2, 2)]
    [InlineData("x; y; K; B", "x; y & K; B", 2, 2)]
    [InlineData("K; B; C; z", "K; B; C | K; B & z", 2, 2)] // the longest that fits
    [InlineData("K; Paris", "K; B & Paris", 1, 2)] // half of it is wrong, and moves nothing else
    [InlineData("K; C; Paris", "K; B & Paris", 0, 3)]
    [InlineData("unknown; Paris", "K; B & Paris", 1, 2)]
    [InlineData("K; B", "K & B", 2, 2)] // no golden answer holds it: split as always
    [InlineData("K; B; K; B", "K; B | K & B", 0, 3)] // the longer answer is preferred, then objective 2 is "K"
    [InlineData("x; The Beatles; y", "Beatles; Y & q", 0, 3)]
    public void AnswersThatHoldTheSeparatorAreScoredAsOne(string answer, string golds, double expected, int count)
    {
        AnswerScore score = AnswerScorer.Score(answer, Golds(golds));
        Assert.Equal(expected, golds.StartsWith("K; B | K &", StringComparison.Ordinal) ? score.ExactMatch[1] : score.ExactMatch.Sum());
        Assert.Equal(count, score.AnswerCount);
    }

    [Theory]
    [InlineData("Paris; Jay-Z", "Paris & Jay Z", 1, 1)] // one normaliser: the hyphen glues
    [InlineData("Paris", "Paris & x", 1, 1)] // fix: a count mismatch no longer voids the rest
    [InlineData("Paris; Jay Z; x", "Paris & Jay Z", 2, 2)]
    [InlineData("The Beatles", "Beatles", 1, 1)] // fix: articles go everywhere
    [InlineData("Barack Hussein Obama", "Barack Obama", 0, 0.8)]
    [InlineData("the the the cat", "the cat", 1, 1)]
    [InlineData("cat cat cat", "cat", 0, 0.5)] // multiset: repeats cost precision
    [InlineData("Paris;", "Paris & ...", 1, 1)] // fix: empty never matches empty
    [InlineData("don't", "dont", 1, 1)]
    [InlineData("New York; London", "New York City | NYC & Paris", 0, 0.8)]
    public void SumsOverObjectives(string answer, string golds, double exact, double f1)
    {
        AnswerScore score = AnswerScorer.Score(answer, Golds(golds));
        Assert.Equal(exact, score.ExactMatch.Sum());
        Assert.Equal(f1, score.F1.Sum(), 12);
    }

    [Theory]
    [InlineData("a; b ;c", 3, "a|b|c")]
    [InlineData("a;;c;;", 3, "a||c")]
    [InlineData(" ; ", 2, "")]
    [InlineData("a; b", 1, "a; b")]
    [InlineData("a ; \n", 1, "a")]
    public void Splits(string answer, int objectives, string expected) =>
        Assert.Equal(expected, string.Join('|', AnswerScorer.Split(answer, objectives)));

    [Fact]
    public void AllOrNothingPaysOnlyCompleteAnswers()
    {
        var options = new RewardOptions { Kind = RewardKind.Count, PartialCredit = false };
        Assert.Equal(0, options.Reward([1, 0]));
        Assert.Equal(2, options.Reward([1, 1]));
    }

    [Fact]
    public void NoAnswerWinsByEmptinessOrLeavesTheUnitInterval()
    {
        var random = new Random(11);
        string[] pieces = ["the", "a", "...", ";", " ", "Paris", "", "'", "\u001c", "an"];
        for (int i = 0; i < 3000; i++)
        {
            string answer = string.Concat(Enumerable.Range(0, random.Next(8)).Select(_ => pieces[random.Next(pieces.Length)]));
            AnswerScore empty = AnswerScorer.Score(answer, Golds("The & ... & a"));
            Assert.All(empty.ExactMatch.Concat(empty.F1), s => Assert.Equal(0, s));
            AnswerScore real = AnswerScorer.Score(answer, Golds("Paris & Paris"));
            Assert.All(real.ExactMatch.Concat(real.F1), s => Assert.InRange(s, 0, 1));
        }
    }
}
