using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

public sealed class GenerationTests
{
    private static readonly SamplingOptions Plain = new(1, 1, 16);

    [Fact]
    public void LogProbsAreThoseOfTheWholeVocabularyAtTheTemperature()
    {
        DecoderConfig config = Support.FullConfig();
        ModelWeights weights = Support.RandomWeights(config, 1);
        using var decoder = new CpuDecoder(config, weights);
        foreach (SamplingOptions options in new[] { Plain, new(0.7f, 0.8f, 16), new(1.6f, 1, 16), new(0, 1, 16) })
        {
            using var engine = new CpuGenerationEngine(config, weights, 3, Support.Words(config.VocabularySize));
            engine.Submit(new GenerationRequest(1, [4, 8, 15], options, [], 99));
            GenerationResult result = Support.Drain(engine)[1];
            Assert.Equal(FinishReason.Length, result.Finish);
            Assert.Equal(16, result.Tokens.Length);
            Assert.All(result.PolicyVersions, v => Assert.Equal(3, v));
            float[] logits = decoder.Logits([4, 8, 15, .. result.Tokens]);
            for (int i = 0; i < 16; i++)
            {
                double temperature = options.Temperature == 0 ? 1 : options.Temperature;
                double[] scaled = [.. logits.Skip((2 + i) * 61).Take(61).Select(x => x / temperature)];
                double expected = scaled[result.Tokens[i]] - scaled.Max() - Math.Log(scaled.Sum(x => Math.Exp(x - scaled.Max())));
                Assert.Equal(expected, result.LogProbs[i], 2e-6);
                if (options.Temperature == 0)
                    Assert.Equal(scaled.Max(), scaled[result.Tokens[i]]);
            }
        }
    }

    [Theory]
    [InlineData(1f)]
    [InlineData(0.5f)]
    [InlineData(3f)]
    public void DrawsFollowTheDistribution(float temperature)
    {
        float[] logits = [.. Enumerable.Range(0, 70).Select(i => (float)(2 * RandomStream.Normals(5, (ulong)i).First))];
        var options = new SamplingOptions(temperature, 1, 1);
        double[] p = Softmax(logits, temperature);
        const int Draws = 200_000;
        int[] seen = Count(logits, options, Draws);
        // Cells with few expected draws are pooled, as the chi-square approximation wants.
        double chi = 0, pooledExpected = 0, pooledSeen = 0;
        int cells = 0;
        for (int i = 0; i < p.Length; i++)
        {
            if (p[i] * Draws < 10)
            {
                pooledExpected += p[i] * Draws;
                pooledSeen += seen[i];
                continue;
            }
            chi += Math.Pow(seen[i] - p[i] * Draws, 2) / (p[i] * Draws);
            cells++;
        }
        if (pooledExpected > 0)
            chi += Math.Pow(pooledSeen - pooledExpected, 2) / Math.Max(pooledExpected, 1);
        // Mean = degrees of freedom, variance twice that: five standard deviations.
        Assert.InRange(chi, 0, cells + 5 * Math.Sqrt(2.0 * cells));
    }

    [Theory]
    [InlineData(0.9f)]
    [InlineData(0.5f)]
    [InlineData(0.05f)]
    public void TopPKeepsTheSmallestSetWithTheMass(float topP)
    {
        float[] logits = [.. Enumerable.Range(0, 70).Select(i => (float)(1.5 * RandomStream.Normals(8, (ulong)i).First))];
        double[] p = Softmax(logits, 1);
        var nucleus = new HashSet<int>();
        double mass = 0;
        foreach (int i in Enumerable.Range(0, p.Length).OrderByDescending(i => p[i]))
        {
            if (mass >= topP)
                break;
            nucleus.Add(i);
            mass += p[i];
        }
        const int Draws = 50_000;
        int[] seen = Count(logits, new SamplingOptions(1, topP, 1), Draws);
        for (int i = 0; i < p.Length; i++)
        {
            double expected = nucleus.Contains(i) ? p[i] / mass * Draws : 0;
            Assert.InRange(seen[i], expected - 6 * Math.Sqrt(expected), expected + 6 * Math.Sqrt(expected));
        }
    }

