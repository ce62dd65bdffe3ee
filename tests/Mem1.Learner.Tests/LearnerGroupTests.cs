using System.Net;
using System.Net.Sockets;
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class LearnerGroupTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public async Task Sums_are_right_and_the_same_bits_everywhere(int world)
    {
        foreach (var length in new[] { 1, 2, 7, 100_003 })
        {
            float[] Of(int rank) => [.. Enumerable.Range(0, length).Select(i => MathF.Sin((rank * 31) + i))];
            var results = await Everywhere(world, group =>
            {
                var values = Of(group.Rank);
                group.Sum(values);
                double[] wide = [group.Rank + 0.5, 1];
                group.Sum(wide);
                Assert.Equal([(world * (world - 1) / 2.0) + (world * 0.5), world], wide);
                return values;
            });
            var parts = Enumerable.Range(0, world).Select(Of).ToArray();
            Assert.True(Enumerable.Range(0, length).All(i => Math.Abs(parts.Sum(p => (double)p[i]) - results[0][i]) < 1e-5));
            Assert.All(results, r => Assert.True(results[0].AsSpan().SequenceEqual(r)));
        }
    }

    [Fact]
    public async Task What_rank_0_says_arrives_in_order()
    {
        var heard = await Everywhere(3, group =>
        {
            if (group.Rank == 0)
            {
                group.Broadcast(1, "first"u8);
                group.Broadcast(2, []);
                return "";
            }

            var (one, text) = group.Receive();
            var (two, empty) = group.Receive();
            return $"{one}{System.Text.Encoding.UTF8.GetString(text)}{two}{empty.Length}";
        });
        Assert.Equal(["", "1first20", "1first20"], heard);
    }

    [Fact]
    public async Task A_rank_whose_connection_closes_is_a_sentence_on_all_others()
    {
        var failures = await Everywhere(3, group =>
        {
            if (group.Rank == 1)
            {
                group.Dispose();
                return "";
            }

            return Assert.Throws<LearnerException>(() =>
            {
                for (var i = 0; i < 3; i++) group.Sum(new float[1000]); // the first may end before the loss has gone around
            }).Message;
        });
        Assert.All(failures.Where((_, r) => r != 1), m => Assert.Matches("Learner [0-2] of 3.* is lost .*--resume", m));
    }

    [Fact]
    public async Task A_rank_that_is_silent_is_lost_after_the_deadline()
    {
        using var done = new ManualResetEventSlim();
        var failures = await Everywhere(3, group =>
        {
            if (group.Rank == 2)
            {
                done.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
                return "";
            }

            try
            {
                return Assert.Throws<LearnerException>(() => group.Sum(new float[1000])).Message;
            }
            finally
            {
                if (group.Rank == 0) done.Set();
            }
        }, deadline: TimeSpan.FromSeconds(1));
        Assert.Contains("silent for 1 s", failures[0], StringComparison.Ordinal);
        Assert.Contains("lost", failures[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Ranks_that_never_come_are_a_sentence()
    {
        using var listener = LearnerGroup.ListenOnLoopback();
        var alone = new LearnerGroupOptions(0, 2, new DnsEndPoint("127.0.0.1", 1)) { JoinDeadline = TimeSpan.FromMilliseconds(200) };
        var error = Assert.Throws<LearnerException>(() => LearnerGroup.Join(alone, listener, TestContext.Current.CancellationToken));
        Assert.Contains("Not all 2 learners came", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Strangers_and_ranks_of_another_world_are_refused()
    {
        var strangers = new[] { ("""{"Mem1":1,"Rank":1,"World":3,"Port":1}""", "rank 1 of 3"), ("GET / HTTP/1.1", "could not join") };
        foreach (var (greeting, sentence) in strangers)
        {
            using var listener = LearnerGroup.ListenOnLoopback();
            var port = ((IPEndPoint)listener.LocalEndPoint!).Port;
            var options = new LearnerGroupOptions(0, 2, new DnsEndPoint("127.0.0.1", port));
            var joining = Task.Run(() => LearnerGroup.Join(options, listener, TestContext.Current.CancellationToken));
            using var stranger = new TcpClient("127.0.0.1", port);
            var body = System.Text.Encoding.UTF8.GetBytes(greeting);
            byte[] head = greeting[0] == 'G' ? [] : BitConverter.GetBytes(body.Length);
            await stranger.GetStream().WriteAsync((byte[])[.. head, .. body], TestContext.Current.CancellationToken);
            var error = await Assert.ThrowsAsync<LearnerException>(() => joining);
            Assert.Contains(sentence, error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public async Task Learners_of_a_group_make_the_update_of_one(int world, bool frugal)
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        var options = new PpoOptions
        {
            MiniBatches = 2,
            Epochs = 2,
            CriticOnlyUpdates = 0,
            WarmupUpdates = 0,
            DecayUpdates = 0,
            KlRewardCoefficient = 0.05,
            KlLossCoefficient = 0.1,
            ValueClip = 0.05,
            GradientClip = 0.1,
            WeightDecay = 0.1,
            LearningRate = 1e-3,
        };
        var compute = new ComputeOptions { GradientCheckpointing = frugal, VocabularyChunkTokens = frugal ? 5 : 0 };
        var random = new Random(11);
        var batch = Enumerable.Range(0, 5)
            .Select(i => TestData.Trajectory(random, 31, random.Next(1, 5), $"e{i}", random.NextDouble())).ToList();

        (float[], UpdateStatistics[]) Learn(IGradientReducer reducer)
        {
            using var trainer = new PpoTrainer(
                new TorchDecoder(shape, TestData.Weights(shape, 12), CPU), new TorchDecoder(shape, TestData.Weights(shape, 77), CPU),
                new SegmentsLayout(), options, 1, seed: 5, compute, reducer);
            var statistics = Enumerable.Range(1, 3).Select(u => trainer.Update(batch, u, u - 1)).ToArray();
            return (trainer.Model.Parameters.Values.data<float>().ToArray(), statistics);
        }

        var (want, wanted) = Learn(SingleLearner.Instance);
        var all = await Everywhere(world, Learn);
        Assert.All(all, a => Assert.Equal(all[0].Item1, a.Item1)); // bit for bit the same on every rank
        Assert.All(all, a => Assert.Equal(all[0].Item2.Select(u => u.ToString()), a.Item2.Select(u => u.ToString())));
        // Adam divides by the root of a gradient's own square, so rounding of a gradient near 0 counts in full: at most a step's share.
        for (var i = 0; i < want.Length; i++) Assert.Equal(want[i], all[0].Item1[i], 1e-5);
        foreach (var (one, many) in wanted.Zip(all[0].Item2))
        {
            Near(one.PolicyLoss, many.PolicyLoss);
            Near(one.ValueLoss, many.ValueLoss);
            Near(one.Entropy, many.Entropy);
            Near(one.GradientNorm, many.GradientNorm);
            Near(one.ExplainedVariance, many.ExplainedVariance);
            Assert.Equal(one.ParityMaxAbs is null, many.ParityMaxAbs is null);
            Near(one.ParityMaxAbs ?? 0, many.ParityMaxAbs ?? 0);
            Assert.Equal(one.Tokens, many.Tokens);
        }

        static void Near(double a, double b) => Assert.True(Math.Abs(a - b) <= 1e-6 * Math.Max(1, Math.Abs(a)), $"{a:R} and {b:R}");
    }

    [Fact]
    public void Every_item_is_one_ranks_and_work_is_even()
    {
        var random = new Random(1);
        long[] weights = [.. Enumerable.Range(0, 40).Select(_ => (long)random.Next(10, 100))];
        var shards = Enumerable.Range(0, 4).Select(r => Shards.Of(weights, r, 4)).ToArray();
        Assert.Equal(Enumerable.Range(0, 40), shards.SelectMany(s => s).Order());
        var loads = shards.Select(s => s.Sum(i => weights[i])).ToArray();
        Assert.True(loads.Max() - loads.Min() <= weights.Max());
        Assert.Equal([0, 1, 2], Shards.Of([5, 1, 9], 0, 1));
    }

    /// <summary>Runs something on every rank, each on a thread of its own: gradient mode and dispose scopes belong to a thread.</summary>
    private static async Task<T[]> Everywhere<T>(int world, Func<LearnerGroup, T> body, TimeSpan? deadline = null)
    {
        using var listener = LearnerGroup.ListenOnLoopback();
        var rendezvous = new DnsEndPoint("127.0.0.1", ((IPEndPoint)listener.LocalEndPoint!).Port);
        return await Task.WhenAll(Enumerable.Range(0, world).Select(rank => Task.Factory.StartNew(() =>
        {
            var options = new LearnerGroupOptions(rank, world, rendezvous) { Deadline = deadline ?? TimeSpan.FromSeconds(20) };
            using var group = rank == 0
                ? LearnerGroup.Join(options, listener, TestContext.Current.CancellationToken)
                : LearnerGroup.Join(options, TestContext.Current.CancellationToken);
            return body(group);
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
    }
}
