using System.Text;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

public sealed class CheckpointTests
{
    private const string Sliding = "\"use_sliding_window\": false";

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
    [InlineData(Sliding, "\"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 2", "use_sliding_window")]
    [InlineData(
        Sliding, "\"use_sliding_window\": true, \"sliding_window\": 64, \"layer_types\": [\"full_attention\", \"sliding_attention\"]",
        "layer_types has \"sliding_attention\" for layer 1")]
    [InlineData(Sliding, "\"layer_types\": [\"linear_attention\"]", "layer_types")]
    [InlineData(Sliding, "\"layer_types\": 7", "layer_types is not a list")]
    [InlineData(Sliding, "\"rope_scaling\": {\"type\": \"yarn\"}", "rope_scaling asks for \"yarn\"")]
    [InlineData(Sliding, "\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2.0}", "rope_parameters asks for \"linear\"")]
    [InlineData(Sliding, "\"rope_parameters\": []", "rope_parameters is not an object")]
    [InlineData(Sliding, "\"quantization_config\": {\"bits\": 4}", "quantization_config")]
    [InlineData(Sliding, "\"vocab_size\": 97", "not valid JSON")]
    [InlineData("\"silu\"", "\"\\ud800\"", "not valid JSON")]
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

    [Theory]
    [InlineData(Sliding, "\"use_sliding_window\": false, \"sliding_window\": 64, \"max_window_layers\": 0")]
    [InlineData(Sliding, "\"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 3")]
    [InlineData(Sliding, "\"use_sliding_window\": true, \"sliding_window\": 512, \"max_window_layers\": 0")]
    [InlineData(Sliding, "\"sliding_window\": null, \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]")]
    [InlineData(Sliding, "\"rope_scaling\": null")]
    [InlineData(Sliding, "\"rope_scaling\": {\"rope_type\": \"default\"}")]
    [InlineData("\"rope_theta\": 1000000.0", "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1000000.0}")]
    [InlineData("\"torch_dtype\": \"float32\"", "\"dtype\": \"float32\"")]
    public void TheVariantsOfAConfigurationThatComputeTheSameAreReadTheSame(string from, string to)
    {
        string good = File.ReadAllText(Path.Combine(Support.Data("qwen2-tiny"), "config.json"));
        Assert.Contains(from, good);
        DecoderConfig expected = ModelConfigFile.Parse(Encoding.UTF8.GetBytes(good), "config.json");
        Assert.Equal(expected, ModelConfigFile.Parse(Encoding.UTF8.GetBytes(good.Replace(from, to)), "config.json"));
    }