    [Fact]
    public void ExtremeLogitsAndDrawsAreHandled()
    {
        var sampler = new Sampler(5);
        double almostOne = 1 - 1.0 / (1UL << 53);
        Assert.Equal(1, sampler.Draw([-1e30f, 50, -1e30f, -1e30f, -1e30f], Plain, almostOne).Token);
        Assert.Equal(0f, sampler.Draw([-1e30f, 50, -1e30f, float.NegativeInfinity, -1e30f], Plain, 0).LogProb, 2e-7f);
        Assert.Equal(4, sampler.Draw([0, 0, 0, 0, 0], Plain, almostOne).Token);
        Assert.Equal(0, sampler.Draw([0, 0, 0, 0, 0], Plain, 0).Token);
        Assert.Equal(0, sampler.Draw([3, 3, 0, 0, 0], Plain with { Temperature = 0 }, 0.9).Token);
        Assert.Throws<ArithmeticException>(() => sampler.Draw([float.NaN, 0, 0, 0, 0], Plain, 0));
        Assert.Throws<ArithmeticException>(() => sampler.Draw([float.PositiveInfinity, 0, 0, 0, 0], Plain, 0));
    }

    [Fact]
    public void LargeVocabulariesKeepTheirPrecision()
    {
        float[] logits = [.. Enumerable.Range(0, 151_936).Select(i => (float)(0.5 * RandomStream.Normals(3, (ulong)i).First))];
        double expected = logits[7] - Math.Log(logits.Sum(x => Math.Exp((double)x)));
        // The uniform number that falls into token 7.
        double u = logits.Take(7).Sum(x => Math.Exp((double)x)) + 0.5 * Math.Exp(logits[7]);
        (int token, float logProb) = new Sampler(logits.Length).Draw(logits, Plain, u / logits.Sum(x => Math.Exp((double)x)));
        Assert.Equal(7, token);
        Assert.Equal(expected, logProb, 2e-6);
    }

    [Fact]
    public void StopStringsEndWithTheTokenThatCompletesThem()
    {
        ByteLevelBpeTokenizer tokenizer = BpeTrainer.Train(["x></s> x></s> ab ab >< ><"], 275, []);
        var matcher = new StopMatcher(tokenizer);
        int FirstStop(string text, params string[] stops)
        {
            var generated = new List<int>();
            foreach (int id in tokenizer.Encode(text))
            {
                generated.Add(id);
                if (matcher.Completes(generated, stops))
                    return generated.Count;
            }
            return -1;
        }
        string far = new string('a', 200) + "</s>";
        foreach (string text in new[] { "x></s>", "ab</s>", "</s>", "a</s", "</ s>", "漢</s>x", "x></s>tail", far })
        {
            // The definition: the first prefix of tokens whose text contains the stop string.
            int[] ids = tokenizer.Encode(text);
            int expected = Enumerable.Range(1, ids.Length).FirstOrDefault(n => tokenizer.Decode(ids.AsSpan(0, n)).Contains("</s>"), -1);
            Assert.Equal(expected, FirstStop(text, "</s>"));
            Assert.Equal(expected, FirstStop(text, "never", "</s>", ""));
        }
        Assert.Equal(-1, FirstStop("abc"));
        Assert.Equal(tokenizer.Encode("漢").Length, FirstStop("漢字", "漢"));
    }

