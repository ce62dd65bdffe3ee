// The engine for GPUs, on libtorch's CPU device: what it draws is what the managed engine draws.
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using TorchSharp;

namespace Mem1.Model.Tests;

public sealed class TorchEngineTests
{
    // Rounding of another order of summation, on weights as wild as these; a wrong mask or position is off by tenths.
    private const float Tolerance = 1e-4f;

    [Theory]
    [MemberData(nameof(SamplerParityTests.Shapes), MemberType = typeof(SamplerParityTests))]
    public void ItDrawsWhatTheManagedEngineDraws(string name)
    {
        SamplerParityTests.RequireLibtorch();
        DecoderConfig config = SamplerParityTests.Shape(name);
        ModelWeights[] weights = [Support.RandomWeights(config, 21), Support.RandomWeights(config, 22)];
        ITokenizer words = Support.Words(config.VocabularySize);
        using var managed = new CpuGenerationEngine(config, weights[0], 1, words, 2);
        using var torchEngine = new TorchGenerationEngine(config, weights[0], 1, words, torch.CPU);
        var expected = new Dictionary<long, GenerationResult>();
        var actual = new Dictionary<long, GenerationResult>();
        // Requests join by twos, leave at different steps, one is cancelled, and the weights change under all of them.
        for (int step = 0; step < 12 || managed.Active > 0; step++)
        {
            foreach ((IGenerationEngine engine, Dictionary<long, GenerationResult> results) in
                new (IGenerationEngine, Dictionary<long, GenerationResult>)[] { (managed, expected), (torchEngine, actual) })
            {
                for (int i = 2 * step; i < (2 * step) + 2 && i < 20; i++)
                {
                    int[] context = Support.RandomTokens(1 + (i * 29 % 140), config.VocabularySize, (ulong)i);
                    engine.Submit(new GenerationRequest(
                        i, context, new SamplingOptions(i % 5 == 0 ? 0 : 0.5f + (i % 3), i % 4 == 0 ? 0.9f : 1, 3 + (i * 7 % 23)),
                        [$"w{i % 7} w"], (ulong)i));
                }
                if (step == 5)
                    engine.Cancel(8);
                if (step is 7 or 9)
                    engine.SwapWeights(weights[step == 7 ? 1 : 0], step);
                foreach (GenerationResult result in engine.Step())
                    results.Add(result.Id, result);
            }
            Assert.Equal(managed.Active, torchEngine.Active);
        }
        Assert.Equal(expected.Keys.Order(), actual.Keys.Order());
        Assert.DoesNotContain(8, expected.Keys);
        Assert.Contains(actual.Values, r => r.PolicyVersions.Distinct().Count() > 1);
        Assert.Equal(managed.GeneratedTokens, torchEngine.GeneratedTokens);
        Assert.Equal(managed.PrefillTokens, torchEngine.PrefillTokens);
        foreach ((long id, GenerationResult result) in expected)
        {
            Assert.Equal(result.Tokens, actual[id].Tokens);
            Assert.Equal(result.PolicyVersions, actual[id].PolicyVersions);
            Assert.Equal(result.Finish, actual[id].Finish);
            for (int t = 0; t < result.Tokens.Length; t++)
                Assert.Equal(result.LogProbs[t], actual[id].LogProbs[t], Tolerance);
        }
    }

    [Fact]
    public void LongContextsAreReadInPiecesAndManyShortOnesInSeveralPasses()
    {
        SamplerParityTests.RequireLibtorch();
        DecoderConfig config = Support.FullConfig() with { MaxPositions = 2048 };
        ModelWeights weights = Support.RandomWeights(config, 3);
        ITokenizer words = Support.Words(config.VocabularySize);
        int[] lengths = [3, 1500, 513, .. Enumerable.Repeat(200, 24), 512, 1030];
        Dictionary<long, GenerationResult> Play(IGenerationEngine engine)
        {
            using (engine)
            {
                for (int i = 0; i < lengths.Length; i++)
                {
                    engine.Submit(new GenerationRequest(
                        i, Support.RandomTokens(lengths[i], config.VocabularySize, (ulong)i), new SamplingOptions(1, 1, 4), [], (ulong)i));
                }
                return Support.Drain(engine);
            }
        }

        Dictionary<long, GenerationResult> managed = Play(new CpuGenerationEngine(config, weights, 1, words, 2));
        Dictionary<long, GenerationResult> actual = Play(new TorchGenerationEngine(config, weights, 1, words, torch.CPU));
        foreach ((long id, GenerationResult result) in managed)
        {
            Assert.Equal(result.Tokens, actual[id].Tokens);
            for (int t = 0; t < result.Tokens.Length; t++)
                Assert.Equal(result.LogProbs[t], actual[id].LogProbs[t], Tolerance);
        }
    }

    [Fact]
    public void WhatItCannotRunIsRefused()
    {
        SamplerParityTests.RequireLibtorch();
        DecoderConfig config = Support.PlainConfig();
        ITokenizer words = Support.Words(config.VocabularySize);
        ModelWeights misfit = Support.RandomWeights(Support.FullConfig(), 1);
        Assert.Throws<CheckpointException>(() => new TorchGenerationEngine(config, misfit, 1, words, torch.CPU));
        using var engine = new TorchGenerationEngine(config, Support.RandomWeights(config, 1), 1, words, torch.CPU);
        Assert.Throws<CheckpointException>(() => engine.SwapWeights(misfit, 2));
        Assert.Equal(1, engine.PolicyVersion);
        GenerationRequest good = new(1, [1, 2], new SamplingOptions(1, 1, 300), [], 1);
        foreach (GenerationRequest bad in new[]
        {
            good with { Context = [] }, good with { Context = [83] }, good with { Context = new int[256] },
            good with { Sampling = good.Sampling with { MaxNewTokens = 0 } }, good with { SharedPrompt = 3 },
            good with { Carry = new CarriedEpisode(1, 2, []) },
        })
            Assert.Throws<ArgumentException>(() => engine.Submit(bad));
        engine.Submit(good);
        Assert.Throws<ArgumentException>(() => engine.Submit(good));
        GenerationResult result = Support.Drain(engine)[1];
        Assert.Equal((254, FinishReason.Length), (result.Tokens.Length, result.Finish));
    }
}
