// Composition: as the original composes, shuffled and mixed; the file format; weights; what is refused.
using System.Text.Json;
using Mem1.Environments.Data;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Scoring;
using Mem1.Environments.Tasks;

namespace Mem1.Environments.Tests;

public sealed class TaskComposerTests
{
    private static string Questions(TempFolder folder, string name, int count, Func<int, string>? question = null) => folder.Write(
        name, string.Join('\n', Enumerable.Range(0, count).Select(i => JsonSerializer.Serialize(
            new { id = $"{i}", question = question?.Invoke(i) ?? $"q{i}", golden_answers = new[] { $"a{i}" } }))));

    private static QuestionSource Flash(string path) => new(DataSetFormat.FlashRag, path);

    // The original's example, with the space at an end trimmed (the original asks "where is z ?").
    [Fact]
    public void QuestionsAreJoinedAsInTheOriginal()
    {
        using var folder = new TempFolder();
        string[] texts = ["who is x", "what is y?", "where is z ", "a?? ", "b;c"];
        string file = Questions(folder, "nq.jsonl", 5, i => texts[i]);
        ComposedTasks done = TaskComposer.Compose([Flash(file)], new TaskComposition { Objectives = 5 }, folder.File("o.jsonl"));
        Assert.Equal(new ComposedTasks(1, 0, 5, 0, 0), done);
        using var line = JsonDocument.Parse(File.ReadAllText(folder.File("o.jsonl")));
        Assert.Equal("who is x?; what is y?; where is z?; a??; b;c?", line.RootElement.GetProperty("question").GetString());

        // Nothing is split at a separator again.
        TaskFile tasks = TaskFile.Load(folder.File("o.jsonl"));
        Assert.Equal(["who is x?", "what is y?", "where is z?", "a??", "b;c?"], tasks.Entries[0].Task.Objectives.Select(o => o.Question));
    }

    [Fact]
    public void GroupsAreConsecutiveNeverCrossFilesAndDropTheRemainder()
    {
        using var folder = new TempFolder();
        QuestionSource[] sources = [Flash(Questions(folder, "a.jsonl", 10)), Flash(Questions(folder, "b.x.jsonl", 4))];
        ComposedTasks done = TaskComposer.Compose(sources, new TaskComposition { Objectives = 3 }, folder.File("o.jsonl"));
        Assert.Equal(new ComposedTasks(4, 0, 14, 2, 0), done);
        Assert.Equal(
            ["a-0: a/0 a/1 a/2", "a-1: a/3 a/4 a/5", "a-2: a/6 a/7 a/8", "b-0: b/0 b/1 b/2"],
            TaskFile.Load(folder.File("o.jsonl")).Entries.Select(e => $"{e.Task.Id}: {string.Join(' ', e.Task.Objectives.Select(o => o.Id))}"));
    }

