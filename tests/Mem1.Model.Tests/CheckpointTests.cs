using System.Text;
using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

public sealed class CheckpointTests
{
    [Fact]
    public void AFolderLoadsAsItWasSavedAndIsReplacedWhole()
    {
        using var folder = new Support.TempFolder();
        string path = Path.Combine(folder.Path, "deep", "step-1");
        foreach (DecoderConfig config in new[] { Support.FullConfig(PositionEncoding.None), Support.PlainConfig() })
        {
            var tokenizer = new WordLevelTokenizer([.. Enumerable.Range(0, config.VocabularySize).Select(i => $"w{i}")], endOfText: "w3");
            var saved = new Checkpoint(config, Support.RandomWeights(config, 1), tokenizer);
            saved.Save(path);
            Checkpoint loaded = Checkpoint.Load(path);
            Assert.Equal(config, loaded.Config);
            Assert.Equal(3, loaded.Tokenizer!.EndOfText);
            Assert.Equal(Safetensors.ToBytes(saved.Weights), Safetensors.ToBytes(loaded.Weights));
            Assert.Single(Directory.GetDirectories(Path.Combine(folder.Path, "deep")));
        }
        string json = ModelConfigFile.Format(Support.PlainConfig());
        foreach (string own in new[] { "conv", "position\"", "attention_scale", "qkv_bias", "head_dim" })
            Assert.DoesNotContain(own, json);
    }

    [Fact]
    public void EveryMisfitIsListed()
    {
        DecoderConfig config = Support.PlainConfig();
        var tensors = new Dictionary<string, WeightTensor>(Support.RandomWeights(config, 1).Tensors);
        tensors["lm_head.weight"] = new WeightTensor([64, 83], new float[64 * 83]);
        tensors.Remove("model.norm.weight");
        tensors["stranger"] = new WeightTensor([1], [0]);
        tensors["value_head.fc1.weight"] = new WeightTensor([1], [0]);
        string message = Assert.Throws<CheckpointException>(() => new CpuDecoder(config, new ModelWeights(tensors))).Message;
        Assert.Contains("lm_head.weight has shape [64, 83] (expected [83, 64])", message);
        Assert.Contains("model.norm.weight is missing (expected [64])", message);
        Assert.Contains("stranger", message);
        Assert.DoesNotContain("value_head", message);
    }

