using Mem1.Model;
using Mem1.Model.Checkpoints;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class TrainingCheckpointTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("mem1-test").FullName;
    private readonly DecoderConfig _shape = TestData.Shape(rope: true, convolution: 0);

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void The_newest_are_kept_and_the_latest_is_found()
    {
        foreach (var update in new[] { 1, 9, 10, 100 }) Save(update, keep: 2);
        Assert.Equal(["step-10", "step-100"], Directory.GetDirectories(_root).Select(Path.GetFileName).Order());
        Assert.EndsWith("step-100", TrainingCheckpoint.FindLatest(_root), StringComparison.Ordinal);
    }

    [Fact]
    public void A_half_written_folder_is_never_taken_for_a_checkpoint()
    {
        Save(5, keep: 2);
        Directory.CreateDirectory(Path.Combine(_root, "step-6.partial"));
        Assert.EndsWith("step-5", TrainingCheckpoint.FindLatest(_root), StringComparison.Ordinal);
        Save(6, keep: 2); // and it does not stand in the way
        Assert.Equal(6, TrainingCheckpoint.LoadState(TrainingCheckpoint.FindLatest(_root)!).Update);
    }

    [Fact]
    public void When_the_disk_refuses_the_earlier_checkpoint_stays_whole_and_nothing_is_left_behind()
    {
        Save(1, keep: 1);
        // A full disk, as the file system sees it: /dev/full takes no byte. The next checkpoint's tokenizer file goes there.
        Assert.SkipUnless(File.Exists("/dev/full"), "this system has no /dev/full");
        var failure = Assert.Throws<LearnerException>(() => Save(2, keep: 1, new FullDiskTokenizer()));
        Assert.Contains("step-2", failure.Message, StringComparison.Ordinal);
        Assert.Contains("--resume", failure.Message, StringComparison.Ordinal);
        Assert.Equal(["step-1"], Directory.GetDirectories(_root).Select(Path.GetFileName));
        Checkpoint.Load(Path.Combine(_root, "step-1"));
    }

    [Fact]
    public void Moments_that_are_missing_after_the_first_update_are_not_taken_for_zero()
    {
        Save(1, keep: 1);
        var folder = TrainingCheckpoint.FindLatest(_root)!;
        File.Delete(Path.Combine(folder, "optimizer.safetensors"));
        using var parameters = new FlatParameters(TestData.Weights(_shape, 1), CPU);
        using var optimiser = new FlatAdamW(parameters, 0.9, 0.99);
        var refused = Assert.Throws<LearnerException>(() => TrainingCheckpoint.RestoreOptimiser(folder, optimiser, TrainingCheckpoint.LoadState(folder)));
        Assert.Contains("optimizer.safetensors is missing", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_same_update_may_be_saved_again()
    {
        Save(1, keep: 1);
        Save(1, keep: 1);
        Assert.Equal(["step-1"], Directory.GetDirectories(_root).Select(Path.GetFileName));
    }

    [Fact]
    public void Moments_that_do_not_fit_are_refused()
    {
        Save(1, keep: 1);
        var folder = TrainingCheckpoint.FindLatest(_root)!;
        Safetensors.Write(Path.Combine(folder, "optimizer.safetensors"), new ModelWeights(new SortedDictionary<string, WeightTensor>
        {
            ["exp_avg"] = new([3], new float[3]),
            ["exp_avg_sq"] = new([3], new float[3]),
        }));
        using var model = new TorchDecoder(_shape, TestData.Weights(_shape, 1), CPU);
        using var optimiser = new FlatAdamW(model.Parameters, 0.9, 0.98);
        var failure = Assert.Throws<LearnerException>(() => TrainingCheckpoint.RestoreOptimiser(folder, optimiser, TrainingCheckpoint.LoadState(folder)));
        Assert.Contains("3 values", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_damaged_state_names_its_file()
    {
        Save(1, keep: 1);
        var folder = TrainingCheckpoint.FindLatest(_root)!;
        File.WriteAllText(Path.Combine(folder, "state.json"), "{ not json");
        Assert.Contains("state.json", Assert.Throws<LearnerException>(() => TrainingCheckpoint.LoadState(folder)).Message, StringComparison.Ordinal);
    }

    private void Save(long update, int keep, ITokenizer? tokenizer = null) => TrainingCheckpoint.Save(
        _root, new Checkpoint(_shape, TestData.Weights(_shape, 1), tokenizer), null,
        new TrainingState { Update = update, PolicyVersion = update, OptimiserSteps = [] }, keep);

    /// <summary>Writes its file to a device that is always full.</summary>
    private sealed class FullDiskTokenizer : ITokenizer
    {
        public int VocabularySize => 31;

        public int? EndOfText => null;

        public int[] Encode(string text) => [];

        public int[] EncodePrompt(string userPrompt) => [];

        public string Decode(ReadOnlySpan<int> tokens) => "";

        public void Save(string folder)
        {
            using var full = new FileStream("/dev/full", FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
            full.Write("x"u8);
        }
    }
}
