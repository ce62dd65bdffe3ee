// Real input end to end: a SQuAD file becomes corpus and tasks, and a new model trains on them.
using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class DataTests
{
    private static readonly (string Title, string Text, (string Question, string Answer)[] Questions)[] s_articles =
    [
        ("Nile", "The Nile flows through Egypt and Sudan. It reaches the Mediterranean Sea near Alexandria.",
            [("Which sea does the Nile reach?", "Mediterranean Sea"), ("Near which city does the Nile end?", "Alexandria")]),
        ("Danube", "The Danube rises in the Black Forest. It flows into the Black Sea after 2,850 kilometres.",
            [("Where does the Danube rise?", "the Black Forest"), ("How long is the Danube?", "2,850 kilometres")]),
        ("Amazon", "The Amazon carries more water than any other river. Its mouth lies in Brazil.",
            [("Where is the mouth of the Amazon?", "Brazil"), ("Which river carries most water?", "The Amazon")]),
    ];

    [Fact]
    public void Squad_to_corpus_to_training()
    {
        using var temp = new TempFolder();
        var squad = temp.Write("squad.json", JsonSerializer.Serialize(new
        {
            version = "1.1",
            data = s_articles.Select(a => new
            {
                title = a.Title,
                paragraphs = new[]
                {
                    new
                    {
                        context = a.Text,
                        qas = a.Questions.Select((q, i) => new
                        {
                            id = $"{a.Title}-{i}",
                            question = q.Question,
                            answers = new[] { new { text = q.Answer, answer_start = a.Text.IndexOf(q.Answer, StringComparison.Ordinal) } },
                        }),
                    },
                },
            }),
        }));
        var (corpus, tasks, run) = (temp["corpus.jsonl"], temp["tasks.jsonl"], temp["runs", "quick"]);
        var converted = Cli.Run("data", "convert", "--from", "squad", "--input", squad, "--corpus", corpus, "--tasks", tasks).Succeeded();
        Assert.Contains("3 passages", converted.Out);
        Assert.Contains("6 questions", converted.Out);
        Assert.Equal(3, Runs.Lines(corpus).Count);
        Assert.Equal(s_articles.SelectMany(a => a.Questions.Select(q => q.Question)), Runs.Lines(tasks).Select(t =>
            t.GetProperty("question").GetString()));

        Cli.Run(
            "train", "--quick", "--corpus", corpus, "--tasks", tasks, "--updates", "2", "--runs", temp["runs"], "--json",
            "--set", "environment.max_objectives=3", "--set", "model.vocabulary_size=400", "--set", "model.hidden_size=48", "--set",
                "model.heads=2",
            "--set", "model.key_value_heads=2", "--set", "model.intermediate_size=64", "--set", "rollout.max_new_tokens=24",
            "--set", "rollout.episodes_per_update=8", "--set", "cloning.steps=8", "--set", "evaluation.episodes=1",
            "--set", "environment.held_out_fraction=0.2", "--set", "checkpoint.sampled_trajectories=8").Succeeded();

        var metrics = Runs.Metrics(run);
        Assert.Equal([1, 2], metrics.Select(m => m.GetProperty("update").GetInt32()));
        Assert.All(metrics, m => Assert.InRange(m.GetProperty("parity_max_abs").GetDouble(), 0, 1e-4));
        Assert.All(metrics, m => Assert.InRange(m.GetProperty("reward_mean").GetDouble(), -1, 1));

        var questions = s_articles.SelectMany(a => a.Questions).Select(q => q.Question).ToList();
        var episodes = Runs.Lines(Path.Combine(run, "trajectories.jsonl"));
        Assert.Equal(16, episodes.Count);
        foreach (var episode in episodes)
        {
            // One task may hold several questions; each is in the prompt, and each is scored.
            var objectives = episode.GetProperty("exact_match").GetArrayLength();
            Assert.InRange(objectives, 1, 3);
            var prompt = episode.GetProperty("prompt").GetString()!;
            Assert.Equal(objectives, questions.Count(q => prompt.Contains(q, StringComparison.Ordinal)));
            var before = 0;
            foreach (var turn in episode.GetProperty("turns").EnumerateArray())
            {
                Assert.Equal(before, turn.GetProperty("context_tokens").GetInt32());
                Assert.InRange(turn.GetProperty("generated_tokens").GetInt32(), 1, 24);
                before = turn.GetProperty("generated_tokens").GetInt32() + turn.GetProperty("observation_tokens").GetInt32();
            }
        }

        Assert.True(episodes.Select(e => e.GetProperty("exact_match").GetArrayLength()).Distinct().Count() > 1,
            "the number of objectives varies");
    }
}