    [Theory]
    [InlineData("\"qwen2\"", "\"llama\"", "model_type")]
    [InlineData("\"silu\"", "\"gelu\"", "hidden_act")]
    [InlineData("\"hidden_size\": 32", "\"hidden_size\": 0", "hidden_size")]
    [InlineData("\"hidden_size\": 32", "\"hidden_size\": 33", "does not divide")]
    [InlineData("\"hidden_size\": 32,", "", "hidden_size is missing")]
    [InlineData("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "does not divide")]
    [InlineData("\"vocab_size\": 97", "\"vocab_size\": \"97\"", "vocab_size")]
    [InlineData("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", "rms_norm_eps")]
    [InlineData("\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window")]
    [InlineData("\"use_sliding_window\": false", "\"rope_scaling\": {\"type\": \"yarn\"}", "rope_scaling")]
    [InlineData("\"use_sliding_window\": false", "\"position\": \"alibi\"", "position")]
    [InlineData("\"use_sliding_window\": false", "\"conv_kernel\": 65", "conv_kernel")]
    [InlineData("}", "", "not valid JSON")]
    public void AConfigurationThatCannotBeComputedIsRefused(string from, string to, string expected)
    {
        string good = File.ReadAllText(Path.Combine(Support.Data("qwen2-tiny"), "config.json"));
        Assert.Contains(from, good);
        byte[] bad = Encoding.UTF8.GetBytes(good.Replace(from, to));
        string message = Assert.Throws<CheckpointException>(() => ModelConfigFile.Parse(bad, "config.json")).Message;
        Assert.Contains(expected, message);
        Assert.Contains("config.json", message);
    }

    [Fact]
    public void ShardsAreReadThroughTheirIndex()
    {
        using var folder = new Support.TempFolder();
        DecoderConfig config = Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 1);
        ModelConfigFile.Write(folder.File("config.json"), config);
        var map = new List<string>();
        foreach (bool head in new[] { false, true })
        {
            string file = head ? "b.safetensors" : "a.safetensors";
            Dictionary<string, WeightTensor> part = weights.Tensors.Where(t => t.Key.StartsWith("lm_head") == head).ToDictionary();
            Safetensors.Write(folder.File(file), new ModelWeights(part));
            map.AddRange(part.Keys.Select(name => $"\"{name}\":\"{file}\""));
        }
        string index = folder.File("model.safetensors.index.json");
        File.WriteAllText(index, $"{{\"weight_map\":{{{string.Join(",", map)}}}}}");
        Assert.Equal(Safetensors.ToBytes(weights), Safetensors.ToBytes(Checkpoint.Load(folder.Path).Weights));
        File.WriteAllText(index, $"{{\"weight_map\":{{{string.Join(",", map)},\"more\":\"a.safetensors\"}}}}");
        Assert.Contains("more", Assert.Throws<CheckpointException>(() => Checkpoint.Load(folder.Path)).Message);
        File.WriteAllText(index, "{\"weight_map\":{\"x\":\"../a.safetensors\"}}");
        Assert.Contains("not in the checkpoint folder", Assert.Throws<CheckpointException>(() => Checkpoint.Load(folder.Path)).Message);
    }

    [Fact]
    public void InitialisationIsReproducibleAndHasTheStatedStatistics()
    {
        DecoderConfig config = Support.FullConfig() with { HiddenSize = 96, HeadSize = 24, KeyValueHeads = 4, VocabularySize = 346 };
        ModelWeights prior = ModelInitializer.InductionPrior(config, 3);
        Assert.Equal(Safetensors.ToBytes(prior), Safetensors.ToBytes(ModelInitializer.InductionPrior(config, 3)));
        Assert.NotEqual(Safetensors.ToBytes(prior), Safetensors.ToBytes(ModelInitializer.InductionPrior(config, 4)));
        Assert.Empty(WeightLayout.Misfits(config, prior));
        float[] Of(string name) => prior.Tensors["model." + name].Data;
        string a = "layers.1.self_attn.";
        Assert.Equal(Of(a + "k_proj.weight"), Of(a + "q_proj.weight"));
        Assert.Equal(Of(a + "v_proj.weight")[5 * 96 + 7], Of(a + "o_proj.weight")[7 * 96 + 5]);
        Assert.Equal(1 / Math.Sqrt(96), Deviation(Of("embed_tokens.weight")), 0.003);
        Assert.Equal(1 / Math.Sqrt(52) / 2, Deviation(Of("layers.0.mlp.down_proj.weight")), 0.003);
        for (int head = 0; head < 4; head++)
        {
            // Head h: query tap h back, key tap h + 1 back, of 5 taps.
            float[] query = Of(a + "q_conv.weight")[(head * 24 * 5)..((head * 24 + 1) * 5)];
            float[] key = Of(a + "k_conv.weight")[(head * 24 * 5)..((head * 24 + 1) * 5)];
            Assert.Equal(4 - head, Array.IndexOf(query, query.Max()));
            Assert.Equal(3 - head, Array.IndexOf(key, key.Max()));
            Assert.Equal(1f, key.Max(), 0.1f);
        }
        Assert.All(Of("embed_conv.weight").Chunk(4), taps => Assert.Equal(1f, taps[3]));

        ModelWeights plain = ModelInitializer.Normal(config, 3);
        Assert.Equal(0.02, Deviation(plain.Tensors["model.embed_tokens.weight"].Data), 0.001);
        Assert.Equal([0, 0, 0, 0, 1], plain.Tensors["model.layers.0.self_attn.k_conv.weight"].Data[..5]);
        Assert.All(plain.Tensors["model.norm.weight"].Data, x => Assert.Equal(1, x));
    }

    private static double Deviation(float[] values) => Math.Sqrt(values.Average(x => (double)x * x) - Math.Pow(values.Average(), 2));
}
