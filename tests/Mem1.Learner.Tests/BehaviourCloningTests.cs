using Mem1.Environments;
using Mem1.Environments.WebShop;
using Mem1.Environments.Worlds;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class BehaviourCloningTests
{
    private static readonly WordLevelTokenizer Tokenizer = new(WorldsVocabulary.Words);

    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;

    [Fact]
    public void Cloning_lowers_the_loss_and_the_same_seed_makes_the_same_model()
    {
        var (first, loss, curve) = Clone(steps: 75, seed: 1);
        Assert.True(loss < 0.7 * curve[0].Loss, $"The loss went from {curve[0].Loss} to {loss}.");
        Assert.Equal(75, curve[^1].Step);
        var (second, again, _) = Clone(steps: 75, seed: 1);
        Assert.Equal(loss, again);
        foreach (var (name, tensor) in first.Tensors) Assert.Equal(tensor.Data, second.Tensors[name].Data);
        var (other, _, _) = Clone(steps: 75, seed: 2);
        Assert.NotEqual(first.Tensors["model.embed_tokens.weight"].Data, other.Tensors["model.embed_tokens.weight"].Data);
    }

    [Fact]
    public void Cloning_that_is_stopped_goes_on_to_the_same_model_bit_for_bit()
    {
        const int steps = 40;
        var (straight, loss, _) = Clone(steps, seed: 1);
        var root = Directory.CreateTempSubdirectory("mem1 clone ").FullName;
        try
        {
            // 16 steps empty a pool: stops in the middle of the first, at its end, in later ones, and in the tail whose loss is returned.
            foreach (var stop in new[] { 5, 16, 17, 32, 38 })
            {
                Assert.Throws<OperationCanceledException>(() => Clone(steps, 1, root, stopAt: stop));
                Assert.EndsWith($"clone-{stop}", CloningCheckpoint.OpenNewest(root, Assert.Fail), StringComparison.Ordinal);
            }

            Assert.Equal(2, Directory.GetDirectories(root).Length); // the newest and the one before
            var (resumed, again, _) = Clone(steps, 1, root);
            Assert.Equal(loss, again);
            foreach (var (name, tensor) in straight.Tensors) Assert.Equal(tensor.Data, resumed.Tensors[name].Data);
            CloningCheckpoint.RemoveAll(root);
            Assert.False(CloningCheckpoint.Any(root));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    [Fact]
    public void In_bf16_cloning_lowers_the_loss_as_in_float32()
    {
        var (_, loss, curve) = Clone(steps: 75, seed: 1);
        var (_, narrow, narrowCurve) = Clone(steps: 75, seed: 1, ComputePrecision.Bf16);
        Assert.True(narrow < 0.7 * narrowCurve[0].Loss, $"The loss went from {narrowCurve[0].Loss} to {narrow}.");
        // Rounding sends the two runs apart, and not far: a tenth of what was learnt.
        Assert.InRange(narrow, loss - (0.1 * (curve[0].Loss - loss)), loss + (0.1 * (curve[0].Loss - loss)));
        Assert.NotEqual(loss, narrow);
    }

    [Fact]
    public void Expert_episodes_that_never_fit_end_cloning_with_a_sentence()
    {
        using var model = NewModel();
        var cloning = new BehaviourCloning(new CloningOptions { Steps = 1, WarmupSteps = 0 }, Expert(maxContext: 10), TaskOf);
        var refused = Assert.Throws<LearnerException>(() => cloning.Run(model, 1, null, _limit));
        Assert.Contains("model.max_positions", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_expert_episode_has_the_samplers_layout_and_clipped_observations_keep_their_tag()
    {
        var whole = (await Expert(maxContext: 512).PlayAsync(TaskOf(5).Task, 9, _limit))!;
        var clipped = (await Expert(maxContext: 512, maxObservation: 4).PlayAsync(TaskOf(5).Task, 9, _limit))!;
        foreach (var t in new[] { whole, clipped })
        {
            Assert.Empty(t.Turns[0].Context);
            for (var j = 1; j < t.Turns.Count; j++)
                Assert.Equal([.. t.Turns[j - 1].Generated, .. t.Turns[j - 1].Observation], t.Turns[j].Context);
        }

        Assert.Contains(whole.Turns, t => t.Observation.Length > 4);
        var end = new WorldsEnvironmentFactory(new WorldsOptions()).ObservationEnd;
        Assert.All(clipped.Turns.SkipLast(1), t =>
        {
            Assert.InRange(t.Observation.Length, 1, 4);
            Assert.Contains(end, Tokenizer.Decode(t.Observation), StringComparison.Ordinal);
        });
    }

    [Fact]
    public async Task An_agent_that_forgets_nothing_is_cloned_on_its_whole_history()
    {
        var expert = new ExpertTrajectories(
            new WorldsEnvironmentFactory(new WorldsOptions()), new WorldsExpert(WorldsExpertOptions.Flawless with { RestatesMemory = false }),
            Tokenizer, 512, 256, forgets: false);
        var episode = (await expert.PlayAsync(new WorldsTaskSource(new WorldsOptions()).Get(0, 3, 1), 9, _limit))!;
        Assert.Equal([1, 1, 1], episode.ExactMatch);
        for (var j = 1; j < episode.Turns.Count; j++)
        {
            var before = episode.Turns[j - 1];
            Assert.Equal([.. before.Context, .. before.Generated, .. before.Observation], episode.Turns[j].Context);
            // Nothing is said twice: what a turn takes down is one entry of three words.
            Assert.True(episode.Turns[j].StateLength <= 8, $"a state of {episode.Turns[j].StateLength} words");
        }

        using var model = NewModel();
        var curve = new List<CloningProgress>();
        var options = new CloningOptions { Steps = 75, BatchTurns = 8, WarmupSteps = 5, LearningRate = 1e-2 };
        var loss = new BehaviourCloning(options, expert, TaskOf, layout: new FullLayout()).Run(model, 1, curve.Add, _limit);
        Assert.True(loss < 0.7 * curve[0].Loss, $"The loss went from {curve[0].Loss} to {loss}.");
    }

    [Fact]
    public async Task What_a_format_discards_of_an_experts_response_is_learnt_but_not_served_again()
    {
        var goals = ShopGoals.Make(GeneratedShop.Create(productsPerKind: 2), GoalKind.Synthetic, 1);
        var shop = new WebShopFactory(goals, new WebShopOptions());
        var tokenizer = BpeTrainer.Train(goals.Catalogue.Texts(), 600, ["<think>", "</think>", "<summary>", "</summary>", "<answer>", "</answer>"]);
        var expert = new ExpertTrajectories(
            shop, new WebShopExpert(goals, new WebShopOptions(), new WebShopExpertOptions()), tokenizer, 8192, 4096);
        var task = WebShopTaskSource.Training(goals).Get(0, 1, 1);
        var episode = (await expert.PlayAsync(task, 1, _limit))!;
        Assert.True(episode.Turns.Count > 2);
        var end = Assert.Single(tokenizer.Encode("</think>"));
        for (var j = 1; j < episode.Turns.Count; j++)
        {
            var (before, turn) = (episode.Turns[j - 1], episode.Turns[j]);
            var kept = before.Generated[(Array.IndexOf(before.Generated, end) + 1)..];
            Assert.StartsWith("\n<summary>", tokenizer.Decode(kept), StringComparison.Ordinal);
            Assert.Equal([.. kept, .. before.Observation], turn.Context);
            Assert.Contains(end, turn.Generated);
        }
    }

    private (ModelWeights Weights, double Loss, List<CloningProgress> Curve) Clone(
        int steps, ulong seed, ComputePrecision precision = ComputePrecision.Float32)
    {
        using var model = NewModel(precision);
        var options = new CloningOptions { Steps = steps, BatchTurns = 8, WarmupSteps = 5, LearningRate = 1e-2 };
        var curve = new List<CloningProgress>();
        var loss = new BehaviourCloning(options, Expert(maxContext: 512), TaskOf).Run(model, seed, curve.Add, _limit);
        return (model.Parameters.Snapshot(policyOnly: true), loss, curve);
    }

    /// <summary>Goes on from the newest checkpoint in a folder, if there is one, and saves at the step it is stopped at.</summary>
    private (ModelWeights Weights, double Loss, List<CloningProgress> Curve) Clone(int steps, ulong seed, string root, int stopAt = int.MaxValue)
    {
        var from = CloningCheckpoint.OpenNewest(root, Assert.Fail);
        var start = from is null ? null : Checkpoint.Load(from);
        var shape = Shape;
        using var model = start is null ? NewModel() : new TorchDecoder(shape, start.Weights, CPU);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_limit);
        var options = new CloningOptions { Steps = steps, BatchTurns = 8, WarmupSteps = 5, LearningRate = 1e-2 };
        var loss = new BehaviourCloning(options, Expert(maxContext: 512), TaskOf).Run(model, seed, null, stop.Token, new CloningSaving
        {
            From = from is null ? null : CloningCheckpoint.Load(from).State,
            Restore = optimiser => CloningCheckpoint.Restore(from!, optimiser),
            Every = 1,
            Save = (state, optimiser) =>
            {
                if (state.Step != stopAt) return;
                CloningCheckpoint.Save(root, new Checkpoint(shape, model.Parameters.Snapshot(policyOnly: true), Tokenizer), optimiser, state, "recipe");
                Assert.Equal("recipe", CloningCheckpoint.Load(CloningCheckpoint.OpenNewest(root, Assert.Fail)!).Recipe);
                stop.Cancel();
            },
        });
        return (model.Parameters.Snapshot(policyOnly: true), loss, []);
    }

    private static DecoderConfig Shape =>
        TestData.Shape(rope: false, convolution: 2) with { VocabularySize = Tokenizer.VocabularySize, MaxPositions = 512 };

    private static TorchDecoder NewModel(ComputePrecision precision = ComputePrecision.Float32)
    {
        var shape = Shape;
        return new TorchDecoder(shape, ModelInitializer.Normal(shape, 1), CPU, precision);
    }

    private static ExpertTrajectories Expert(int maxContext, int maxObservation = 256) => new(
        new WorldsEnvironmentFactory(new WorldsOptions()), new WorldsExpert(new WorldsExpertOptions()), Tokenizer, maxContext, maxObservation);

    private static (EnvironmentTask Task, ulong Seed) TaskOf(long index) =>
        (new WorldsTaskSource(new WorldsOptions()).Get(index, objectives: 2, seed: 3), (ulong)index);
}
