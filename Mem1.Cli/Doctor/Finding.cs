namespace Mem1.Cli.Doctor;

/// <summary>How a check went.</summary>
internal enum Verdict
{
    /// <summary>As it should be.</summary>
    Ok,
    /// <summary>Runs, but not as well as it could, or only a part of it.</summary>
    Warning,
    /// <summary>Will not run.</summary>
    Failure,
    /// <summary>Nothing to check here.</summary>
    Skipped,
}

/// <summary>What a check found.</summary>
/// <param name="Check">What was looked at.</param>
/// <param name="Verdict">How it went.</param>
/// <param name="Found">In a few words.</param>
/// <param name="Advice">What to do; null when there is nothing to do.</param>
internal sealed record Finding(string Check, Verdict Verdict, string Found, string? Advice = null);
