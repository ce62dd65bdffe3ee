using Mem1.Actors;

namespace Mem1.Cli.Tests;

public sealed class EndpointOptionsTests
{
    private static readonly PolicyEndpointOptions Good = new() { Url = "http://127.0.0.1:8001/v1", WeightsFolder = "/weights" };

    [Fact]
    public void What_can_be_used_has_no_contradictions()
    {
        Assert.Empty(Good.Validate(used: true));
        Assert.Empty(new PolicyEndpointOptions().Validate(used: false));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("8001")]
    [InlineData("/v1")]
    [InlineData("ftp://host/v1")]
    [InlineData("127.0.0.1:8001/v1")]
    public void A_url_that_is_no_base_of_an_api_is_named(string? url)
    {
        var sentence = Assert.Single((Good with { Url = url }).Validate(used: true));
        Assert.StartsWith($"rollout.endpoint.url is \"{url}\"; it must be", sentence, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_number_has_its_bound()
    {
        foreach (var (options, says) in new (PolicyEndpointOptions, string)[]
        {
            (Good with { WeightsFolder = null }, "rollout.endpoint.weights_folder is missing"),
            (Good with { WeightsFolder = "" }, "rollout.endpoint.weights_folder is missing"),
            (Good with { Deadline = 0 }, "rollout.endpoint.deadline is 0; it must be at least 1"),
            (Good with { MaxConcurrency = 0 }, "rollout.endpoint.max_concurrency is 0; it must be at least 1"),
            (Good with { Retries = -1 }, "rollout.endpoint.retries is -1; it must not be negative"),
        })
            Assert.Contains(says, Assert.Single(options.Validate(used: true)), StringComparison.Ordinal);
        Assert.Empty((Good with { Deadline = 1, MaxConcurrency = 1, Retries = 0 }).Validate(used: true));
    }

    [Fact]
    public void All_of_them_are_told_at_once() =>
        Assert.Equal(5, new PolicyEndpointOptions { Deadline = 0, MaxConcurrency = 0, Retries = -1 }.Validate(used: true).Count);

    [Fact]
    public void A_url_without_its_backend_is_a_contradiction()
    {
        var sentence = Assert.Single((Good with { Deadline = 0 }).Validate(used: false));
        Assert.Contains("rollout.backend is built_in", sentence, StringComparison.Ordinal);
    }
}
