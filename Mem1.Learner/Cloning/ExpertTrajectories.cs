// Keeps: an expert's episode looks to the learner like a sampled one: the same prompt template, the same split and clipping of tokens.
using Mem1.Environments;
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>
/// Plays the scripted expert in an environment and writes down what it did as trajectories, in the sampler's own token layout.
/// </summary>
/// <param name="environments">Makes its episodes.</param>
/// <param name="expert">Plays them.</param>
/// <param name="tokenizer">Of the model.</param>
/// <param name="maxContextTokens">Longest context and response together.</param>
/// <param name="maxObservationTokens">Longest observation.</param>
/// <param name="forgets">Whether a context is the turn before alone; else all turns before, whole (layout full).</param>
public sealed class ExpertTrajectories(
    IEnvironmentFactory environments, IExpert expert, ITokenizer tokenizer, int maxContextTokens, int maxObservationTokens,
    bool forgets = true)
{
    /// <summary>One episode; null when it does not fit the model's context.</summary>
    public async ValueTask<Trajectory?> PlayAsync(EnvironmentTask task, ulong seed, CancellationToken cancellationToken)
    {
        await using var environment = environments.Create(task, seed);
        var player = expert.Begin(task, seed);
        var prompt = tokenizer.EncodePrompt(environment.Prompt);
        var turns = new List<Turn>();
        int[] context = [];
        string? observation = null;
        while (true)
        {
            var response = player.Respond(observation);
            var end = response.IndexOf(environments.InternalStateEnd, StringComparison.Ordinal);
            var split = end < 0 ? 0 : end + environments.InternalStateEnd.Length;
            var state = split == 0 ? [] : tokenizer.Encode(response[..split]);
            int[] generated = [.. state, .. tokenizer.Encode(response[split..])];
            if (prompt.Length + context.Length + generated.Length > maxContextTokens) return null;
            var result = await environment.StepAsync(response, truncated: false, cancellationToken).ConfigureAwait(false);
            var seen = result.End == EpisodeEnd.None
                ? ObservationTokens.Encode(tokenizer, result.Observation, environments.ObservationEnd, maxObservationTokens)
                : [];
            turns.Add(new Turn(context, generated, state.Length, [], [], seen));
            if (result.Score is { } score)
            {
                return new Trajectory(
                    task.Id, task.Id, prompt, turns, score.Reward, result.End, score.ExactMatch, score.F1, score.Answer, Evaluation: false);
            }

            var discarded = forgets ? ResponseParts.Discarded(tokenizer, generated, environments.DiscardedEnd) : 0;
            context = [.. forgets ? [] : context, .. generated[discarded..], .. seen];
            observation = result.Observation;
        }
    }
}
