using System.Text;
using System.Text.Json;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class SftTests : IDisposable
{
    private static readonly string[] Tags =
        ["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>", "<|im_start|>", "<|im_end|>"];

    private static readonly ByteLevelBpeTokenizer Plain = BpeTrainer.Train(["a b c d"], 256 + Tags.Length, Tags, "<|im_end|>");

    /// <summary>A row as the original implementation stores it: the thought in t, and again at the start of r.</summary>
    private const string Original = """
        {"q":"Q\n","t0":"<think>a</think>","r0":"<think>a</think><search>s</search>","i0":"<information>d</information>",
        "t1":"<think>b</think>","r1":"<think>b</think><answer>x</answer>","i1":"","Exact_match":EM}
        """;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("mem1-sft-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void An_original_rollout_becomes_one_example_a_turn_with_the_thought_once_and_the_memory_before_the_answer()
    {
        var data = new SftExamples(Plain, 4096).Read([Write("rollout.jsonl", OneLine(Original, "2"))]);
        var episode = Assert.Single(data.Examples);
        // The original builder made 2n - 1 pairs of n turns; n are right.
        Assert.Equal(2, episode.Turns.Count);
        Assert.Equal("Q\n", Plain.Decode(episode.Prompt));
        Assert.Equal(
            ["<think>a</think><search>s</search>", "<think>b</think><answer>x</answer>"], episode.Turns.Select(t => Plain.Decode(t.Generated)));
        Assert.Equal("<think>a</think>", Plain.Decode(episode.Turns[0].Generated.AsSpan(0, episode.Turns[0].StateLength)));
        // What is kept stands after the prompt, as it was sampled, and is not learnt.
        Assert.Empty(episode.Turns[0].Context);
        Assert.Equal([.. episode.Turns[0].Generated, .. Plain.Encode("<information>d</information>")], episode.Turns[1].Context);
        var pass = Assert.Single(new SegmentsLayout().Split(data.Examples, Scoring.AllTurns(data.Examples), 100_000));
        Assert.Equal(episode.Turns.SelectMany(t => t.Generated).Select(t => (long)t).Order(), pass.Targets.Order());
        // A format whose thoughts are not kept.
        var dropped = new SftExamples(Plain, 4096, "</think>").Read([Write("again.jsonl", OneLine(Original, "2"))]).Examples[0];
        Assert.Equal("<search>s</search><information>d</information>", Plain.Decode(dropped.Turns[1].Context));
    }

    [Fact]
    public void A_thought_that_is_not_in_the_response_is_put_before_it()
    {
        using var row = JsonDocument.Parse("""{"q":"Q","t0":"<think>a</think>","r0":"<answer>x</answer>","i0":null,"t1":"<think>cut","Exact_match":true}""");
        var episode = TrajectoryText.Parse(row.RootElement, "f", 1);
        Assert.Equal(new TurnText("<think>a</think>", "<answer>x</answer>", ""), Assert.Single(episode.Turns));
        Assert.Equal(1, episode.Reward);
    }

    [Theory]
    [InlineData("plain.jsonl")]
    [InlineData("nqsearch_multi_2_seed_gpt-4o_mem1.jsonl")]
    [InlineData("multi_2.jsonl")]
    [InlineData("multi_3.jsonl")]
    public void The_filter_keeps_perfect_episodes_whatever_the_file_is_called(string name)
    {
        var file = Write(name, string.Join('\n', OneLine(Original, "0"), OneLine(Original, "1"), OneLine(Original, "2").Replace("Q", "R")));
        using var output = new StringWriter();
        var report = DistillationFilter.Run([file], new DistillationOptions { AllCorrect = true, Objectives = 2 }, output);
        Assert.Equal(new DistillationReport(Read: 3, Kept: 1, Below: 2, Malformed: 0, Repeated: 0), report);
        var kept = Write("kept.jsonl", output.ToString());
        Assert.Equal("R\n", Plain.Decode(Assert.Single(new SftExamples(Plain, 4096).Read([kept]).Examples).Prompt));
        Assert.Equal(2, DistillationFilter.Run([file], new DistillationOptions { MinReward = 1 }, TextWriter.Null).Kept);
    }

    [Fact]
    public void The_filter_reads_scores_by_objective_sees_broken_forms_and_writes_no_episode_twice()
    {
        string Line(string each, string action, string prompt = "p") =>
            $$"""{"task_id":"t","reward":0.5,"exact_match":[{{each}}],"prompt":"{{prompt}}","turns":[{"internal_state":"<think>a</think>","action":"{{action}}","information":""}]}""";
        var file = Write("t.jsonl", string.Join(
            '\n', Line("1,1", "<answer>x</answer>"), Line("1,0", "<answer>x</answer>"), Line("1,1", "<answer>x"), "", Line("1,1", "<answer>x</answer>"),
            Line("1,1", "<answer>x</answer>", "other")));
        using var output = new StringWriter();
        var report = DistillationFilter.Run([file], new DistillationOptions { AllCorrect = true, ActionEnds = ["</answer>", "</search>"] }, output);
        Assert.Equal(new DistillationReport(Read: 5, Kept: 2, Below: 1, Malformed: 1, Repeated: 1), report);
        // What was written reads as what was read.
        var again = new SftExamples(Plain, 4096).Read([Write("out.jsonl", output.ToString())]).Examples;
        Assert.Equal(["p", "other"], again.Select(e => Plain.Decode(e.Prompt)));
        var silent = Write("s.jsonl", """{"prompt":"p","turns":[{"internal_state":"","action":"x","information":""}]}""");
        Assert.Contains("line 1, field reward", Assert.Throws<DataFormatException>(
            () => DistillationFilter.Run([silent], new DistillationOptions { MinReward = 1 }, TextWriter.Null)).Message, StringComparison.Ordinal);
        Assert.Contains("--objectives", Assert.Throws<DataFormatException>(
            () => DistillationFilter.Run([silent], new DistillationOptions { AllCorrect = true }, TextWriter.Null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_a_chat_the_assistants_words_and_their_end_are_learnt_and_the_whole_is_the_templates_rendering()
    {
        var tokenizer = Plain.WithChat(true, "be brief");
        var file = Write("chat.jsonl", """{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"},{"role":"user","content":"and?"},{"role":"assistant","content":"no"}]}""");
        var chat = Assert.Single(new SftExamples(tokenizer, 4096).Read([file]).Examples);
        Assert.Equal(["yes<|im_end|>", "no<|im_end|>"], chat.Turns.Select(t => Plain.Decode(t.Generated)));
        Assert.Equal(
            "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
            + "<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>",
            Plain.Decode([.. chat.Prompt, .. chat.Turns[1].Context, .. chat.Turns[1].Generated]));
        Assert.Equal(tokenizer.EncodePrompt("hi"), chat.Prompt);
        // A system message of its own stands in the place of the template's.
        var own = Write("own.jsonl", """{"messages":[{"role":"system","content":"S"},{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}]}""");
        Assert.Equal("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
            Plain.Decode(new SftExamples(tokenizer, 4096).Read([own]).Examples[0].Prompt));
        // A prompt with markup is taken as it is, one without is wrapped.
        var sampled = new TrajectoryText(Plain.Decode(chat.Prompt), [new TurnText("", "x", "")], null, null, "");
        Assert.Equal(chat.Prompt, new SftExamples(tokenizer, 4096).Episode(sampled, 1).Prompt);
        Assert.Equal(chat.Prompt, new SftExamples(tokenizer, 4096).Episode(sampled with { Prompt = "hi" }, 1).Prompt);
        // Without a template the words alone, and the end of a text.
        Assert.Equal("yes<|im_end|>", Plain.Decode(new SftExamples(Plain, 4096).Read([file]).Examples[0].Turns[0].Generated));
        Assert.Equal(new SftData([], 1).TooLong, new SftExamples(tokenizer, 10).Read([file]).TooLong);
    }

    [Theory]
    [InlineData("""{"messages":[]}""", "no message of the assistant")]
    [InlineData("""{"messages":{}}""", "a list of messages")]
    [InlineData("""{"messages":[{"role":"assistant","content":"x"}]}""", "messages[0].role")]
    [InlineData("""{"messages":[{"role":"tool","content":"x"}]}""", "messages[0].role")]
    [InlineData("""{"messages":[{"role":"user","content":1}]}""", "messages[0].content")]
    [InlineData("""{"messages":[{"role":"user","content":"x"},{"role":"system","content":"x"}]}""", "messages[1].role")]
    [InlineData("""{"messages":[{"role":"user","content":"\ud800"}]}""", "messages[0].content")]
    [InlineData("""{"prompt":"p","turns":[]}""", "field turns")]
    [InlineData("""{"prompt":"p","turns":[{"internal_state":"","action":"","information":""}]}""", "turns[0]")]
    [InlineData("""{"prompt":"p","turns":[{"internal_state":"a","action":7,"information":""}]}""", "turns[0].action")]
    [InlineData("""{"prompt":"","turns":[1]}""", "field prompt")]
    [InlineData("""{"q":"x"}""", "no response (r0)")]
    [InlineData("""{"x":1}""", "are expected")]
    [InlineData("[1]", "a JSON object")]
    [InlineData("{", "not valid JSON")]
    public void A_line_that_is_no_example_is_named(string line, string said)
    {
        var file = Write("bad.jsonl", """{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}""" + "\n\n" + line);
        var message = Assert.Throws<DataFormatException>(() => new SftExamples(Plain, 4096).Read([file])).Message;
        Assert.Contains("line 3", message, StringComparison.Ordinal);
        Assert.Contains(said, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_word_that_a_tokenizer_of_words_does_not_know_is_named_with_its_line()
    {
        var file = Write("w.jsonl", """{"messages":[{"role":"user","content":"a zz"},{"role":"assistant","content":"a"}]}""");
        var message = Assert.Throws<DataFormatException>(() => new SftExamples(new WordLevelTokenizer(["a"]), 99).Read([file])).Message;
        Assert.Contains("line 1", message, StringComparison.Ordinal);
        Assert.Contains("\"zz\"", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_but_the_typed_exception_escapes_from_damaged_lines()
    {
        byte[][] seeds = [.. new[]
        {
            OneLine(Original, "1"), """{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}""",
            """{"reward":1,"exact_match":[1],"prompt":"p","turns":[{"internal_state":"a","action":"b","information":"c"}]}""",
        }.Select(Encoding.UTF8.GetBytes)];
        string[] splices = ["null", "1e999", "\"\\ud800\"", "[]", "{}", "true", "\"\"", "-1"];
        var examples = new SftExamples(Plain, 4096);
        for (var i = 0; i < 20_000; i++)
        {
            ulong at = 0;
            int Draw(int below) => (int)(RandomStream.Bits((ulong)i, at++) % (ulong)below);
            List<byte> bytes = [.. seeds[i % seeds.Length]];
            var place = Draw(bytes.Count);
            if (Draw(2) == 0) bytes[place] = (byte)Draw(256);
            else
            {
                var end = bytes.FindIndex(place, b => b is (byte)',' or (byte)'}');
                bytes.RemoveRange(place, Math.Max(0, end - place));
                bytes.InsertRange(place, Encoding.UTF8.GetBytes(splices[Draw(splices.Length)]));
            }

            try
            {
                using var document = JsonDocument.Parse(bytes.ToArray());
                examples.Parse(document.RootElement, "f", 1);
                DistillationFilter.IsGood(TrajectoryText.Parse(document.RootElement, "f", 1), new DistillationOptions { AllCorrect = true }, "f", 1);
            }
            catch (Exception e) when (e is JsonException or DataFormatException)
            {
                Assert.DoesNotContain('\n', e is DataFormatException ? e.Message : "");
            }
        }
    }

    [Fact]
    public void A_step_reports_the_loss_of_the_learnt_tokens_and_the_loss_falls()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var trainer = Trainer(shape, new SftOptions { Epochs = 30, BatchTurns = 100, LearningRate = 5e-3 });
        var scores = Scoring.Score(trainer.Model, new SegmentsLayout(), Examples(), 1.0, 4096, values: false);
        var expected = -scores.SelectMany(s => s.LogProbs).Average();
        var first = trainer.Step(0);
        Assert.Equal(expected, first.Loss, 1e-4);
        Assert.Equal(Examples().Sum(e => e.GeneratedTokens), first.Tokens);
        var last = first;
        for (var step = 1; step < trainer.Steps; step++) last = trainer.Step(step);
        Assert.True(last.Loss < 0.6 * first.Loss, $"{first.Loss} -> {last.Loss}");
        Assert.Equal((30, 30, 30), (last.Step, last.Steps, last.Epoch));
    }

    [Fact]
    public void A_training_that_was_cut_goes_on_bit_for_bit_and_every_turn_comes_once_an_epoch()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        var options = new SftOptions { Epochs = 2, BatchTurns = 3, LearningRate = 1e-3 };
        ModelWeights whole, cut;
        long tokens = 0;
        using (var trainer = Trainer(shape, options))
        {
            for (var step = 0; step < trainer.Steps; step++) tokens += trainer.Step(step).Tokens;
            whole = trainer.Model.Parameters.Snapshot(policyOnly: false);
        }

        Assert.Equal(2 * Examples().Sum(e => e.GeneratedTokens), tokens);
        var root = Path.Combine(_folder.FullName, "checkpoints");
        using (var trainer = Trainer(shape, options))
        {
            for (var step = 0; step < 3; step++) trainer.Step(step);
            TrainingCheckpoint.Save(
                root, new Checkpoint(shape, trainer.Model.Parameters.Snapshot(policyOnly: false), null), trainer.Optimiser,
                new TrainingState { Update = 3, PolicyVersion = 0, OptimiserSteps = [.. trainer.Optimiser.Steps] }, new CheckpointRetention(1));
        }

        var latest = TrainingCheckpoint.OpenNewest(root, Assert.Fail)!;
        using (var trainer = Trainer(shape, options, Checkpoint.Load(latest).Weights))
        {
            TrainingCheckpoint.RestoreOptimiser(latest, trainer.Optimiser, TrainingCheckpoint.LoadState(latest));
            for (var step = 3; step < trainer.Steps; step++) trainer.Step(step);
            cut = trainer.Model.Parameters.Snapshot(policyOnly: false);
        }

        foreach (var (name, tensor) in whole.Tensors) Assert.Equal(tensor.Data, cut.Tensors[name].Data);
    }

    [Fact]
    public void Options_are_checked_and_the_rate_rises_and_falls()
    {
        Assert.Empty(new SftOptions().Validate());
        Assert.Equal(4, new SftOptions { Epochs = 0, LearningRate = 0, WarmupShare = 1, MicroBatchTokens = 0 }.Validate().Count);
        var options = new SftOptions { LearningRate = 1, WarmupShare = 0.1 };
        Assert.Equal([0.5, 1, 1, 17.0 / 18, 1.0 / 18], new[] { 0L, 1, 2, 3, 19 }.Select(s => options.LearningRateAt(s, 20)), (a, b) => Math.Abs(a - b) < 1e-12);
    }

    private static List<Trajectory> Examples()
    {
        var random = new Random(4);
        return [.. Enumerable.Range(0, 6).Select(i => TestData.Trajectory(random, 31, 1 + (i % 3), $"e{i}"))];
    }

    private static SftTrainer Trainer(DecoderConfig shape, SftOptions options, ModelWeights? weights = null) =>
        new(new TorchDecoder(shape, weights ?? TestData.Weights(shape, 1), CPU), Examples(), options, seed: 5);

    private static string OneLine(string row, string score) => row.ReplaceLineEndings("").Replace("EM", score, StringComparison.Ordinal);

    private string Write(string name, string text)
    {
        var path = Path.Combine(_folder.FullName, name);
        File.WriteAllText(path, text);
        return path;
    }
}
