// Three ways to compute one update must be one computation, or their speeds compare nothing.
using Mem1.Cli.Bench;
using Mem1.Learner;
using TorchSharp;

namespace Mem1.Cli.Tests;

public sealed class LearnerBenchTests
{
    // Large enough for a second and third step to differ visibly from the first.
    private const double LearningRate = 1e-3;

    [Theory]
    [InlineData(1, 8192)]
    [InlineData(2, 8192)]
    [InlineData(5, 8192)]
    [InlineData(5, 200)] // several micro-batches
    public void Dense_equals_segments(int turns, int microBatchTokens)
    {
        var problem = LearnerCase.Create(BenchModels.Shape("tiny"), turns, seed: 3);
        var segments = Steps(problem, UpdateWay.Segments, microBatchTokens);

        LearnerBench.RequireSame(segments, Steps(problem, UpdateWay.Dense, microBatchTokens), "dense");

        Assert.Equal(turns * LearnerCase.GeneratedPerTurn, segments.LogProbs.Length);
        Assert.True(
            Math.Abs(segments.Losses[0] - segments.Losses[2]) > 1e-3, "the steps must move the weights for the losses to tell anything");
    }

    [Fact]
    public void The_comparison_notices_a_mask_that_is_one_turn_too_wide()
    {
        var shape = BenchModels.Shape("tiny");
        var problem = LearnerCase.Create(shape, 3, seed: 3);
        using var model = new Mem1.Model.TorchDecoder(shape, problem.Weights, torch.CPU);
        using var dense = new DenseStitchedPass(model);
        using var scope = torch.NewDisposeScope();
        var right = StitchedSequence.Of(problem.Trajectory);
        var wrong = right with { Turns = [.. right.Turns.Select(t => t == 2 ? 1 : t)] };
        float[] LogProbs(StitchedSequence s) => model.Logits(dense.Predictions(s)).log_softmax(-1)
            .gather(1, torch.tensor(s.Targets, dtype: torch.ScalarType.Int64).unsqueeze(1)).squeeze(1).detach().data<float>().ToArray();
        PassReport Report(float[] logProbs) => new(1, 1, 1, 1, logProbs, [1, 1, 1], 1, "");

        var (good, bad) = (Report(LogProbs(right)), Report(LogProbs(wrong)));
        var error = Assert.Throws<UserErrorException>(() => LearnerBench.RequireSame(good, bad, "dense"));

        Assert.Contains("does not compute what segments computes", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_case_survives_its_file()
    {
        var problem = LearnerCase.Create(BenchModels.Shape("tiny"), 3, seed: 5);
        using var file = new CaseFile(problem);

        var read = LearnerCase.Read(file.Path);

        Assert.Equal(problem.StitchedTokens, read.StitchedTokens);
        Assert.Equal(Steps(problem, UpdateWay.Segments, 8192).LogProbs, Steps(read, UpdateWay.Segments, 8192).LogProbs);
        Assert.Equal(problem.Advantages, read.Advantages);
        Assert.Equal(problem.Trajectory.Turns[1].Context, read.Trajectory.Turns[1].Context);
    }

    [Fact]
    public async Task The_python_peer_equals_segments()
    {
        var shape = BenchModels.Shape("tiny");
        var problem = LearnerCase.Create(shape, 4, seed: 7);
        using var file = new CaseFile(problem);
        var script = PythonPeer.Script();
        Assert.True(script is not null, "bench/peers/dense_ppo.py is part of the checkout");

        var peer = await PythonPeer.Measure(
            script, shape, file.Path, UpdateStep.Options(8192, LearningRate), repeat: 2, TimeSpan.Zero,
            TestContext.Current.CancellationToken);

        if (peer is null) Assert.Skip(PythonPeer.Missing);
        Assert.Equal(2, peer.Passes);
        LearnerBench.RequireSame(Steps(problem, UpdateWay.Segments, 8192), peer, "python3-torch");
    }

    private static PassReport Steps(LearnerCase problem, UpdateWay way, int microBatchTokens)
    {
        var options = UpdateStep.Options(microBatchTokens, LearningRate);
        using var step = new UpdateStep(BenchModels.Shape("tiny"), problem, way, options);
        StepResult[] results = [step.Run(), step.Run(), step.Run()];
        return new PassReport(1, 1, 3, 1, results[0].LogProbs, [.. results.Select(r => r.Loss)], results[0].GradientNorm, "");
    }

    private sealed class CaseFile : IDisposable
    {
        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("mem1-bench-test-");

        public CaseFile(LearnerCase problem) => problem.Write(Path);

        public string Path => System.IO.Path.Combine(_folder.FullName, "case.safetensors");

        public void Dispose() => _folder.Delete(recursive: true);
    }
}
