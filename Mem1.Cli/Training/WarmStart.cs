// Keeps: a warm start that was stopped goes on from its newest whole checkpoint to the same model, bit for bit; one whose settings were
// changed meanwhile begins anew and says so.
using System.Security.Cryptography;
using System.Text;
using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>Makes a new model and clones the expert.</summary>
/// <param name="config">Validated.</param>
/// <param name="folder">Of the run.</param>
/// <param name="reporter">Told what happens.</param>
/// <param name="environment">Whose expert is cloned.</param>
/// <param name="objectives">Draws a number of objectives from a range, by purpose and index.</param>
internal sealed class WarmStart(
    RunConfig config, RunFolder folder, IRunReporter reporter, EnvironmentSet environment,
    Func<ulong, long, (int Min, int Max), int> objectives)
{
    // The purpose's own random stream, beside those of TrainRun.
    private const ulong Tasks = 3;

    /// <summary>The model before any training.</summary>
    public Checkpoint NewModel()
    {
        var tokenizer = environment.NewTokenizer();
        var shape = config.Model.ToDecoder(tokenizer.VocabularySize);
        return new Checkpoint(shape, Initialise(shape), tokenizer);
    }

    /// <summary>Small models without positions learn to copy only from the induction prior (measured recipe); others start as Qwen2
    /// does.</summary>
    private ModelWeights Initialise(DecoderConfig shape) => shape.Position == PositionEncoding.None && shape.ConvKernel >= 2
        ? ModelInitializer.InductionPrior(shape, config.Seed)
        : ModelInitializer.Normal(shape, config.Seed);

    /// <summary>The checkpoint of a warm start that was stopped, or null when it has to begin at the beginning.</summary>
    public string? Begun()
    {
        if (CloningCheckpoint.OpenNewest(folder.Checkpoints, reporter.Note) is not { } begun) return null;
        if (CloningCheckpoint.Load(begun).Recipe == Recipe()) return begun;
        reporter.Note("The settings of the warm start have changed since it was stopped, so it begins anew.");
        CloningCheckpoint.RemoveAll(folder.Checkpoints);
        return null;
    }

    /// <summary>What the data and the steps of the warm start depend on, beside seed and shape, which a run cannot change.</summary>
    private string Recipe() => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(ConfigFile.Write(new RunConfig
    {
        Cloning = config.Cloning,
        Environment = config.Environment,
        Rollout = new RolloutConfig { MaxObservationTokens = config.Rollout.MaxObservationTokens, Memory = config.Rollout.Memory },
    }))));

    /// <summary>Trains a model on the expert's episodes, saving on the way.</summary>
    /// <param name="model">Of <see cref="NewModel"/>, or of the checkpoint that was begun.</param>
    /// <param name="begun">Of <see cref="Begun"/>.</param>
    /// <param name="device">Where.</param>
    /// <param name="cancellationToken">Saves and ends.</param>
    public Checkpoint Clone(Checkpoint model, string? begun, torch.Device device, CancellationToken cancellationToken)
    {
        if (config.Cloning.Steps == 0) return model;
        if (environment.Expert is not { } player)
        {
            throw new UserErrorException(
                $"the environment {environment.Factory.Name} has no expert to clone; set cloning.steps to 0, or start from a model (model.from).");
        }

        reporter.Phase("cloning the expert");
        var recipe = Recipe();
        using var decoder = new TorchDecoder(model.Config, model.Weights, device, config.Learner.Precision);
        var expert = new ExpertTrajectories(
            environment.Factory, player, model.Tokenizer!, model.Config.MaxPositions, config.Rollout.MaxObservationTokens,
            forgets: config.Rollout.Memory != RolloutMemory.Full);
        var cloning = new BehaviourCloning(config.Cloning, expert, index =>
        {
            // The larger of two draws: behaviour cloning needs the longer tasks more (measured recipe).
            var range = (config.Environment.LeastObjectives(), config.Environment.MostObjectives());
            var count = Math.Max(objectives(Tasks, 2 * index, range), objectives(Tasks, (2 * index) + 1, range));
            var task = environment.Training.Get(index, count, Seeds.Mix(config.Seed, Tasks));
            return (task, Seeds.Mix(config.Seed, Tasks, (ulong)index));
        }, config.Learner.Compute(), config.Rollout.Memory == RolloutMemory.Full ? new FullLayout() : null);
        var loss = cloning.Run(
            decoder, config.Seed,
            p => reporter.Progress((double)p.Step / p.Steps,
                $"step {p.Step} of {p.Steps}, loss {p.Loss:0.000}, {p.TokensPerSecond:0} tokens/s"),
            cancellationToken,
            new CloningSaving
            {
                From = begun is null ? null : CloningCheckpoint.Load(begun).State,
                Restore = optimiser => CloningCheckpoint.Restore(begun!, optimiser),
                Every = config.Checkpoint.CloningEvery,
                Save = (state, optimiser) => CloningCheckpoint.Save(
                    folder.Checkpoints, model with { Weights = decoder.Parameters.Snapshot(policyOnly: true) }, optimiser, state, recipe),
            });
        reporter.Note($"Cloned the expert in {config.Cloning.Steps} steps; loss at the end {loss:0.000} nats per token.");
        return model with { Weights = decoder.Parameters.Snapshot(policyOnly: true) };
    }
}
