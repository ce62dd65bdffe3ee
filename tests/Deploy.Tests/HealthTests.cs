// What the health port answers, over HTTP.
using System.Net;
using Mem1.Cli;
using Mem1.Cli.Serve;

namespace Mem1.Deploy.Tests;

public sealed class HealthTests
{
    private static readonly HttpClient s_client = new();

    [Fact]
    public async Task The_three_questions_have_answers_of_their_own()
    {
        var health = new Fake();
        await using var server = await HealthServer.StartAsync("127.0.0.1:0", health);
        async Task<(HttpStatusCode, string)> Get(string path)
        {
            using var answer = await s_client.GetAsync(new Uri(server!.Address, path), TestContext.Current.CancellationToken);
            return (answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }

        Assert.Equal((HttpStatusCode.OK, "ok\n"), await Get("/health"));
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "starting\n"), await Get("/started"));
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "no weights\n"), await Get("/ready"));
        health.Started = true;
        Assert.Equal((HttpStatusCode.OK, "ok\n"), await Get("/started"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await Get("/ready")).Item1);
        health.NotReady = null;
        Assert.Equal((HttpStatusCode.OK, "ok\n"), await Get("/ready"));
        Assert.Equal("# HELP mem1_x An x.\n# TYPE mem1_x gauge\nmem1_x 1.5\n", (await Get("/metrics")).Item2);
        health.Answer = Task.FromResult(false);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await Get("/health")).Item1);
        health.Answer = new TaskCompletionSource<bool>().Task; // hangs
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "a part of this process does not answer\n"), await Get("/health"));
        Assert.Equal(HttpStatusCode.NotFound, (await Get("/")).Item1);
    }

    [Theory]
    [InlineData("8081")]
    [InlineData("nowhere:8081")]
    [InlineData("127.0.0.1:99999")]
    public async Task An_address_that_is_none_is_refused(string where) =>
        Assert.Contains("--health", (await Assert.ThrowsAsync<UserErrorException>(() => HealthServer.StartAsync(where, new Fake()))).Message);

    [Theory]
    [InlineData(null, null, 0, false)]
    [InlineData(3L, null, 0, true)]
    [InlineData(3L, 3L, 0, true)]
    [InlineData(3L, 4L, 0, true)] // the download of the newest takes a moment
    [InlineData(3L, 5L, 0, false)]
    [InlineData(3L, 5L, 1, true)]
    [InlineData(3L, 6L, 1, false)]
    public void A_worker_is_ready_while_its_weights_are_within_the_bound(long? version, long? wanted, int staleness, bool ready) =>
        Assert.Equal(ready, WorkerHealth.NotReadyWith(version, wanted, staleness) is null);

    private sealed class Fake : IHealth
    {
        public bool Started { get; set; }

        public string? NotReady { get; set; } = "no weights";

        public Task<bool> Answer { get; set; } = Task.FromResult(true);

        public IEnumerable<(string Name, string Help, double Value)> Metrics => [("mem1_x", "An x.", 1.5)];

        public Task<bool> AnswersAsync(CancellationToken cancellationToken) => Answer;
    }
}
