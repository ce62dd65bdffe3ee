// A training run over several learner processes. Keeps: rank 0 is the run (environment, sampling, checkpoints, metrics); the other ranks
// hold no state of their own: what they train on, weights, moments and every batch, comes from rank 0, so that --resume on rank 0 is all
// it takes to go on.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;
using Mem1.Cli.Bench;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>What all ranks must agree on before the first update.</summary>
/// <param name="Config">The run's config as YAML.</param>
/// <param name="Shape">Of the model.</param>
/// <param name="Tensors">Name and shape of every parameter.</param>
/// <param name="OptimiserSteps">By parameter group.</param>
/// <param name="Trainer">What the trainer remembers besides.</param>
internal sealed record GroupStart(
    string Config, DecoderConfig Shape, SortedDictionary<string, long[]> Tensors, IReadOnlyList<long> OptimiserSteps,
    TrainerState Trainer);

/// <summary>One update of all ranks.</summary>
internal sealed record GroupUpdate(long Update, long PolicyVersion, IReadOnlyList<Trajectory> Batch);

/// <summary>Where the learners of a run are.</summary>
/// <param name="World">How many, rank 0 included; at least 2.</param>
/// <param name="Rendezvous">Where rank 0 waits for those that are started by hand; null when it starts them itself.</param>
internal sealed record LearnerPlacement(int World, DnsEndPoint? Rendezvous)
{
    /// <summary>Rank 0: gathers the others.</summary>
    public LearnerRanks Open(TimeSpan deadline, CancellationToken cancellationToken) => Rendezvous is null
        ? LearnerRanks.StartHere(World, deadline, cancellationToken)
        : LearnerRanks.Await(new LearnerGroupOptions(0, World, Rendezvous) { Deadline = deadline }, cancellationToken);
}

/// <summary>The learners of a run beside the one that runs it.</summary>
internal sealed class LearnerRanks : IDisposable
{
    private const byte Start = 1, Update = 2, End = 3;

    // How long processes that were told to end may take before they are ended.
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(10);

