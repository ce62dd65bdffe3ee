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
        Assert.EndsWith("step-100", TrainingCheckpoint.OpenNewest(_root, Assert.Fail), StringComparison.Ordinal);
    }

    [Fact]
    public void A_half_written_folder_is_never_taken_for_a_checkpoint()
    {
        Save(5, keep: 2);
        Directory.CreateDirectory(Path.Combine(_root, "step-6.partial"));
        Assert.EndsWith("step-5", TrainingCheckpoint.OpenNewest(_root, Assert.Fail), StringComparison.Ordinal);
        Save(6, keep: 2); // and it does not stand in the way
        Assert.Equal(6, TrainingCheckpoint.LoadState(TrainingCheckpoint.OpenNewest(_root, Assert.Fail)!).Update);
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
        var folder = TrainingCheckpoint.OpenNewest(_root, Assert.Fail)!;
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
        var folder = TrainingCheckpoint.OpenNewest(_root, Assert.Fail)!;
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

    [Theory]
    [InlineData(1000)]
    [InlineData(7919)]
    [InlineData(MomentsFile.StandardPart)]
    public void Moments_come_back_bit_for_bit_in_parts_of_any_size(int part)
    {
        using var parameters = new FlatParameters(TestData.Weights(_shape, 1), CPU);
        using var saved = new FlatAdamW(parameters, 0.9, 0.99);
        using var restored = new FlatAdamW(parameters, 0.9, 0.99);
        using (var scope = NewDisposeScope())
        {
            saved.FirstMoment.copy_(randn(saved.FirstMoment.shape));
            saved.SecondMoment.copy_(randn(saved.SecondMoment.shape));
        }

        var path = Path.Combine(_root, "moments.safetensors");
        MomentsFile.Save(path, saved, part);
        var count = saved.FirstMoment.numel();
        Assert.Equal(2 * ((count + part - 1) / part), Safetensors.Read(path).Tensors.Count);
        MomentsFile.Restore(path, restored);
        Assert.Equal(saved.FirstMoment.data<float>().ToArray(), restored.FirstMoment.data<float>().ToArray());
        Assert.Equal(saved.SecondMoment.data<float>().ToArray(), restored.SecondMoment.data<float>().ToArray());
    }

    [Fact]
    public void A_damaged_state_names_its_file()
    {
        Save(1, keep: 1);
        var folder = TrainingCheckpoint.OpenNewest(_root, Assert.Fail)!;
        File.WriteAllText(Path.Combine(folder, "state.json"), "{ not json");
        Assert.Contains("state.json", Assert.Throws<LearnerException>(() => TrainingCheckpoint.LoadState(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_best_are_kept_beside_the_newest()
    {
        foreach (var (update, score) in new[] { (1, 0.2), (2, 0.9), (3, 0.5), (4, 0.8), (5, 0.1), (6, 0.3) }) Save(update, 2, null, score, best: 2);
        Assert.Equal(["step-2", "step-4", "step-5", "step-6"], Directory.GetDirectories(_root).Select(Path.GetFileName).Order());
        Assert.Equal((Path.Combine(_root, "step-2"), 0.9), TrainingCheckpoint.Best(_root));
        Save(7, 1, null, score: null);
        Assert.Equal(["step-7"], Directory.GetDirectories(_root).Select(Path.GetFileName));
        Assert.Null(TrainingCheckpoint.Best(_root));
    }

    [Fact]
    public void A_checkpoint_cut_or_changed_anywhere_is_never_loaded_as_if_whole_and_the_one_before_is_taken()
    {
        var random = new Random(7);
        using var parameters = new FlatParameters(TestData.Weights(_shape, 1), CPU);
        using var optimiser = new FlatAdamW(parameters, 0.9, 0.99);
        for (var update = 1; update <= 2; update++)
        {
            TrainingCheckpoint.Save(
                _root, new Checkpoint(_shape, TestData.Weights(_shape, 1), null), optimiser,
                new TrainingState { Update = update, PolicyVersion = update, OptimiserSteps = [1, 1, 1] }, new CheckpointRetention(2));
        }

        var newest = Path.Combine(_root, "step-2");
        var files = Directory.GetFiles(newest).Order().ToArray();
        Assert.Equal(
            ["config.json", "manifest.txt", "model.safetensors", "optimizer.safetensors", "state.json", "value_head.safetensors"], files.Select(Path.GetFileName));
        for (var trial = 0; trial < 200; trial++)
        {
            var file = files[trial % files.Length];
            var whole = File.ReadAllBytes(file);
            var damaged = whole.ToArray();
            switch (trial / files.Length % 3)
            {
                case 0:
                    damaged = whole[..random.Next(whole.Length)];
                    break;
                case 1:
                    damaged[random.Next(damaged.Length)] ^= (byte)(1 << random.Next(8));
                    break;
                default:
                    damaged = [.. whole, (byte)random.Next(256)];
                    break;
            }

            File.WriteAllBytes(file, damaged);
            var warnings = new List<string>();
            Assert.Equal(Path.Combine(_root, "step-1"), TrainingCheckpoint.OpenNewest(_root, warnings.Add));
            var warning = Assert.Single(warnings);
            Assert.Contains(file, warning, StringComparison.Ordinal);
            Assert.Contains("step-1", warning, StringComparison.Ordinal);
            File.WriteAllBytes(file, whole);
        }

        foreach (var file in files)
        {
            File.Move(file, file + ".gone");
            var warnings = new List<string>();
            Assert.EndsWith("step-1", TrainingCheckpoint.OpenNewest(_root, warnings.Add), StringComparison.Ordinal);
            Assert.Contains($"{file} is missing", Assert.Single(warnings), StringComparison.Ordinal);
            File.Move(file + ".gone", file);
        }

        Assert.Equal(newest, TrainingCheckpoint.OpenNewest(_root, Assert.Fail));
    }

    [Fact]
    public void When_no_checkpoint_is_whole_the_sentence_names_the_file_and_what_to_do()
    {
        Save(1, keep: 1);
        var weights = Path.Combine(_root, "step-1", "model.safetensors");
        File.WriteAllBytes(weights, File.ReadAllBytes(weights)[..^1]);
        var refused = Assert.Throws<LearnerException>(() => TrainingCheckpoint.OpenNewest(_root, Assert.Fail));
        Assert.Contains(weights, refused.Message, StringComparison.Ordinal);
        Assert.Contains("begin a new run", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_stop_between_the_two_renames_of_a_replacement_loses_nothing()
    {
        Save(4, keep: 2);
        Save(5, keep: 2);
        Directory.Move(Path.Combine(_root, "step-5"), Path.Combine(_root, "step-5.replaced"));
        Directory.CreateDirectory(Path.Combine(_root, "step-5.partial"));
        Assert.Equal(Path.Combine(_root, "step-5"), TrainingCheckpoint.OpenNewest(_root, Assert.Fail));
        Assert.Equal(["step-4", "step-5"], Directory.GetDirectories(_root).Select(Path.GetFileName).Order());
    }

    private void Save(long update, int keep, ITokenizer? tokenizer = null, double? score = null, int best = 0) => TrainingCheckpoint.Save(
        _root, new Checkpoint(_shape, TestData.Weights(_shape, 1), tokenizer), null,
        new TrainingState { Update = update, PolicyVersion = update, OptimiserSteps = [], Score = score }, new CheckpointRetention(keep, best));

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
