// What the sampler reports must be what the gradient pass computes: log-probs of drawn tokens against libtorch's, for every option.
using Mem1.Model.Generation;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model.Tests;

public sealed class SamplerParityTests
{
    public static TheoryData<string> Shapes() => ["plain", "tied", "rope-conv", "none-conv", "conv-1", "wide"];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void LogProbsEqualTheGradientPass(string name)
    {
        RequireLibtorch();
        DecoderConfig config = Shape(name);
        ModelWeights weights = Support.RandomWeights(config, 21);
        using var engine = new CpuGenerationEngine(config, weights, 1, Support.Words(config.VocabularySize), 2);
        using var torchModel = new TorchDecoder(config, weights, CPU);
        // With and without temperature; prompts from one token up to several chunks of the forward pass.
        int[] lengths = [1, 2, 3, 17, 95, 130];
        foreach (float temperature in new[] { 1f, 0.7f })
        {
            for (int i = 0; i < lengths.Length; i++)
            {
                engine.Submit(new GenerationRequest(i, Support.RandomTokens(lengths[i], config.VocabularySize, (ulong)i),
                    new SamplingOptions(temperature, 0.95f, 40), [], (ulong)i));
            }
            Dictionary<long, GenerationResult> results = Support.Drain(engine);
            for (int i = 0; i < lengths.Length; i++)
            {
                int[] prompt = Support.RandomTokens(lengths[i], config.VocabularySize, (ulong)i);
                GenerationResult result = results[i];
                using var scope = NewDisposeScope();
                using var guard = no_grad();
                var batch = new TurnBatch([prompt[..^1]], [[prompt[^1], .. result.Tokens]], [0]);
                Tensor logits = torchModel.Logits(torchModel.Forward(batch));
                float[] all = nn.functional.log_softmax(logits / (double)temperature, -1).data<float>().ToArray();
                double squares = 0;
                for (int t = 0; t < result.Tokens.Length; t++)
                {
                    float expected = all[(batch.FlatIndex(0, t) * config.VocabularySize) + result.Tokens[t]];
                    // The gauge's limit for single tokens: both passes are a few 1e-5 from float64 on weights as wild as these.
                    Assert.Equal(expected, result.LogProbs[t], 1e-4f);
                    squares += Math.Pow(expected - result.LogProbs[t], 2);
                }
                Assert.InRange(Math.Sqrt(squares / result.Tokens.Length), 0, 1.5e-5);
            }
        }
    }

    internal static DecoderConfig Shape(string name) => name switch
    {
        "plain" => Support.PlainConfig(),
        "tied" => Support.PlainConfig() with { TiedEmbeddings = true, QkvBias = false, RopeTheta = 10_000, KeyValueHeads = 1 },
        "rope-conv" => Support.FullConfig(),
        "none-conv" => Support.FullConfig(PositionEncoding.None) with { KeyValueHeads = 4, QkvBias = false },
        "conv-1" => Support.FullConfig() with { ConvKernel = 1, EmbeddingConvKernel = 0, TiedEmbeddings = false },
        _ => Support.PlainConfig() with { HeadSize = 24, IntermediateSize = 33, HiddenSize = 50, VocabularySize = 129, Layers = 3 },
    };

    internal static void RequireLibtorch()
    {
        if (!LibtorchLoads())
            Assert.Skip("libtorch did not load (Debian: libtorch-dev)");
    }

    private static bool LibtorchLoads()
    {
        try
        {
            using Tensor one = ones(1);
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or NotSupportedException or TypeInitializationException)
        {
            return false;
        }
    }
}
