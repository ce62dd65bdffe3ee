using System.Text.RegularExpressions;
using Mem1.Environments.Qa;

namespace Mem1.Environments.Web;

/// <summary>
/// Plays web QA as <see cref="RetrievalQaExpert"/> plays retrieval QA; where pages can be opened, it opens the first page of a search
/// whose snippets do not hold the answer. Thread-safe.
/// </summary>
public sealed partial class WebQaExpert : IExpert
{
    private readonly RetrievalQaExpert _expert;

    /// <summary>Makes the expert.</summary>
    /// <param name="environment">Options of the environment it will play.</param>
    /// <param name="options">How it errs.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WebQaExpert(WebQaOptions environment, RetrievalQaExpertOptions options) =>
        _expert = new RetrievalQaExpert(environment.Qa, options, environment.OpenPages ? FirstAddress : null);

    /// <inheritdoc/>
    public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => _expert.Begin(task, seed);

    private static string? FirstAddress(string observation) =>
        AddressLine().Match(observation) is { Success: true } match ? match.Groups[1].Value : null;

    // An address holds no "<": what follows the last one of an observation is the closing tag.
    [GeneratedRegex(@"^URL: ([^\s<]+)", RegexOptions.Multiline | RegexOptions.CultureInvariant)]
    private static partial Regex AddressLine();
}
