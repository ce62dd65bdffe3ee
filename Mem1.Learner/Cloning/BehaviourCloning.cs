// Keeps: cross-entropy on the tokens the expert generated, nothing else; the data of step s depends on (seed, s) only through one seeded
// stream, so the same seed clones the same model; what is saved between two steps goes on to the same weights, bit for bit.
using Mem1.Environments;
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>Progress of cloning.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="Steps">Steps in all.</param>
/// <param name="Loss">Mean cross-entropy per token, in nats, since the last report.</param>
/// <param name="TokensPerSecond">Padded tokens learned from per second since the last report.</param>
public readonly record struct CloningProgress(int Step, int Steps, double Loss, double TokensPerSecond);

/// <summary>The warm start: imitates the scripted expert until the model plays about as badly.</summary>
/// <param name="options">Validated.</param>
/// <param name="expert">Plays and writes down.</param>
/// <param name="tasks">The task of each episode, from 0, and the seed of everything random in it.</param>
/// <param name="compute">What is recomputed rather than kept; nothing if not given.</param>
/// <param name="layout">Of the passes; segments if not given. What the expert wrote down must be of its kind.</param>
public sealed class BehaviourCloning(
    CloningOptions options, ExpertTrajectories expert, Func<long, (EnvironmentTask Task, ulong Seed)> tasks, ComputeOptions? compute = null,
    ILayout? layout = null)
{
    private readonly ILayout _layout = layout ?? new SegmentsLayout();

    private readonly ComputeOptions _compute = compute ?? new ComputeOptions();

    // Batches are cut from a pool of this many after sorting by length: enough to pad little, few enough to stay fresh.
    private const int PoolBatches = 16;

    // Reporting more often costs a device synchronisation; less often makes the progress line look stuck.
    private const int ReportEvery = 25;

    /// <summary>Trains a model in place.</summary>
    /// <param name="model">Its value head, if any, is left alone.</param>
    /// <param name="seed">Of the order of turns.</param>
    /// <param name="progress">Called every few steps and at the end.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <param name="saving">Where to go on from and when to save; null to do neither.</param>
    /// <returns>Mean loss of the last tenth of the steps.</returns>
    /// <remarks>Synchronous: gradient mode and dispose scopes belong to the calling thread.</remarks>
    public double Run(
        TorchDecoder model, ulong seed, Action<CloningProgress>? progress, CancellationToken cancellationToken, CloningSaving? saving = null)
    {
        using var optimiser = new FlatAdamW(model.Parameters, options.Beta1, options.Beta2);
        var random = Seeds.Generator(seed, 0x4243); // 0x4243: "BC", this purpose's own number
        var pool = new Stack<(List<Trajectory> Batch, TurnReference[] Turns)>();
        var shuffled = new List<int>(); // turns of each filling of the pool before the one in use: with the seed, the generator's state
        long next = 0, filledFrom = 0;
        double windowLoss = 0, tailLoss = 0;
        int window = 0, tail = 0, turnsOfFill = 0, first = 0;
        if (saving?.From is { } from)
        {
            foreach (var count in from.Shuffled) Replay(random, count);
            shuffled.AddRange(from.Shuffled);
            (first, next, filledFrom, tailLoss, tail) = (from.Step, from.FilledFrom, from.FilledFrom, from.TailLoss, from.TailSteps);
            saving.Restore(optimiser);
            if (from.Used > 0)
            {
                (next, turnsOfFill) = Fill(pool, random, next, cancellationToken);
                for (var i = 0; i < from.Used; i++) pool.Pop();
            }
        }

        long windowTokens = 0;
        var watch = System.Diagnostics.Stopwatch.StartNew();
        for (var step = first; step < options.Steps; step++)
        {
            if (step > first && saving is not null && (step % saving.Every == 0 || cancellationToken.IsCancellationRequested))
                Save(step);
            cancellationToken.ThrowIfCancellationRequested();
            if (pool.Count == 0)
            {
                if (turnsOfFill > 0) shuffled.Add(turnsOfFill);
                (filledFrom, turnsOfFill) = (next, 0);
                try
                {
                    (next, turnsOfFill) = Fill(pool, random, next, cancellationToken);
                }
                catch (OperationCanceledException) when (step > first)
                {
                    Save(step); // nothing was drawn yet
                    throw;
                }
            }

            var (batch, turns) = pool.Pop();
            var (loss, tokens) = Step(model, optimiser, batch, turns, step);
            windowLoss += loss;
            windowTokens += tokens;
            window++;
            if (step >= options.Steps - Math.Max(1, options.Steps / 10))
            {
                tailLoss += loss;
                tail++;
            }

            if ((step + 1) % ReportEvery == 0 || step + 1 == options.Steps)
            {
                var speed = windowTokens / watch.Elapsed.TotalSeconds;
                progress?.Invoke(new CloningProgress(step + 1, options.Steps, windowLoss / window, speed));
                (windowLoss, window, windowTokens) = (0, 0, 0);
                watch.Restart();
            }
        }

        return tail == 0 ? 0 : tailLoss / tail;

        void Save(int step) => saving?.Save(
            pool.Count > 0
                ? new CloningState(step, filledFrom, [.. shuffled], PoolBatches - pool.Count, tailLoss, tail)
                : new CloningState(step, next, [.. shuffled, .. turnsOfFill > 0 ? [turnsOfFill] : Array.Empty<int>()], 0, tailLoss, tail),
            optimiser);
    }

    /// <summary>Draws what a filling of the pool drew.</summary>
    private static void Replay(Random random, int turns)
    {
        random.Shuffle(new byte[turns]);
        random.Shuffle(new byte[PoolBatches]);
    }

    private (long Next, int Turns) Fill(
        Stack<(List<Trajectory>, TurnReference[])> pool, Random random, long next, CancellationToken cancellationToken)
    {
        var batch = new List<Trajectory>();
        var turns = new List<TurnReference>();
        var refused = 0;
        while (turns.Count < PoolBatches * options.BatchTurns)
        {
            var (task, seed) = tasks(next++);
            if (expert.PlayAsync(task, seed, cancellationToken).AsTask().GetAwaiter().GetResult() is not { } trajectory)
            {
                // A few tasks may be too long for the context; if all are, no amount of trying helps.
                if (++refused > 1000 * (batch.Count + 1))
                {
                    throw new LearnerException(
                        $"Of {refused + batch.Count} expert episodes {batch.Count} fit the model's context: raise model.max_positions.");
                }

                continue;
            }

            turns.AddRange(Enumerable.Range(0, trajectory.Turns.Count).Select(j => new TurnReference(batch.Count, j)));
            batch.Add(trajectory);
        }

        var all = turns.ToArray();
        random.Shuffle(all);
        // One sequence holds all turns of an episode: they are computed together, or each of them again for every other one.
        var chosen = _layout.Kind == LayoutKind.Full ? turns[..(PoolBatches * options.BatchTurns)].ToArray() : all[..(PoolBatches * options.BatchTurns)];
        int Length(TurnReference t) => batch[t.Trajectory].Prompt.Length + batch[t.Trajectory].Turns[t.Turn].Context.Length
            + batch[t.Trajectory].Turns[t.Turn].Generated.Length;
        var ordered = _layout.Kind == LayoutKind.Full
            ? chosen.OrderBy(t => Length(new TurnReference(t.Trajectory, batch[t.Trajectory].Turns.Count - 1))).ThenBy(t => t.Trajectory)
            : chosen.OrderBy(Length);
        var batches = ordered.Chunk(options.BatchTurns).ToArray();
        random.Shuffle(batches);
        foreach (var b in batches) pool.Push((batch, b));
        return (next, all.Length);
    }

    private (double Loss, long Tokens) Step(
        TorchDecoder model, FlatAdamW optimiser, List<Trajectory> batch, TurnReference[] turns, int step)
    {
        long count = turns.Sum(t => (long)batch[t.Trajectory].Turns[t.Turn].Generated.Length);
        double loss = 0;
        long padded = 0;
        foreach (var pass in _layout.Split(batch, turns, options.MicroBatchTokens))
        {
            using var scope = NewDisposeScope();
            using var forward = new PolicyPass(model, pass, temperature: 1.0, _compute);
            var sum = -forward.LogProbs.sum();
            forward.Backward(sum / (double)count);
            loss += sum.item<float>();
            padded += pass.PaddedTokens;
        }

        var rate = options.LearningRateAt(step);
        optimiser.Step(group => group switch
        {
            ParameterGroup.Value => null,
            ParameterGroup.PolicyMatrix => new StepSettings(rate, options.WeightDecay, options.GradientClip),
            _ => new StepSettings(rate, 0, options.GradientClip),
        });
        return (loss / count, padded);
    }
}
