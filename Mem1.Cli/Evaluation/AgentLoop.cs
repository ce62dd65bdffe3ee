// The one loop that every agent plays. Invariants:
//  * Agents differ in what they see and in nothing else: tasks, limits, parsing, hints and the model are the same.
//  * With the policy mem1 an episode is that of a rollout worker, token for token (EpisodeActor).
//  * A context leaves room for at least one token; when the next one would not, the episode ends with context_full.
//  * Every call of the environment ends by a deadline; one that fails is tried again as a rollout worker would, and an environment that
//    keeps failing ends its episode, which is a row like any other: all objectives wrong, with the cause.
using System.Diagnostics;
using Mem1.Actors;
using Mem1.Environments;
using Mem1.Model;

namespace Mem1.Cli.Evaluation;

/// <summary>What bounds an episode.</summary>
/// <param name="MaxContext">Longest sequence, context and continuation together, in tokens.</param>
/// <param name="MaxObservation">Longest observation in tokens.</param>
/// <param name="Temperature">0 is greedy.</param>
/// <param name="Patience">With the environment.</param>
internal sealed record LoopLimits(int MaxContext, int MaxObservation, float Temperature, EnvironmentPatience Patience);

/// <summary>How long an environment is waited for.</summary>
/// <param name="Deadline">Time one call may take before it is cancelled.</param>
/// <param name="Grace">Time a cancelled call may take to return; after that it is not asked again.</param>
/// <param name="Retries">Further attempts of a call that failed.</param>
/// <param name="Wait">Before the first of them; it doubles for each one after.</param>
internal sealed record EnvironmentPatience(TimeSpan Deadline, TimeSpan Grace, int Retries, TimeSpan Wait)
{
    /// <summary>That of a rollout worker (RolloutWorkerOptions).</summary>
    public static EnvironmentPatience Standard { get; } = new(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(5), 3, TimeSpan.FromMilliseconds(200));
}

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
        var patience = limits.Patience;
        var session = new EnvironmentSession(patience.Deadline, patience.Grace, serial: false, TimeProvider.System);
        var progress = new Progress();
        try
        {
            return await PlayAsync(session, progress, policy, task, seed, maxNew, episode, watch, cancellationToken).ConfigureAwait(false);
        }
        catch (EnvironmentFault fault)
        {
            double[] nothing = new double[task.Objectives.Count];
            return new EpisodeRecord(
                policy.Name, task.Objectives.Count, episode, task.Id, fault.End, 0, nothing, nothing, "",
                [.. task.Objectives.Select(o => o.GoldenAnswers)], progress.PromptTokens, progress.Failures, watch.Elapsed.TotalSeconds,
                progress.Turns)
            {
                Failure = fault.Message,
                Retries = progress.Retries,
            };
        }
        finally
        {
            // Disposed once its last call has returned, for which nobody waits longer than for a call.
            await session.CloseAsync().WaitAsync(patience.Grace, CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>How far an episode has come.</summary>
    private sealed class Progress
    {
        public int PromptTokens { get; set; }

        public List<TurnRecord> Turns { get; } = [];

        /// <summary>Failures that became observations.</summary>
        public int Failures { get; set; }

        /// <summary>Calls of the environment that were made again.</summary>
        public int Retries { get; set; }
    }

    /// <summary>The environment has failed for good.</summary>
    private sealed class EnvironmentFault(string end, string message, Exception inner) : Exception(message, inner)
    {
        public string End { get; } = end;
    }

    private async Task<EpisodeRecord> PlayAsync(
        EnvironmentSession session, Progress progress, IContextPolicy policy, EnvironmentTask task, ulong seed, int maxNew, int episode,
        Stopwatch watch, CancellationToken cancellationToken)
    {
        var environment = await Call(() => session.CreateAsync(environments, task, seed)).ConfigureAwait(false);
        var prompt = tokenizer.EncodePrompt(environment.Prompt);
        progress.PromptTokens = prompt.Length;
        if (prompt.Length == 0 || prompt.Length >= limits.MaxContext)
        {
            throw new UserErrorException(
                $"the prompt of task {task.Id} has {prompt.Length} tokens; the model's context holds {limits.MaxContext}, with room for an answer: "
                + "ask for fewer --objectives or use a model with a longer context.");
        }

        var history = new EpisodeHistory { Prompt = environment.Prompt };
        var turns = progress.Turns;
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
            var (state, action) = ResponseTokens.Split(response.Tokens, environments.InternalStateEnd, tokenizer);
            TurnRecord Turn(int observed, string observation) => new(
                "turn", context, response.Tokens.Length, state.Length, observed, Name(response.Finish), text, observation);
            TurnResult result;
            try
            {
                result = await Call(() => session.StepAsync(text, response.Finish == FinishReason.Length)).ConfigureAwait(false);
            }
            catch (EnvironmentFault)
            {
                turns.Add(Turn(0, "")); // its tokens were read and written
                throw;
            }

            progress.Failures += result.Failures;
            int[] observation = [];
            if (result.End == EpisodeEnd.None)
            {
                observation = ObservationTokens.Encode(tokenizer, result.Observation, environments.ObservationEnd, limits.MaxObservation);
                var (keptState, keptAction) = ResponseTokens.Kept(state, action, environments.DiscardedEnd, tokenizer);
                history.Add(new PastTurn(response.Tokens, [.. keptState, .. keptAction], observation, $"{text}\n{result.Observation}"));
                if (turn + 1 >= environment.MaxTurns)
                    result = Abort(EpisodeEnd.TurnLimit);
                else if (!Fits())
                    result = Abort(EpisodeEnd.ContextFull);
                if (result.End != EpisodeEnd.None) observation = [];
            }

            turns.Add(Turn(observation.Length, observation.Length > 0 ? result.Observation : ""));
            if (result.End == EpisodeEnd.None) continue;
            var score = result.Score!;
            return new EpisodeRecord(
                policy.Name, task.Objectives.Count, episode, task.Id, Name(result.End), score.Reward, score.ExactMatch, score.F1, score.Answer,
                [.. task.Objectives.Select(o => o.GoldenAnswers)], prompt.Length, progress.Failures, watch.Elapsed.TotalSeconds, turns)
            {
                Retries = progress.Retries,
            };
        }

        async Task<T> Call<T>(Func<Task<T>> call)
        {
            for (var attempt = 0; ; attempt++)
            {
                try
                {
                    return await call().WaitAsync(cancellationToken).ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
                {
                    throw;
                }
                catch (Exception e)
                {
                    if (e is EnvironmentStuckException || attempt == limits.Patience.Retries) throw Fault(e, attempt + 1);
                }

                progress.Retries++;
                // Ten doublings are a thousand times the first wait; nobody means to wait longer.
                await Task.Delay(limits.Patience.Wait * (1 << Math.Min(attempt, 10)), cancellationToken).ConfigureAwait(false);
            }
        }

        TurnResult Abort(EpisodeEnd reason)
        {
            try
            {
                return session.Abort(reason);
            }
            catch (Exception e)
            {
                throw Fault(e, 1);
            }
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

    private static EnvironmentFault Fault(Exception e, int attempts) => e switch
    {
        EnvironmentStuckException => new EnvironmentFault(EpisodeRecord.EnvironmentTimeout, e.Message, e),
        _ => new EnvironmentFault(
            e is TimeoutException ? EpisodeRecord.EnvironmentTimeout : EpisodeRecord.EnvironmentError,
            $"The environment failed {attempts} {(attempts == 1 ? "time" : "times in a row")}, last with {e.GetType().Name}: {e.Message}", e),
    };

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
