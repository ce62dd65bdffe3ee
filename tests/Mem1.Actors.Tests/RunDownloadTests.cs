using Google.Protobuf;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>What a worker accepts when it asks a learner what is trained.</summary>
public sealed class RunDownloadTests
{
    [Fact]
    public async Task FilesArriveWhole()
    {
        var first = new byte[100_000];
        new Random(3).NextBytes(first);
        var (files, fingerprint) = await PullAsync(
            [Part("config.yaml", 100_005, first[..60_000]), Part("config.yaml", 100_005, first[60_000..]), Part("empty", 100_005, []),
                Part("x.json", 100_005, [1, 2, 3, 4, 5])]);
        Assert.Equal(["config.yaml", "empty", "x.json"], files.Keys.Order());
        Assert.Equal(77, fingerprint);
        Assert.Equal(first, files["config.yaml"]);
        Assert.Empty(files["empty"]);
    }

    [Theory]
    [InlineData("../escape")]
    [InlineData("/etc/passwd")]
    [InlineData("..")]
    [InlineData("")]
    public async Task NamesThatAreNotPlainAreRefused(string name) =>
        Assert.Contains("plain file name", (await Refused([Part(name, 1, [1])])).Message);

    [Fact]
    public async Task WhatContradictsTheAnnouncementIsRefused()
    {
        Assert.Contains("at most", (await Refused([Part("a", 1, [1, 2])])).Message);
        Assert.Contains("at most", (await Refused([Part("a", 1L << 40, [1, 2])])).Message);
        Assert.Contains("1 of 2 bytes", (await Refused([Part("a", 2, [1])])).Message);
        Assert.Contains("0 of 0 bytes", (await Refused([])).Message);
    }

    [Fact]
    public async Task ARefusalIsFinalAndSilenceIsWaitedFor()
    {
        await using var learner = new FakeLearner { RefuseWith = "Not you." };
        await learner.StartAsync();
        var refusal = await Assert.ThrowsAsync<RolloutWorkerException>(() => PullAsync(learner, TimeSpan.FromMinutes(1)));
        Assert.Contains("Not you.", refusal.Message);

        await learner.StopAsync();
        Assert.Contains("No learner answered", (await Assert.ThrowsAsync<RolloutWorkerException>(() => PullAsync(learner, TimeSpan.Zero))).Message);

        learner.RefuseWith = null;
        learner.Files = [Part("a", 1, [7])];
        var waits = 0;
        var (files, _) = await RunDownload.PullAsync(
            new Uri(learner.Address), "w", TimeSpan.FromMinutes(1),
            (_, _) =>
            {
                if (waits++ == 0) learner.StartAsync().GetAwaiter().GetResult();
            },
            ChannelSecurity.None, TestContext.Current.CancellationToken);
        Assert.Equal([7], files["a"]);
        Assert.True(waits >= 1);
    }

    private static RunFilePart Part(string name, long total, byte[] data) =>
        new() { Name = name, TotalBytes = total, RunFingerprint = 77, Data = ByteString.CopyFrom(data) };

    private static async Task<RolloutWorkerException> Refused(RunFilePart[] parts) =>
        await Assert.ThrowsAsync<RolloutWorkerException>(() => PullAsync(parts));

    private static async Task<RunDescription> PullAsync(RunFilePart[] parts)
    {
        await using var learner = new FakeLearner { Files = parts };
        await learner.StartAsync();
        return await PullAsync(learner, TimeSpan.FromMinutes(1));
    }

    private static Task<RunDescription> PullAsync(FakeLearner learner, TimeSpan patience) =>
        RunDownload.PullAsync(new Uri(learner.Address), "w", patience, (_, _) => { }, ChannelSecurity.None, TestContext.Current.CancellationToken);
}