    // A log-prob of minus infinity is a token that could not be drawn; it must arrive as it was sent.
    private static readonly JsonSerializerOptions Json = new()
    {
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    private readonly LearnerGroup _group;
    private readonly List<Process> _children;
    private bool _ended;

    private LearnerRanks(LearnerGroup group, List<Process> children) => (_group, _children) = (group, children);

    /// <summary>Sums over all ranks.</summary>
    public IGradientReducer Reducer => _group;

    /// <summary>Rank 0 of learners on this machine: starts the others as processes of this program and waits for them.</summary>
    /// <exception cref="LearnerException">One did not come.</exception>
    public static LearnerRanks StartHere(int world, TimeSpan deadline, CancellationToken cancellationToken)
    {
        using var listener = LearnerGroup.ListenOnLoopback();
        var port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        var options = new LearnerGroupOptions(0, world, new DnsEndPoint("127.0.0.1", port)) { Deadline = deadline };
        var children = new List<Process>();
        using var early = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        try
        {
            for (var rank = 1; rank < world; rank++)
            {
                var start = BenchProcess.Self(
                    "train", "--rank", $"{rank}", "--world", $"{world}", "--rendezvous",
                    $"127.0.0.1:{port.ToString(CultureInfo.InvariantCulture)}");
                start.RedirectStandardError = start.RedirectStandardOutput = false; // its one sentence, should it fail, is for the user
                var child = Process.Start(start)!;
                children.Add(child);
                child.EnableRaisingEvents = true;
                child.Exited += (_, _) =>
                {
                    try
                    {
                        early.Cancel();
                    }
                    catch (ObjectDisposedException)
                    {
                        // All had joined by then; the group notices a loss itself.
                    }
                };
            }

            return new LearnerRanks(LearnerGroup.Join(options, listener, early.Token), children);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            EndAll(children, TimeSpan.Zero);
            throw new LearnerException("A learner process ended before all had joined; the line above says why.", e);
        }
        catch
        {
            EndAll(children, TimeSpan.Zero);
            throw;
        }
    }

    /// <summary>Rank 0 of learners that are started by hand, here or on other hosts.</summary>
    /// <exception cref="LearnerException">One did not come.</exception>
    public static LearnerRanks Await(LearnerGroupOptions options, CancellationToken cancellationToken) =>
        new(LearnerGroup.Join(options, cancellationToken), []);

    /// <summary>Rank 0: makes the others hold what the trainer holds.</summary>
    public void Share(RunConfig config, ModelWeights weights, PpoTrainer trainer, TorchDecoder? reference)
    {
        var tensors = new SortedDictionary<string, long[]>(
            weights.Tensors.ToDictionary(t => t.Key, t => t.Value.Shape.ToArray()), StringComparer.Ordinal);
        _group.Broadcast(Start, JsonSerializer.SerializeToUtf8Bytes(
            new GroupStart(ConfigFile.Write(config), trainer.Model.Config, tensors, [.. trainer.Optimiser.Steps], trainer.State), Json));
        Level(trainer, reference, _group);
    }

    /// <summary>Rank 0, right before its own update: tells the others what to learn from.</summary>
    public void Announce(IReadOnlyList<Trajectory> batch, long update, long policyVersion) =>
        _group.Broadcast(Update, JsonSerializer.SerializeToUtf8Bytes(new GroupUpdate(update, policyVersion, batch), Json));

    /// <summary>Rank 0: the run is over, the others may go.</summary>
    public void Finish()
    {
        _group.Broadcast(End, []);
        _ended = true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _group.Dispose();
        EndAll(_children, _ended ? EndLimit : TimeSpan.FromSeconds(1)); // a second to say what it knows of the failure
    }

    /// <summary>The whole life of a rank other than 0.</summary>
    /// <returns>Exit code.</returns>
    /// <exception cref="LearnerException">Rank 0 or another rank is lost.</exception>
    public static int Serve(LearnerGroupOptions options, CancellationToken cancellationToken)
    {
        // Once joined, Ctrl-C goes to rank 0, which ends the others when its own step is done: leaving now would break that step.
        using var group = LearnerGroup.Join(options, cancellationToken);
        var (kind, payload) = group.Receive();
        if (kind == End) return 0;
        if (kind != Start) throw new LearnerException($"Learner 0 began with message {kind}: start every rank with the same program.");
        var start = JsonSerializer.Deserialize<GroupStart>(payload, Json)!;
        var config = ConfigFile.Parse(start.Config, "rank 0's config");
        torch.set_num_threads(1); // as in rank 0
        var device = Device(config, options.Rank);
        ModelWeights Zeros() => new(new SortedDictionary<string, WeightTensor>(
            start.Tensors.ToDictionary(t => t.Key, t => new WeightTensor(t.Value, new float[t.Value.Aggregate(1L, (a, b) => a * b)])),
            StringComparer.Ordinal));
        var reference = config.Ppo.NeedsReference ? new TorchDecoder(start.Shape, Zeros(), device, config.Learner.Precision) : null;
        using var trainer = new PpoTrainer(
            new TorchDecoder(start.Shape, Zeros(), device, config.Learner.Precision), reference, ILayout.Of(config.Ppo.Layout), config.Ppo,
            config.Rollout.Temperature, config.Seed, config.Learner.Compute(), group);
        start.OptimiserSteps.ToArray().CopyTo(trainer.Optimiser.Steps, 0);
        trainer.State = start.Trainer;
        Level(trainer, reference, group);
        while (true)
        {
            (kind, payload) = group.Receive();
            if (kind == End) return 0;
            var update = JsonSerializer.Deserialize<GroupUpdate>(payload, Json)!;
            trainer.Update(update.Batch, update.Update, update.PolicyVersion);
        }
    }

    /// <summary>The device of a rank; ranks of a host with several GPUs take one each.</summary>
    /// <exception cref="UserErrorException">The config asks for CUDA and there is none.</exception>
    public static torch.Device Device(RunConfig config, int rank)
    {
        if (config.Learner.Device == "cpu") return torch.CPU;
        if (!torch.cuda.is_available())
            throw new UserErrorException("learner.device is cuda but libtorch finds no CUDA device; use cpu, or a CUDA build of libtorch.");
        return torch.device("cuda", rank % torch.cuda.device_count());
    }

    /// <summary>All others hold zeros: the sums are rank 0's numbers.</summary>
    private static void Level(PpoTrainer trainer, TorchDecoder? reference, LearnerGroup group)
    {
        SharedTensors.Sum(trainer.Model.Parameters.Values, group);
        SharedTensors.Sum(trainer.Optimiser.FirstMoment, group);
        SharedTensors.Sum(trainer.Optimiser.SecondMoment, group);
        if (reference is not null) SharedTensors.Sum(reference.Parameters.Values, group);
    }

    private static void EndAll(List<Process> children, TimeSpan grace)
    {
        var until = Stopwatch.StartNew();
        foreach (var child in children)
        {
            var left = grace - until.Elapsed;
            if (!child.WaitForExit(left > TimeSpan.Zero ? left : TimeSpan.Zero)) child.Kill();
            child.WaitForExit();
            child.Dispose();
        }

        children.Clear();
    }
}
