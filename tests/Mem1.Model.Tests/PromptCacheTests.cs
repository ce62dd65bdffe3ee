// What is kept of prompts saves reading and changes nothing, to the last bit.
using Mem1.Model.Decoding;
using Mem1.Model.Generation;

namespace Mem1.Model.Tests;

public sealed class PromptCacheTests
{
    private static readonly SamplingOptions Plain = new(1, 1, 8);

    [Theory]
    [MemberData(nameof(BitwiseTests.Levels), MemberType = typeof(BitwiseTests))]
    public void TurnsOnKeptPromptsAreThoseOfContextsReadWhole(string levelName, bool full)
    {
        SimdLevel level = Enum.Parse<SimdLevel>(levelName);
        if (!Simd.IsSupported(level))
            Assert.Skip($"this processor has no {level}");
        DecoderConfig config = full ? Support.FullConfig() : Support.PlainConfig();
        // Twelve episodes of four turns on five prompts, one of a single token and one longer than a chunk of the forward pass.
        int[] lengths = [1, 2, 17, 40, 110];
        int[][] prompts = [.. lengths.Select((n, i) => Support.RandomTokens(n, config.VocabularySize, (ulong)i))];
        GenerationRequest[][] turns =
        [
            .. Enumerable.Range(0, 4).Select(turn => Enumerable.Range(0, 12).Select(episode => new GenerationRequest(
                episode,
                [
                    .. prompts[episode % 5],
                    .. Support.RandomTokens(turn * (3 + (episode * 7 % 30)), config.VocabularySize, (ulong)(1000 + (turn * 12) + episode)),
                ],
                Plain, [], (ulong)((turn * 12) + episode))
            { SharedPrompt = lengths[episode % 5] }).ToArray()),
        ];
        ModelWeights[] weights = [Support.RandomWeights(config, 5), Support.RandomWeights(config, 6)];
        ITokenizer words = Support.Words(config.VocabularySize);

        (List<GenerationResult> Results, long Read, long Reused) Play(int threads, long bytes)
        {
            using var engine = new CpuGenerationEngine(config, weights[0], 0, words, threads, level, bytes);
            var results = new List<GenerationResult>();
            for (int turn = 0; turn < turns.Length; turn++)
            {
                foreach (GenerationRequest request in turns[turn])
                    engine.Submit(request);
                // Twice in the middle of a turn: what was kept under the old weights must not be used under the new ones.
                if (turn is 1 or 2)
                {
                    for (int step = 0; step < 3; step++)
                        Assert.Empty(engine.Step());
                    engine.SwapWeights(weights[turn % 2], turn);
                    Assert.Equal(0, engine.Prompts.Count);
                }
                results.AddRange(Support.Drain(engine).Values.OrderBy(r => r.Id));
            }
            Assert.InRange(engine.Prompts.Bytes, 0, bytes);
            return (results, engine.PrefillTokens, engine.ReusedTokens);
        }

        var (whole, read, none) = Play(1, 0);
        Assert.Equal(0, none);
        foreach (int threads in new[] { 1, 2 })
        {
            var (kept, less, reused) = Play(threads, CpuGenerationEngine.StandardPromptBytes);
            Assert.Equal(read, less + reused);
            Assert.True(reused > read / 4, $"{reused} of {read}");
            // Room for the short ones only: what goes is read again.
            var (tight, most, some) = Play(threads, SequenceCache.BytesFor(DecoderCore.Create(config, level).Shape, 40));
            Assert.Equal(read, most + some);
            Assert.InRange(some, 1, reused - 1);
            for (int i = 0; i < whole.Count; i++)
            {
                AssertSame(whole[i], kept[i]);
                AssertSame(whole[i], tight[i]);
            }
        }
    }

    [Fact]
    public void APromptIsReadOnceByAGroupAndTurnsReadOnlyWhatIsNew()
    {
        DecoderConfig config = Support.FullConfig();
        using var engine = new CpuGenerationEngine(
            config, Support.RandomWeights(config, 1), 1, Support.Words(config.VocabularySize), threads: 2);
        int[] prompt = Support.RandomTokens(50, config.VocabularySize, 1);
        for (int i = 0; i < 8; i++)
            engine.Submit(new GenerationRequest(i, prompt, Plain, [], (ulong)i) { SharedPrompt = 50 });
        Support.Drain(engine);
        // 49 once; the prompt's last token, after which the first is drawn, by each.
        Assert.Equal((49 + 8, 7 * 49), (engine.PrefillTokens, engine.ReusedTokens));
        engine.Submit(new GenerationRequest(1, [.. prompt, 5, 6, 7], Plain, [], 3) { SharedPrompt = 50 });
        Support.Drain(engine);
        Assert.Equal((49 + 8 + 4, 8 * 49), (engine.PrefillTokens, engine.ReusedTokens));
        // One token of it is another: nothing of it may be used.
        prompt[10] = (prompt[10] + 1) % config.VocabularySize;
        engine.Submit(new GenerationRequest(1, prompt, Plain, [], 3) { SharedPrompt = 50 });
        Support.Drain(engine);
        Assert.Equal(8 * 49, engine.ReusedTokens);
        Assert.Equal(2, engine.Prompts.Count);
    }

    [Fact]
    public void ThePromptUnusedForLongestGoesFirst()
    {
        DecoderConfig config = Support.PlainConfig();
        DecoderShape shape = DecoderCore.Create(config, Simd.Best).Shape;
        long room = 3 * SequenceCache.BytesFor(shape, 9);
        using var engine = new CpuGenerationEngine(
            config, Support.RandomWeights(config, 1), 1, Support.Words(config.VocabularySize), promptBytes: room);
        bool Reuses(int first)
        {
            long before = engine.ReusedTokens;
            engine.Submit(new GenerationRequest(1, [first, 1, 2, 3, 4, 5, 6, 7, 8, 9], Plain, [], 1) { SharedPrompt = 10 });
            Support.Drain(engine);
            Assert.InRange(engine.Prompts.Bytes, 1, room);
            return engine.ReusedTokens > before;
        }

        Assert.Equal([false, false, false, true, false], new[] { 10, 11, 12, 10, 13 }.Select(Reuses));
        Assert.Equal([true, true, true, false], new[] { 10, 12, 13, 11 }.Select(Reuses));
        // One too large to be kept at all is read each time and pushes nothing out.
        for (int i = 0; i < 2; i++)
        {
            engine.Submit(new GenerationRequest(1, new int[100], Plain, [], 1) { SharedPrompt = 100 });
            Support.Drain(engine);
        }
        Assert.Equal(3, engine.Prompts.Count);
        Assert.Throws<ArgumentException>(() => engine.Submit(new GenerationRequest(1, [1, 2], Plain, [], 1) { SharedPrompt = 3 }));
        Assert.Throws<ArgumentException>(() => engine.Submit(new GenerationRequest(1, [1, 2], Plain, [], 1) { SharedPrompt = -1 }));
    }

    private static void AssertSame(GenerationResult a, GenerationResult b)
    {
        Assert.Equal(a.Tokens, b.Tokens);
        Assert.Equal(a.LogProbs.Select(BitConverter.SingleToInt32Bits), b.LogProbs.Select(BitConverter.SingleToInt32Bits));
        Assert.Equal(a.PolicyVersions, b.PolicyVersions);
        Assert.Equal(a.Finish, b.Finish);
    }
}
