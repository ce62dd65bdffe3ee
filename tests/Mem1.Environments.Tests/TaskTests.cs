using Mem1.Environments.Common;
using Mem1.Environments.Data;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Tasks;

namespace Mem1.Environments.Tests;

public sealed class TaskTests
{
    private static Objective[] Questions(int count) =>
        [.. Enumerable.Range(0, count).Select(i => new Objective($"id{i}", $"q{i}", [$"a{i}"]))];

    [Fact]
    public void PermutationsAreBijectiveAndDiffer()
    {
        foreach (long size in (long[])[1, 2, 3, 5, 16, 17, 1000])
        {
            var seen = new HashSet<long>();
            var permutation = new SeededPermutation(size, 5);
            for (long i = 0; i < size; i++)
                Assert.True(seen.Add(permutation[i]) && permutation[i] < size);
        }
        int same = Enumerable.Range(0, 1000).Count(i => new SeededPermutation(1000, 1)[i] == new SeededPermutation(1000, 2)[i]);
        Assert.InRange(same, 0, 10);
        // Every value reaches the first place about equally often.
        var first = new int[5];
        for (ulong key = 0; key < 5000; key++)
            first[new SeededPermutation(5, key)[0]]++;
        Assert.All(first, n => Assert.InRange(n, 850, 1150));
    }

    [Fact]
    public void RandomStreamsAreUnbiasedAndFixed()
    {
        var random = new SeededRandom(1, 2, 3);
        var counts = new int[7];
        for (int i = 0; i < 70_000; i++)
            counts[random.Next(7)]++;
        Assert.All(counts, n => Assert.InRange(n, 9_500, 10_500));
        Assert.InRange(Enumerable.Range(0, 10_000).Average(_ => random.NextDouble()), 0.48, 0.52);
        Assert.NotEqual(new SeededRandom(1, 2).NextUInt64(), new SeededRandom(2, 1).NextUInt64());
        // Streams must not change between versions: checkpoints and reports name seeds.
        Assert.Equal(12166958965009268500UL, new SeededRandom(42).NextUInt64());
    }

    [Theory]
    [InlineData(10, 3)]
    [InlineData(10, 5)]
    [InlineData(7, 7)]
    [InlineData(3, 4)]
    [InlineData(1, 1)]
    [InlineData(100, 16)]
    public void CompositionCoversEveryQuestionInEveryEpochWithoutRepeats(int count, int objectives)
    {
        var source = new CompositeTaskSource("qa", Questions(count));
        long tasks = source.TasksPerEpoch(objectives);
        for (int epoch = 0; epoch < 3; epoch++)
        {
            var asked = new HashSet<string>();
            for (long i = 0; i < tasks; i++)
            {
                EnvironmentTask task = source.Get((epoch * tasks) + i, objectives, 9);
                Assert.Equal(objectives, task.Objectives.Count);
                Assert.Equal(Math.Min(objectives, count), task.Objectives.Distinct().Count());
                asked.UnionWith(task.Objectives.Select(o => o.Id));
                Assert.Equal(Text(task), Text(source.Get((epoch * tasks) + i, objectives, 9)));
            }
            Assert.Equal(count, asked.Count);
        }
        if (count >= 10)
        {
            Assert.NotEqual(Text(source.Get(0, objectives, 9)), Text(source.Get(0, objectives, 10)));
            Assert.NotEqual(Text(source.Get(0, objectives, 9)), Text(source.Get(tasks, objectives, 9)));
        }
        Assert.Equal(objectives, source.Get(long.MaxValue, objectives, 9).Objectives.Count);

        static string Text(EnvironmentTask task) => string.Join('|', task.Objectives.Select(o => o.Id));
    }

