// The one loop that every agent plays. Invariants:
//  * Agents differ in what they see and in nothing else: tasks, limits, parsing, hints and the model are the same.
//  * With the policy mem1 an episode is that of a rollout worker, token for token (EpisodeActor).
//  * A context leaves room for at least one token; when the next one would not, the episode ends with context_full.
using System.Diagnostics;
using Mem1.Actors;
using Mem1.Environments;
using Mem1.Model;

namespace Mem1.Cli.Evaluation;

/// <summary>What bounds an episode.</summary>
/// <param name="MaxContext">Longest sequence, context and continuation together, in tokens.</param>
/// <param name="MaxObservation">Longest observation in tokens.</param>
/// <param name="Temperature">0 is greedy.</param>
internal sealed record LoopLimits(int MaxContext, int MaxObservation, float Temperature);

/// <summary>Plays episodes.</summary>
internal sealed class AgentLoop(IEnvironmentFactory environments, ITokenizer tokenizer, IPolicyModel model, LoopLimits limits)
{
    /// <summary>Plays one episode to its end.</summary>
    /// <param name="policy">What the agent sees.</param>
    /// <param name="task">What it is asked.</param>
    /// <param name="seed">Of environment and sampling.</param>
    /// <param name="maxNew">Tokens of one continuation.</param>
    /// <param name="episode">Its number.</param>
    /// <param name="cancellationToken">Stops it without a result.</param>
    /// <exception cref="UserErrorException">The prompt does not fit the model, or the model cannot be reached.</exception>
    public async Task<EpisodeRecord> PlayAsync(
        IContextPolicy policy, EnvironmentTask task, ulong seed, int maxNew, int episode, CancellationToken cancellationToken)
    {
        var watch = Stopwatch.StartNew();
        var environment = environments.Create(task, seed);
        await using var _ = environment.ConfigureAwait(false);
        var prompt = tokenizer.EncodePrompt(environment.Prompt);
        if (prompt.Length == 0 || prompt.Length >= limits.MaxContext)
        {
            throw new UserErrorException(
                $"the prompt of task {task.Id} has {prompt.Length} tokens; the model's context holds {limits.MaxContext}, with room for an answer: "
                + "ask for fewer --objectives or use a model with a longer context.");
        }

        var history = new EpisodeHistory { Prompt = environment.Prompt };
        var turns = new List<TurnRecord>();
        var failures = 0;
        for (var turn = 0; ; turn++)
        {
            if (policy.SummariseNow(history))
            {
                // The memory is rewritten on what the agent sees now, up to the tag that closes an internal state.
                var (asked, written) = await Ask([environments.InternalStateEnd], turn, salt: 1).ConfigureAwait(false);
                // A text's end within a context would be read as one.
                var summary = written.Finish == FinishReason.EndOfText ? written.Tokens[..^1] : written.Tokens;
                turns.Add(new TurnRecord(
                    "summary", asked, written.Tokens.Length, written.Tokens.Length, 0, Name(written.Finish), tokenizer.Decode(summary), ""));
                history.Summarise(summary);
            }

            var (context, response) = await Ask(environments.StopStrings, turn, salt: 0).ConfigureAwait(false);
            var text = ResponseTokens.Text(
                new GenerationResult(0, response.Tokens, [], [], response.Finish), environments.StopStrings, tokenizer);
            var result = await environment.StepAsync(text, response.Finish == FinishReason.Length, cancellationToken).ConfigureAwait(false);
            failures += result.Failures;
            var (state, action) = ResponseTokens.Split(response.Tokens, environments.InternalStateEnd, tokenizer);
            int[] observation = [];
            if (result.End == EpisodeEnd.None)
            {
                observation = ObservationTokens.Encode(tokenizer, result.Observation, environments.ObservationEnd, limits.MaxObservation);
                var (keptState, keptAction) = ResponseTokens.Kept(state, action, environments.DiscardedEnd, tokenizer);
                history.Add(new PastTurn(response.Tokens, [.. keptState, .. keptAction], observation, $"{text}\n{result.Observation}"));
                if (turn + 1 >= environment.MaxTurns)
                    result = environment.Abort(EpisodeEnd.TurnLimit);
                else if (!Fits())
                    result = environment.Abort(EpisodeEnd.ContextFull);
                if (result.End != EpisodeEnd.None) observation = [];
            }

            turns.Add(new TurnRecord(
                "turn", context, response.Tokens.Length, state.Length, observation.Length, Name(response.Finish), text,
                observation.Length > 0 ? result.Observation : ""));
            if (result.End == EpisodeEnd.None) continue;
            var score = result.Score!;
            return new EpisodeRecord(
                policy.Name, task.Objectives.Count, episode, task.Id, Name(result.End), score.Reward, score.ExactMatch, score.F1, score.Answer,
                [.. task.Objectives.Select(o => o.GoldenAnswers)], prompt.Length, failures, watch.Elapsed.TotalSeconds, turns);
        }

        bool Fits() => prompt.Length + policy.Select(history).Length < limits.MaxContext;

        async Task<(int Context, PolicyResponse Response)> Ask(IReadOnlyList<string> stops, int turn, ulong salt)
        {
            var seen = policy.Select(history);
            var context = prompt.Length + seen.Length;
            // A summary takes no more than this, and the context it replaces was not empty: after it, too, there is room.
            var room = limits.MaxContext - context;
            var response = await model.GenerateAsync(
                new PolicyRequest(
                    environment.Prompt, prompt, seen, new SamplingOptions(limits.Temperature, 1, Math.Min(maxNew, room)), stops,
                    TurnSeed.Mix(seed + salt, turn)),
                cancellationToken).ConfigureAwait(false);
            return (context, response);
        }
    }

    private static string Name(FinishReason finish) => finish switch
    {
        FinishReason.Stop => "stop",
        FinishReason.EndOfText => "end_of_text",
        _ => "length",
    };

    /// <summary>As run folders have it.</summary>
    internal static string Name(EpisodeEnd end) => end switch
    {
        EpisodeEnd.Answered => "answered",
        EpisodeEnd.TurnLimit => "turn_limit",
        EpisodeEnd.InvalidFormat => "invalid_format",
        EpisodeEnd.Length => "length",
        EpisodeEnd.ContextFull => "context_full",
        _ => throw new ArgumentOutOfRangeException(nameof(end)),
    };
}
