using Mem1.Environments.Tasks;

namespace Mem1.Environments.Tests;

public sealed class TaskMixTests
{
    [Theory]
    [InlineData(1.0, 1.0)]
    [InlineData(0.7, 0.3)]
    [InlineData(5.0, 2.0, 1.0)]
    [InlineData(1.0, 1e-9)]
    [InlineData(1.0)]
    public void SharesAreKeptInEveryStretchAndIndicesHaveNoGaps(params double[] shares)
    {
        var mix = new EnvironmentMix([.. shares.Select((s, i) => Part($"p{i}", s))]);
        EnvironmentTask[] tasks = [.. Enumerable.Range(0, 2 * EnvironmentMix.Cycle).Select(i => mix.Training.Get(i, 2, 7))];
        for (int p = 0; p < shares.Length; p++)
        {
            string name = $"p{p}";
            EnvironmentTask[] own = [.. tasks.Where(t => t.Environment == name)];
            Assert.Equal(Enumerable.Range(0, own.Length).Select(i => $"{name}/{i}"), own.Select(t => t.Id));
            double share = Math.Max(shares[p] / shares.Sum(), 1.0 / EnvironmentMix.Cycle);
            Assert.Equal(share, own.Length / (double)tasks.Length, 0.002);
            for (int start = 0; start + 64 <= tasks.Length; start += 64)
                Assert.InRange(tasks.Skip(start).Take(64).Count(t => t.Environment == name), (64 * share) - 2.1, (64 * share) + 2.1);
        }
    }

    [Fact]
    public void TasksArePlayedByTheirOwnEnvironment()
    {
        var mix = new EnvironmentMix([Part("a", 1), Part("b", 1)]);
        for (int i = 0; i < 10; i++)
        {
            EnvironmentTask task = mix.HeldOut.Get(i, 2, 1);
            Assert.Equal(task.Environment, mix.Factory.Create(task, 1).Prompt);
            Assert.Equal(task.Environment, mix.Expert!.Begin(task, 1).Respond(null));
        }
        Assert.Equal(["</x>", "</a>", "</b>"], mix.Factory.StopStrings);
        Assert.Throws<ArgumentException>(() => mix.Factory.Create(new EnvironmentTask("t", []) { Environment = "c" }, 1));
        Assert.Null(new EnvironmentMix([Part("a", 1), Part("b", 1) with { Expert = null }]).Expert);
    }

    [Fact]
    public void WhatDoesNotGoTogetherIsSaid()
    {
        Assert.Contains("at least one", EnvironmentMix.Problem([]));
        Assert.Contains("one name", EnvironmentMix.Problem([Part("a", 1), Part("a", 1)]));
        Assert.Contains("must be above 0", EnvironmentMix.Problem([Part("a", 0)]));
        Assert.Contains("</obs> but b with </think> and </other>", EnvironmentMix.Problem([Part("a", 1), Part("b", 1, observationEnd: "</other>")]));
        Assert.Contains(
            "a keeps all of a response but b what follows </think>", EnvironmentMix.Problem([Part("a", 1), Part("b", 1, discardedEnd: "</think>")]));
        var both = new EnvironmentMix([Part("a", 1, discardedEnd: "</think>"), Part("b", 1, discardedEnd: "</think>")]);
        Assert.Equal("</think>", both.Factory.DiscardedEnd);
        Assert.Contains("no common number", EnvironmentMix.Problem([Part("a", 1, counts: [1]), Part("b", 1, counts: [2])]));
        Assert.Null(EnvironmentMix.Problem([Part("a", 1, counts: [1, 2]), Part("b", 1)]));
        Assert.Equal([2], new EnvironmentMix([Part("a", 1, counts: [1, 2]), Part("b", 1, counts: [2, 3]), Part("c", 1)]).Training.ObjectiveCounts);
    }

    private static MixPart Part(string name, double share, string observationEnd = "</obs>", int[]? counts = null, string? discardedEnd = null)
    {
        var stub = new Stub(name, observationEnd, counts, discardedEnd);
        return new MixPart(name, share, stub, stub, stub, stub);
    }

    private sealed class Stub(string name, string observationEnd, int[]? counts, string? discardedEnd)
        : IEnvironmentFactory, ITaskSource, IExpert, IExpertEpisode, IEnvironment
    {
        public string Name => name;

        public IReadOnlyList<string> StopStrings => ["</x>", $"</{name}>"];

        public string InternalStateEnd => "</think>";

        public string? DiscardedEnd => discardedEnd;

        public string ObservationEnd => observationEnd;

        public IReadOnlyList<int>? ObjectiveCounts => counts;

        public string Prompt => name;

        public int MaxTurns => 1;

        public IEnvironment Create(EnvironmentTask task, ulong seed) => this;

        public EnvironmentTask Get(long index, int objectives, ulong seed) => new($"{index}", []);

        public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => this;

        public string Respond(string? observation) => name;

        public ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken) => throw new NotSupportedException();

        public TurnResult Abort(EpisodeEnd reason) => throw new NotSupportedException();

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