    [Fact]
    public void WhatCameWithACheckpointGoesBackWithIt()
    {
        using var folder = new Support.TempFolder();
        string from = folder.File("from"), to = folder.File("to");
        Directory.CreateDirectory(from);
        foreach (string name in new[] { "config.json", "model.safetensors" })
            File.Copy(Path.Combine(Support.Data("qwen2-tiny"), name), Path.Combine(from, name));
        string[] files = ["generation_config.json", "merges.txt", "vocab.json", "special_tokens_map.json", "LICENSE"];
        foreach (string name in files)
            File.WriteAllText(Path.Combine(from, name), $"{{\"{name}\":  1}}");
        File.WriteAllText(Path.Combine(from, "unrelated.bin"), "x");
        File.WriteAllText(Path.Combine(from, "config.json"), File.ReadAllText(Path.Combine(from, "config.json"))
            .Replace(Sliding, "\"use_sliding_window\": false, \"sliding_window\": 131072, \"max_window_layers\": 28, \"mine\": [1, {}]"));
        Checkpoint loaded = Checkpoint.Load(from);
        loaded.Save(to, StoredDtype.Bfloat16);
        Assert.Equal(["config.json", .. files.Order(StringComparer.Ordinal), "model.safetensors"],
            Directory.GetFiles(to).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal).OrderBy(f => f switch
            {
                "config.json" => 0,
                "model.safetensors" => 2,
                _ => 1,
            }));
        foreach (string name in files)
            Assert.Equal(File.ReadAllBytes(Path.Combine(from, name)), File.ReadAllBytes(Path.Combine(to, name)));
        JsonNode before = JsonNode.Parse(File.ReadAllText(Path.Combine(from, "config.json")))!;
        JsonNode after = JsonNode.Parse(File.ReadAllText(Path.Combine(to, "config.json")))!;
        before["torch_dtype"] = "bfloat16";
        Assert.True(JsonNode.DeepEquals(before, after), after.ToJsonString());
        Assert.Equal(StoredDtype.Bfloat16, Checkpoint.Load(to).Origin.Dtype);
    }

    [Theory]
    [InlineData(StoredDtype.Float32)]
    [InlineData(StoredDtype.Bfloat16)]
    [InlineData(StoredDtype.Float16)]
    public void ACheckpointAboveTheLimitIsCutIntoShardsAndTheValueHeadHasAFileOfItsOwn(StoredDtype dtype)
    {
        using var folder = new Support.TempFolder();
        DecoderConfig config = Support.PlainConfig();
        var tensors = new Dictionary<string, WeightTensor>(Support.RandomWeights(config, 1).Tensors)
        {
            ["value_head.fc2.bias"] = new([1], [0.1f]),
        };
        var saved = new Checkpoint(config, new ModelWeights(tensors), null);
        string path = folder.File("m");
        saved.Save(path, dtype, shardBytes: 60_000);
        string[] shards = [.. Directory.GetFiles(path, "model-*").Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal)];
        Assert.True(shards.Length >= 3);
        Assert.Equal($"model-00001-of-{shards.Length:00000}.safetensors", shards[0]);
        Assert.All(shards, s => Assert.InRange(new FileInfo(Path.Combine(path, s)).Length, 1, 62_000));
        JsonNode index = JsonNode.Parse(File.ReadAllText(Path.Combine(path, "model.safetensors.index.json")))!;
        long size = tensors.Where(t => !t.Key.StartsWith("value_head.")).Sum(t => t.Value.Data.LongLength);
        Assert.Equal(size * (dtype == StoredDtype.Float32 ? 4 : 2), index["metadata"]!["total_size"]!.GetValue<long>());
        Assert.DoesNotContain("value_head", index["weight_map"]!.ToJsonString());
        Checkpoint loaded = Checkpoint.Load(path);
        // What was rounded once rounds to itself: the second folder is the first, byte for byte.
        loaded.Save(folder.File("n"), dtype, shardBytes: 60_000);
        foreach (string file in Directory.GetFiles(path))
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(folder.File("n"), Path.GetFileName(file))));
        foreach ((string name, WeightTensor tensor) in tensors)
        {
            double tolerance = name.StartsWith("value_head.") || dtype == StoredDtype.Float32 ? 0 : dtype == StoredDtype.Float16 ? 6e-4 : 4e-3;
            Assert.All(tensor.Data.Zip(loaded.Weights.Tensors[name].Data), p =>
                Assert.InRange(Math.Abs(p.First - p.Second), 0, tolerance * Math.Max(Math.Abs(p.First), 1e-4)));
        }
    }

    [Fact]
    public void AValueThatHalfPrecisionCannotHoldIsRefusedByName()
    {
        var weights = new ModelWeights(new Dictionary<string, WeightTensor> { ["big"] = new([2], [1, 65520]) });
        string message = Assert.Throws<CheckpointException>(() => Safetensors.ToBytes(weights, StoredDtype.Float16)).Message;
        Assert.Contains("big", message);
        Assert.Contains("65520", message);
    }

    [Fact]
    public void ATiedModelsRedundantHeadIsNotKept()
    {
        using var folder = new Support.TempFolder();
        DecoderConfig config = Support.PlainConfig() with { TiedEmbeddings = true };
        var tensors = new Dictionary<string, WeightTensor>(Support.RandomWeights(config, 1).Tensors);
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = new([8], new float[8]);
        ModelConfigFile.Write(folder.File("config.json"), config);
        Safetensors.Write(folder.File("model.safetensors"), new ModelWeights(tensors));
        Assert.Equal(WeightLayout.Expected(config).Select(e => e.Key).Order(StringComparer.Ordinal), Checkpoint.Load(folder.Path).Weights.Tensors.Keys);
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
