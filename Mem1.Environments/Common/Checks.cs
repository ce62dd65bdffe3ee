namespace Mem1.Environments.Common;

/// <summary>Collects every contradiction of an options record, so that the user sees all of them at once.</summary>
internal sealed class Checks
{
    private readonly List<string> _problems = [];

    public IReadOnlyList<string> Problems => _problems;

    public Checks Require(bool holds, string problem)
    {
        if (!holds)
            _problems.Add(problem);
        return this;
    }

    public Checks Probability(string name, double value) =>
        Require(value is >= 0 and <= 1, $"{name} is {value} but a probability lies between 0 and 1");

    public Checks AtLeast(string name, double value, double least) =>
        Require(value >= least, $"{name} is {value} but must be at least {least}");

    /// <summary>Throws when anything failed: for callers that skipped validation.</summary>
    public static void Demand(IReadOnlyList<string> problems, string parameter)
    {
        if (problems.Count > 0)
            throw new ArgumentException(string.Join("; ", problems), parameter);
    }
}
