// A request's tokens and log-probs must not depend on its neighbours, the thread count or how the cache was filled - to the last bit.
using Mem1.Model.Decoding;
using Mem1.Model.Generation;

namespace Mem1.Model.Tests;

public sealed class BitwiseTests
{
    public static TheoryData<string, bool> Levels()
    {
        var data = new TheoryData<string, bool>();
        foreach (string level in Enum.GetNames<SimdLevel>())
        {
            data.Add(level, true);
            data.Add(level, false);
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public void ARequestIsTheSameAloneAndAmongOthersOnAnyNumberOfThreads(string levelName, bool full)
    {
        SimdLevel level = Require(levelName);
        DecoderConfig config = full ? Support.FullConfig() : Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 5);
        ITokenizer words = Support.Words(config.VocabularySize);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 64).Select(i => new GenerationRequest(
            i, Support.RandomTokens(1 + i * 37 % 130, config.VocabularySize, (ulong)i),
            new SamplingOptions(1f, 1f, 12), [], (ulong)(1000 + i)))];

        Dictionary<long, GenerationResult> Run(int threads, IEnumerable<GenerationRequest> batch)
        {
            using var engine = new CpuGenerationEngine(config, weights, 1, words, threads, level);
            foreach (GenerationRequest request in batch)
                engine.Submit(request);
            return Support.Drain(engine);
        }

        Dictionary<long, GenerationResult> together = Run(1, requests);
        Dictionary<long, GenerationResult> threaded = Run(2, requests.Reverse());
        foreach (GenerationRequest request in requests)
            AssertSame(together[request.Id], threaded[request.Id]);
        foreach (GenerationRequest request in requests.Where((_, i) => i % 9 == 0))
            AssertSame(together[request.Id], Run(1, [request])[request.Id]);
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public void JoiningLaterChangesNothing(string levelName, bool full)
    {
        SimdLevel level = Require(levelName);
        DecoderConfig config = full ? Support.FullConfig(PositionEncoding.None) : Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 6);
        using var engine = new CpuGenerationEngine(config, weights, 1, Support.Words(config.VocabularySize), 2, level);
        var results = new Dictionary<long, GenerationResult>();
        GenerationRequest Request(int id) => new(id % 1000,
            Support.RandomTokens(1 + id % 1000 * 13 % 101, config.VocabularySize, (ulong)(id % 1000)),
            new SamplingOptions(0.8f, 0.9f, 5 + id % 1000 % 11), [], (ulong)(id % 1000));
        for (int i = 0; i < 30; i++)
        {
            engine.Submit(Request(i));
            foreach (GenerationResult result in engine.Step())
                results.Add(result.Id, result);
        }
        foreach ((long id, GenerationResult result) in Support.Drain(engine))
            results.Add(id, result);
        Assert.Equal(30, results.Count);
        for (int i = 0; i < 30; i += 3)
        {
            using var alone = new CpuGenerationEngine(config, weights, 1, Support.Words(config.VocabularySize), 1, level);
            alone.Submit(Request(i));
            AssertSame(Support.Drain(alone)[i], results[i]);
        }
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public unsafe void TokenByTokenEqualsAtOnceBitForBit(string levelName, bool full)
    {
        SimdLevel level = Require(levelName);
        DecoderConfig config = full ? Support.FullConfig() : Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 7);
        // Longer than one chunk of the forward pass.
        int[] tokens = Support.RandomTokens(230, config.VocabularySize, 3);
        using var decoder = new CpuDecoder(config, weights, level);
        float[] atOnce = decoder.Logits(tokens);

        DecoderCore core = DecoderCore.Create(config, level);
        using var packed = new PackedWeights(core.Shape, weights);
        foreach (int[] cuts in new[] { Enumerable.Repeat(1, 230).ToArray(), [3, 97, 1, 1, 60, 68] })
        {
            using var cache = new SequenceCache(core.Shape, tokens.Length);
            using var workspace = new Workspace(core.Shape);
            int at = 0;
            foreach (int cut in cuts)
            {
                var sink = new Last(config.VocabularySize);
                core.Run(packed, [new SequenceStep(cache, tokens, at, cut)], workspace, sink);
                at += cut;
                Assert.Equal(atOnce.AsSpan((at - 1) * config.VocabularySize, config.VocabularySize).ToArray(), sink.Logits);
            }
            Assert.Equal(230, at);
        }
    }

    [Fact]
    public void ACacheThatWasClearedIsAsNew()
    {
        DecoderConfig config = Support.FullConfig();
        ModelWeights weights = Support.RandomWeights(config, 8);
        using var engine = new CpuGenerationEngine(config, weights, 1, Support.Words(config.VocabularySize));
        var request = new GenerationRequest(1, [1, 2, 3], new SamplingOptions(1, 1, 9), [], 4);
        engine.Submit(request);
        GenerationResult plain = Support.Drain(engine)[1];
        engine.Submit(request);
        engine.Step();
        engine.Step();
        engine.SwapWeights(weights, 1);
        AssertSame(plain, Support.Drain(engine)[1]);
    }

    private static SimdLevel Require(string name)
    {
        SimdLevel level = Enum.Parse<SimdLevel>(name);
        if (!Simd.IsSupported(level))
            Assert.Skip($"this processor has no {level}");
        return level;
    }

    private static void AssertSame(GenerationResult a, GenerationResult b)
    {
        Assert.Equal(a.Tokens, b.Tokens);
        Assert.Equal(a.LogProbs.Select(BitConverter.SingleToInt32Bits), b.LogProbs.Select(BitConverter.SingleToInt32Bits));
        Assert.Equal(a.Finish, b.Finish);
    }

    private sealed unsafe class Last(int vocabulary) : ILogitsSink
    {
        public float[] Logits { get; } = new float[vocabulary];

        public void Accept(int step, int token, float* logits) => new ReadOnlySpan<float>(logits, vocabulary).CopyTo(Logits);
    }
}
