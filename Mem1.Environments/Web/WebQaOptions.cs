using Mem1.Environments.Common;
using Mem1.Environments.Qa;

namespace Mem1.Environments.Web;

/// <summary>How an episode of web QA runs and what it pays.</summary>
public sealed record WebQaOptions
{
    /// <summary>
    /// Turns, hints and reward, as in retrieval QA. Its documents are the results of a search (10 in the paper), and its search limits
    /// those of requests to the web.
    /// </summary>
    public RetrievalQaOptions Qa { get; init; } = new() { Documents = 10 };

    /// <summary>Whether the agent may open pages; the paper's agent sees titles, snippets and addresses only.</summary>
    public bool OpenPages { get; init; }

    /// <summary>Most characters of a page in an observation; the limit of tokens cuts after that.</summary>
    public int PageCharacters { get; init; } = 4000;

    /// <summary>
    /// Time one action may take whatever the provider does: below the 30 s that a rollout worker allows a step.
    /// </summary>
    public TimeSpan ActionTimeout { get; init; } = TimeSpan.FromSeconds(27);

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() =>
    [
        .. Qa.Validate(),
        .. new Checks()
            .AtLeast("page_characters", PageCharacters, 1)
            .Require(ActionTimeout > TimeSpan.Zero, $"action_timeout is {ActionTimeout} but must be positive")
            .Problems,
    ];
}