    [Fact]
    public void ShufflingKeepsSourcesApartMixingDoesNotAndSeedsDecide()
    {
        using var folder = new TempFolder();
        QuestionSource[] sources = [Flash(Questions(folder, "a.jsonl", 40)), Flash(Questions(folder, "b.jsonl", 40))];
        string[][] Composed(TaskComposition options)
        {
            TaskComposer.Compose(sources, options with { Objectives = 4 }, folder.File("o.jsonl"));
            return [.. TaskFile.Load(folder.File("o.jsonl")).Entries.Select(e => e.Task.Objectives.Select(o => o.Id).ToArray())];
        }

        static bool OneSource(string[] ids) => ids.Select(i => i[0]).Distinct().Count() == 1;
        string[][] shuffled = Composed(new TaskComposition { Shuffle = true }), mixed = Composed(new TaskComposition { Mix = true });
        Assert.All(shuffled, t => Assert.True(OneSource(t)));
        Assert.Contains(mixed, t => !OneSource(t));
        Assert.Equal(80, shuffled.SelectMany(t => t).Distinct().Count());
        Assert.Equal(80, mixed.SelectMany(t => t).Distinct().Count());
        Assert.Equal(mixed, Composed(new TaskComposition { Mix = true }));
        Assert.NotEqual(mixed, Composed(new TaskComposition { Mix = true, Seed = 2 }));
        Assert.NotEqual(shuffled, Composed(new TaskComposition()));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheTwoFilesShareNoQuestion(bool mix)
    {
        using var folder = new TempFolder();
        QuestionSource[] sources = [Flash(Questions(folder, "a.jsonl", 300)), Flash(Questions(folder, "b.jsonl", 300))];
        ComposedTasks done = TaskComposer.Compose(
            sources, new TaskComposition { Objectives = 3, Mix = mix, HeldOutFraction = 0.2 }, folder.File("o.jsonl"), folder.File("h.jsonl"));
        TaskFile train = TaskFile.Load(folder.File("o.jsonl")), held = TaskFile.Load(folder.File("h.jsonl"));
        Assert.Equal((done.Training, done.HeldOut), (train.Entries.Count, held.Entries.Count));
        Assert.Equal(600 - done.LeftOver, train.Objectives.Concat(held.Objectives).Select(o => o.Id).Distinct().Count());
        Assert.InRange(held.Entries.Count, 25, 55);
        Assert.Empty(train.Entries.Select(e => e.Task.Id).Intersect(held.Entries.Select(e => e.Task.Id)));
    }

    /// <summary>1 and 64 objectives make whole episodes: prompt, expert and scorer agree on them.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(64)]
    public async Task ComposedTasksPlayToTheirEnd(int objectives)
    {
        using var folder = new TempFolder();
        string file = folder.Write("s.jsonl", string.Join('\n', Enumerable.Range(0, 2 * objectives).Select(i => JsonSerializer.Serialize(
            new { id = $"{i}", question = $"q{i}; which", golden_answers = new[] { i % 2 == 0 ? $"left {i}; right {i}" : $"plain {i}" } }))));
        ComposedTasks done = TaskComposer.Compose([Flash(file)], new TaskComposition { Objectives = objectives }, folder.File("o.jsonl"));
        Assert.Equal(2, done.Training);
        Assert.Equal(objectives, done.WithSeparator);
        TaskFile tasks = TaskFile.Load(folder.File("o.jsonl"));
        ITaskSource source = tasks.Source("t", TaskSplit.All, 0);
        Assert.Equal([objectives], source.ObjectiveCounts);
        EnvironmentTask task = source.Get(1, objectives, 3);

        var factory = new RetrievalQaFactory(new NothingFound(), new RetrievalQaOptions());
        foreach (string joint in new[] { ", ", "; " })
        {
            await using IEnvironment environment = factory.Create(task, 1);
            Assert.All(task.Objectives, o => Assert.Contains(o.Question, environment.Prompt));
            string answer = string.Join("; ", task.Objectives.Select(o => o.GoldenAnswers[0].Replace("; ", joint)));
            TurnResult end = await environment.StepAsync($"<think>x</think><answer>{answer}</answer>", false, TestContext.Current.CancellationToken);
            Assert.Equal(1.0, end.Score!.Reward);
            Assert.Equal(objectives, end.Score.AnswerCount);
        }
    }

    [Fact]
    public void WhatCannotBeComposedIsRefusedAndLeavesNothing()
    {
        using var folder = new TempFolder();
        string few = Questions(folder, "few.jsonl", 3), none = folder.Write("none.jsonl", "");
        void Refused(string expected, QuestionSource source, TaskComposition options, string? held = null)
        {
            Exception e = Assert.ThrowsAny<Exception>(() => TaskComposer.Compose([source], options, folder.File("o.jsonl"), held));
            Assert.Contains(expected, e.Message);
            Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
        }

        Refused("its 3 training questions do not make one task of 4 objectives", Flash(few), new TaskComposition { Objectives = 4 });
        Refused("held-out questions do not make one task", Flash(few), new TaskComposition { Objectives = 2, HeldOutFraction = 1e-9 }, folder.File("h"));
        Refused("the file holds no answerable question", Flash(none), new TaskComposition());
        Refused("objectives is 65 but must be 1 to 64", Flash(few), new TaskComposition { Objectives = 65 });
        Refused("objectives is 0 but must be 1 to 64", Flash(few), new TaskComposition { Objectives = 0 });
        Refused("go together", Flash(few), new TaskComposition { HeldOutFraction = 0.5 });
    }

    [Theory]
    [InlineData("""{"id": "x", "objectives": []}""", "line 1, field objectives: the list is empty")]
    [InlineData("""{"id": "x", "objectives": 3}""", "line 1, field objectives: a list is expected but a number is there")]
    [InlineData("""{"id": "x", "objectives": [{"id": "1", "question": "q"}]}""", "line 1, field objectives[0].golden_answers: it is missing")]
    [InlineData(
        """{"id": "x", "objectives": [{"id": "1", "question": "q", "golden_answers": []}]}""",
        "line 1, field objectives[0].golden_answers: the list is empty")]
    [InlineData(
        "{\"id\": \"x\", \"question\": \"q\", \"golden_answers\": [\"a\"]}\n{\"id\": \"y\", \"objectives\": []}",
        "line 2: the lines before it are of the other kind")]
    [InlineData("""{"id": "x", "question": "q", "golden_answers": ["a"], "weight": -1}""", "line 1, field weight: a number above 0 is expected")]
    [InlineData("""{"id": "x", "question": "q", "golden_answers": ["a"], "weight": 1e999}""", "line 1, field weight: a number above 0 is expected")]
    public void FaultsOfComposedFilesNameTheirPlace(string text, string expected)
    {
        using var folder = new TempFolder();
        string file = folder.Write("t.jsonl", text);
        var e = Assert.Throws<DataFormatException>(() => TaskFile.Load(file));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
    }

    [Fact]
    public void WeightsDecideHowOftenATaskIsDrawn()
    {
        using var folder = new TempFolder();
        string questions = folder.Write("q.jsonl", string.Join('\n', Enumerable.Range(1, 4).Select(
            i => $$"""{"id": "{{i}}", "question": "q", "golden_answers": ["a"], "weight": {{i}}}""")));
        ITaskSource source = TaskFile.Load(questions).Source("t", TaskSplit.All, 0);
        Assert.Null(source.ObjectiveCounts);
        const int Draws = 20000;
        var counts = Enumerable.Range(0, Draws).CountBy(i => source.Get(i, 1, 5).Objectives[0].Id).ToDictionary();
        for (int i = 1; i <= 4; i++)
            Assert.Equal(i / 10.0, counts[$"{i}"] / (double)Draws, 0.015);
        Assert.All(Enumerable.Range(0, 500), i => Assert.Equal(4, source.Get(i, 4, 5).Objectives.Select(o => o.Id).Distinct().Count()));
        Assert.Equal(6, source.Get(0, 6, 5).Objectives.Count);

        string composed = folder.Write("c.jsonl", string.Join('\n', Enumerable.Range(1, 4).Select(
            i => $$"""{"id": "{{i}}", "objectives": [{"id": "{{i}}", "question": "q", "golden_answers": ["a"]}], "weight": {{i}}}""")));
        source = TaskFile.Load(composed).Source("t", TaskSplit.All, 0);
        counts = Enumerable.Range(0, Draws).CountBy(i => source.Get(i, 1, 5).Objectives[0].Id).ToDictionary();
        for (int i = 1; i <= 4; i++)
            Assert.Equal(i / 10.0, counts[$"{i}"] / (double)Draws, 0.015);

        // Weights so uneven that the light questions would never be drawn still end.
        Assert.Equal(3, new CompositeTaskSource("t", [.. Enumerable.Range(0, 3).Select(i => new Objective($"{i}", "q", ["a"]))], [1e300, 1e-300, 1e-300])
            .Get(0, 3, 1).Objectives.Select(o => o.Id).Distinct().Count());
    }

    [Fact]
    public void ComposedTasksAreGivenOutOncePerEpochAndSplitPerNumberOfObjectives()
    {
        using var folder = new TempFolder();
        string Line(int i) => $$"""{"id": "t{{i}}", "objectives": [{{string.Join(',', Enumerable.Range(0, 1 + (i % 3)).Select(
            k => $$"""{"id": "{{i}}.{{k}}", "question": "q", "golden_answers": ["a"]}"""))}}]}""";
        TaskFile tasks = TaskFile.Load(folder.Write("c.jsonl", string.Join('\n', Enumerable.Range(0, 30).Select(Line))));
        foreach (TaskSplit split in new[] { TaskSplit.Train, TaskSplit.HeldOut })
            Assert.Equal([1, 2, 3], tasks.Source("t", split, 0.1).ObjectiveCounts);
        ITaskSource all = tasks.Source("t", TaskSplit.All, 0);
        for (int epoch = 0; epoch < 3; epoch++)
        {
            Assert.Equal(10, Enumerable.Range(10 * epoch, 10).Select(i => all.Get(i, 2, 1).Objectives[0].Id).Distinct().Count());
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => all.Get(0, 4, 1));
    }

    private sealed class NothingFound : IRetriever
    {
        public ValueTask<IReadOnlyList<SearchHit>> RetrieveAsync(string query, int k, CancellationToken cancellationToken) =>
            ValueTask.FromResult<IReadOnlyList<SearchHit>>([]);
    }
}