    [Fact]
    public void TaskFilesLoadAndSplit()
    {
        using var folder = new TempFolder();
        string file = folder.Write("t.jsonl", string.Join('\n', Enumerable.Range(0, 1000).Select(
            i => $$"""{"id": "q{{i}}", "question": " who? ", "golden_answers": ["a", "b"], "extra": 1}""")));
        TaskFile tasks = TaskFile.Load(file);
        Assert.Equal(("q0", "who?"), (tasks.Objectives[0].Id, tasks.Objectives[0].Question));
        IReadOnlyList<TaskEntry> train = tasks.Part(TaskSplit.Train, 0.1), held = tasks.Part(TaskSplit.HeldOut, 0.1);
        Assert.InRange(held.Count, 60, 140);
        Assert.Equal(1000, tasks.Part(TaskSplit.All, 0.1).Count);
        Assert.Equal(tasks.Objectives.Select(o => o.Id).Order(), train.Concat(held).Select(o => o.Task.Id).Order());

        // A question's part depends on its id alone: dropping others moves nothing.
        string half = folder.Write("h.jsonl", string.Join('\n', File.ReadAllLines(file).Where((_, i) => i % 2 == 0)));
        Assert.Subset(
            held.Select(o => o.Task.Id).ToHashSet(), TaskFile.Load(half).Part(TaskSplit.HeldOut, 0.1).Select(o => o.Task.Id).ToHashSet());
    }

    [Fact]
    public void SmallFilesStillHaveBothParts()
    {
        using var folder = new TempFolder();
        for (int n = 2; n < 12; n++)
        {
            TaskFile tasks = TaskFile.Load(folder.Write("t.jsonl", string.Join('\n', Enumerable.Range(0, n).Select(
                i => $$"""{"id": "{{n}}-{{i}}", "question": "?", "golden_answers": ["a"]}"""))));
            foreach (double fraction in (double[])[0.001, 0.5, 0.999])
            {
                int train = tasks.Part(TaskSplit.Train, fraction).Count, held = tasks.Part(TaskSplit.HeldOut, fraction).Count;
                Assert.True(train > 0 && held > 0 && train + held == n, $"{n} {fraction}: {train}, {held}");
            }
            Assert.Equal(n, tasks.Part(TaskSplit.Train, 0).Count);
            Assert.Throws<DataFormatException>(() => tasks.Part(TaskSplit.HeldOut, 0));
        }
    }

