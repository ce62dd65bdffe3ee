namespace Mem1.Learner;

/// <summary>The time in which discount and trace decay run.</summary>
public enum CreditTime
{
    /// <summary>Every generated token is a step.</summary>
    Token,
    /// <summary>Every turn is a step: within a turn nothing is discounted.</summary>
    Turn,
}

/// <summary>Where time goes on.</summary>
internal static class Clock
{
    /// <summary>For each generated token whether a step of time ends with it; empty when every token is a step.</summary>
    public static bool[] Ticks(Trajectory trajectory, CreditTime time)
    {
        if (time == CreditTime.Token) return [];
        var ticks = new bool[trajectory.GeneratedTokens];
        var at = -1;
        foreach (var turn in trajectory.Turns)
        {
            at += turn.Generated.Length;
            ticks[at] = true;
        }

        return ticks;
    }
}