    [Fact]
    public void StopStringsSpanWordsAndIgnoreTheContext()
    {
        DecoderConfig config = Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 12);
        ITokenizer words = Support.Words(config.VocabularySize);
        var request = new GenerationRequest(1, [1, 2, 3, 4], Plain with { MaxNewTokens = 30 }, [], 5);
        using var engine = new CpuGenerationEngine(config, weights, 1, words);
        engine.Submit(request);
        int[] free = Support.Drain(engine)[1].Tokens;
        // Two generated words as the stop string; the context ends with the first half of one that must not count.
        string stop = $"w{free[9]} w{free[10]}";
        string straddling = $"w4 w{free[0]}";
        engine.Submit(request with { StopStrings = [straddling, stop] });
        GenerationResult stopped = Support.Drain(engine)[1];
        int expected = Enumerable.Range(0, 29).First(i => (free[i], free[i + 1]) == (free[9], free[10])
            || words.Decode(free.AsSpan(0, i + 2)).Contains(straddling) || words.Decode(free.AsSpan(0, i + 2)).Contains(stop)) + 2;
        Assert.Equal(free[..expected], stopped.Tokens);
        Assert.Equal(FinishReason.Stop, stopped.Finish);
    }

    [Fact]
    public void EndOfTextEndsARequest()
    {
        DecoderConfig config = Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 12);
        var request = new GenerationRequest(1, [1, 2, 3, 4], Plain, [], 5);
        using var free = new CpuGenerationEngine(config, weights, 1, Support.Words(config.VocabularySize));
        free.Submit(request);
        int[] tokens = Support.Drain(free)[1].Tokens;
        string[] words = [.. Enumerable.Range(0, config.VocabularySize).Select(i => $"w{i}")];
        using var engine = new CpuGenerationEngine(config, weights, 1, new WordLevelTokenizer(words, endOfText: $"w{tokens[6]}"));
        engine.Submit(request);
        GenerationResult result = Support.Drain(engine)[1];
        Assert.Equal(FinishReason.EndOfText, result.Finish);
        Assert.Equal(tokens[..(Array.IndexOf(tokens, tokens[6]) + 1)], result.Tokens);
    }

    [Fact]
    public void NewWeightsInTheMiddleAreAsIfTheyHadBeenThereFromTheStart()
    {
        DecoderConfig config = Support.FullConfig();
        ModelWeights old = Support.RandomWeights(config, 1), fresh = Support.RandomWeights(config, 2);
        ITokenizer words = Support.Words(config.VocabularySize);
        using var engine = new CpuGenerationEngine(config, old, 7, words);
        engine.Submit(new GenerationRequest(1, [4, 8, 15], Plain, [], 99));
        for (int i = 0; i < 5; i++)
            Assert.Empty(engine.Step());
        engine.SwapWeights(fresh, 8);
        Assert.Equal(8, engine.PolicyVersion);
        GenerationResult result = Support.Drain(engine)[1];
        Assert.Equal([.. Enumerable.Repeat(7L, 5), .. Enumerable.Repeat(8L, 11)], result.PolicyVersions);

        using var decoder = new CpuDecoder(config, fresh);
        float[] logits = decoder.Logits([4, 8, 15, .. result.Tokens]);
        var sampler = new Sampler(61);
        for (int i = 5; i < 16; i++)
        {
            (int token, float logProb) = sampler.Draw(logits.AsSpan((2 + i) * 61, 61), Plain, RandomStream.Uniform(99, (ulong)i));
            Assert.Equal((token, logProb), (result.Tokens[i], result.LogProbs[i]));
        }
        Assert.Equal(16, engine.GeneratedTokens);
    }

    [Fact]
    public void WeightsThatDoNotFitAreRefusedAndTheOldOnesStay()
    {
        DecoderConfig config = Support.PlainConfig();
        using var engine = new CpuGenerationEngine(config, Support.RandomWeights(config, 1), 1, Support.Words(config.VocabularySize));
        Assert.Throws<CheckpointException>(() => engine.SwapWeights(Support.RandomWeights(Support.FullConfig(), 1), 2));
        Assert.Equal(1, engine.PolicyVersion);
        engine.Submit(new GenerationRequest(1, [1], Plain, [], 1));
        Assert.Equal(16, Support.Drain(engine)[1].Tokens.Length);
    }

    [Fact]
    public void RequestsThatCannotRunAreRefusedAndTheContextBoundsTheLength()
    {
        DecoderConfig config = Support.PlainConfig();
        using var engine = new CpuGenerationEngine(config, Support.RandomWeights(config, 1), 1, Support.Words(config.VocabularySize));
        GenerationRequest good = new(1, [1], Plain, [], 1);
        foreach (GenerationRequest bad in new[]
        {
            good with { Context = [] }, good with { Context = [83] }, good with { Context = [-1] }, good with { Context = new int[256] },
            good with { Context = new int[300] }, good with { Sampling = Plain with { MaxNewTokens = 0 } },
            good with { Sampling = Plain with { Temperature = -1 } }, good with { Sampling = Plain with { TopP = 0 } },
            good with { Sampling = Plain with { Temperature = float.NaN } },
        })
            Assert.Throws<ArgumentException>(() => engine.Submit(bad));
        Assert.Equal(0, engine.Active);
        Assert.Empty(engine.Step());
        engine.Submit(good with { Context = new int[250], Sampling = Plain with { MaxNewTokens = int.MaxValue } });
        Assert.Throws<ArgumentException>(() => engine.Submit(good));
        GenerationResult result = Support.Drain(engine)[1];
        Assert.Equal(6, result.Tokens.Length);
        Assert.Equal(FinishReason.Length, result.Finish);
        engine.Submit(good);
        engine.Cancel(2);
        engine.Cancel(1);
        Assert.Equal(0, engine.Active);
    }

    [Fact]
    public void AReusedCacheIsAsNew()
    {
        DecoderConfig config = Support.FullConfig();
        ModelWeights weights = Support.RandomWeights(config, 1);
        ITokenizer words = Support.Words(config.VocabularySize);
        using var used = new CpuGenerationEngine(config, weights, 1, words);
        for (int round = 0; round < 6; round++)
        {
            // Long and short by turns, so that stale keys lie beyond the new sequence.
            var request = new GenerationRequest(
                1, Support.RandomTokens(round % 2 == 0 ? 60 : 3, config.VocabularySize, (ulong)round), Plain, [], (ulong)round);
            used.Submit(request);
            GenerationResult again = Support.Drain(used)[1];
            using var fresh = new CpuGenerationEngine(config, weights, 1, words);
            fresh.Submit(request);
            GenerationResult first = Support.Drain(fresh)[1];
            Assert.Equal(first.Tokens, again.Tokens);
            Assert.Equal(first.LogProbs, again.LogProbs);
        }
    }

    [Fact]
    public void RandomNumbersAreUniformAndStreamsDiffer()
    {
        double sum = 0, squares = 0, across = 0;
        const int N = 100_000;
        for (ulong i = 0; i < N; i++)
        {
            double a = RandomStream.Uniform(1, i), b = RandomStream.Uniform(2, i);
            sum += a;
            squares += a * a;
            across += (a - 0.5) * (b - 0.5);
        }
        Assert.Equal(0.5, sum / N, 0.005);
        Assert.Equal(1.0 / 3, squares / N, 0.005);
        Assert.Equal(0, across / N, 0.002);
    }

    private static int[] Count(float[] logits, SamplingOptions options, int draws)
    {
        var sampler = new Sampler(logits.Length);
        var seen = new int[logits.Length];
        for (int i = 0; i < draws; i++)
            seen[sampler.Draw(logits, options, RandomStream.Uniform(77, (ulong)i)).Token]++;
        return seen;
    }

    private static double[] Softmax(float[] logits, double temperature)
    {
        double[] e = [.. logits.Select(x => Math.Exp(x / temperature))];
        double total = e.Sum();
        return [.. e.Select(x => x / total)];
    }
}