    [Theory]
    [InlineData("{\"id\": \"1\", \"question\": \"q\"}", "line 1, field golden_answers: it is missing")]
    [InlineData("{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": []}", "line 1, field golden_answers: the list is empty")]
    [InlineData(
        "{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": \"a\"}",
        "field golden_answers: a list of strings is expected but a string")]
    [InlineData(
        "{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": [\"a\", 2]}",
        "field golden_answers[1]: a string is expected but a number")]
    [InlineData("{\"id\": \"1\", \"question\": \"\", \"golden_answers\": [\"a\"]}", "field question: it is blank")]
    [InlineData(
        "{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": [\"a\"]}\n"
        + "{\"id\": \"1\", \"question\": \"q\", \"golden_answers\": [\"a\"]}",
        "line 2, field id: \"1\" is already the id of line 1")]
    [InlineData("nonsense", "line 1: not valid JSON at byte 2 of the line; every line needs the fields")]
    [InlineData(" \n", ": the task file holds no tasks")]
    public void FaultsOfTaskFilesNameTheirPlace(string text, string expected)
    {
        using var folder = new TempFolder();
        string file = folder.Write("t.jsonl", text);
        var e = Assert.Throws<DataFormatException>(() => TaskFile.Load(file));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
        Assert.EndsWith(".", e.Message);
    }

    [Fact]
    public void QuestionsThatNoAnswerCanScoreOnAreNamed()
    {
        using var folder = new TempFolder();
        TaskFile tasks = TaskFile.Load(folder.Write("t.jsonl", """
            {"id": "x", "question": "q", "golden_answers": ["The", "..."]}
            {"id": "y", "question": "q", "golden_answers": ["The", "x"]}
            """));
        Assert.Equal(["x"], tasks.Unanswerable);
    }

    [Fact]
    public void LinesLongerThanTheBufferAreRead()
    {
        using var folder = new TempFolder();
        string longText = new('x', 300_000);
        string file = folder.Write("t.jsonl", string.Join('\n', Enumerable.Range(0, 5).Select(
            i => $$"""{"id": "{{i}}", "question": "{{(i % 2 == 0 ? longText : "q")}}", "golden_answers": ["a"]}""")));
        TaskFile tasks = TaskFile.Load(file);
        Assert.Equal([300_000, 1, 300_000, 1, 300_000], tasks.Objectives.Select(o => o.Question.Length));
    }

    // ---- SQuAD

    private const string Squad = """
        {"version": "1.1", "data": [
          {"title": "Super_Bowl_50", "paragraphs": [
            {"context": "The game was played in Santa Clara.\nIt was “loud”.", "qas": [
              {"id": "a", "question": "Where was it  played?",
               "answers": [{"text": "Santa Clara", "answer_start": 23}, {"text": "Santa Clara"}, {"text": "Clara"}]},
              {"id": "b", "question": "Impossible?", "is_impossible": true, "answers": []}]},
            {"context": "The game was played in Santa Clara.\nIt was “loud”.", "qas": []}]},
          {"title": "Café", "paragraphs": [{"context": "Coffee.",
            "qas": [{"id": "c", "question": "What?", "answers": [{"text": "Coffee"}]}]}]}]}
        """;

    [Fact]
    public void SquadBecomesCorpusAndTasks()
    {
        using var folder = new TempFolder();
        DataSetConversion result = DataSetConverter.Convert(DataSetFormat.Squad, folder.Write("s.json", Squad), folder.File("c.jsonl"), folder.File("t.jsonl"));
        Assert.Equal(new DataSetConversion(2, 2, 1), result);
        Assert.Equal(
        [
            """{"id":"0","contents":"\"Super Bowl 50\"\nThe game was played in Santa Clara.\nIt was “loud”."}""",
            """{"id":"1","contents":"\"Café\"\nCoffee."}""",
        ], File.ReadAllLines(folder.File("c.jsonl")));
        Assert.Equal(
        [
            """{"id":"a","question":"Where was it played?","golden_answers":["Santa Clara","Clara"]}""",
            """{"id":"c","question":"What?","golden_answers":["Coffee"]}""",
        ], File.ReadAllLines(folder.File("t.jsonl")));
        Assert.Equal(3, Directory.GetFiles(folder.Path).Length);

        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.File("c.jsonl"));
        Assert.Equal("1", index.Search("coffee", 1)[0].Passage.Id);
        Assert.Equal(2, TaskFile.Load(folder.File("t.jsonl")).Objectives.Count);
    }

    [Theory]
    [InlineData("\"data\"", "\"dat\"", "field data: it is missing")]
    [InlineData("\"title\": \"Café\"", "\"title\": 1", "field data[1].title: a string is expected but a number is there")]
    [InlineData("\"text\": \"Clara\"", "\"txt\": 1", "field data[0].paragraphs[0].qas[0].answers[2].text: it is missing")]
    [InlineData("\"is_impossible\": true", "\"is_impossible\": false", "field data[0].paragraphs[0].qas[1].answers: the list is empty")]
    [InlineData("\"id\": \"c\"", "\"id\": \"a\"", "field data[1].paragraphs[0].qas[0].id: \"a\" is the id of an earlier question too")]
    [InlineData(
        "\"paragraphs\": [{\"context\"", "\"paragraphs\": [7, {\"context\"",
        "field data[1].paragraphs[0]: an object with the field")]
    [InlineData("\"Coffee.\"", "\" \"", "field data[1].paragraphs[0].context: the text is blank")]
    [InlineData("{\"version\"", "[{\"version\"", "line 1: an object with the field \"data\" is expected here")]
    public void FaultsOfSquadFilesNameTheirPath(string old, string replacement, string expected)
    {
        using var folder = new TempFolder();
        Assert.Contains(old, Squad);
        string file = folder.Write("s.json", Squad.Replace(old, replacement));
        var e = Assert.Throws<DataFormatException>(() => DataSetConverter.Convert(DataSetFormat.Squad, file, folder.File("c"), folder.File("t")));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void ConversionIsAllOrNothing()
    {
        using var folder = new TempFolder();
        string source = folder.Write("s.json", Squad), corpus = folder.Write("c.jsonl", "old");
        Assert.Throws<IOException>(() => DataSetConverter.Convert(DataSetFormat.Squad, source, corpus, Path.Combine(folder.Path, "no", "t.jsonl")));
        Assert.Equal("old", File.ReadAllText(corpus));
        Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
        Assert.Throws<ArgumentException>(() => DataSetConverter.Convert(DataSetFormat.Squad, source, source, corpus));
    }
}
