using System.Text.Json.Nodes;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model.Tests;

public sealed class AdapterTests
{
    private static readonly LoraOptions Options = new() { Rank = 3, Alpha = 7 };

    [Fact]
    public void ANewAdapterChangesNothingAndATrainedOneEqualsItsMergedModel()
    {
        foreach (DecoderConfig config in new[] { Support.PlainConfig(), Support.FullConfig() })
        {
            ModelWeights weights = Support.RandomWeights(config, 1);
            LoraAdapter fresh = LoraAdapter.Create(config, Options, 5);
            Assert.Equal(Safetensors.ToBytes(weights), Safetensors.ToBytes(fresh.Merge(weights)));
            LoraAdapter trained = Trained(config, Options);
            using var adapted = new TorchDecoder(config, weights, CPU, adapter: trained);
            using var merged = new TorchDecoder(config, trained.Merge(weights), CPU);
            using var plain = new TorchDecoder(config, weights, CPU);
            using var scope = NewDisposeScope();
            TurnBatch batch = Batch(config);
            float[] Logits(TorchDecoder model) => model.Logits(model.Forward(batch)).data<float>().ToArray();
            float[] a = Logits(adapted), b = Logits(merged), c = Logits(plain);
            Assert.True(a.Zip(b).Max(p => Math.Abs(p.First - p.Second)) < 2e-4);
            Assert.True(a.Zip(c).Max(p => Math.Abs(p.First - p.Second)) > 0.05, "the adapter must matter");

            // What the sampler gets is what the learner computes with.
            ModelWeights sent = adapted.Parameters.Snapshot(policyOnly: true);
            Assert.Empty(WeightLayout.Misfits(config, sent));
            Assert.Equal(Safetensors.ToBytes(sent), Safetensors.ToBytes(adapted.Parameters.Policy()));
            Assert.Equal(Safetensors.ToBytes(plain.Parameters.Snapshot(policyOnly: true)), Safetensors.ToBytes(plain.Parameters.Policy()));
            foreach ((string name, WeightTensor tensor) in trained.Merge(weights).Tensors)
                Assert.True(tensor.Data.Zip(sent.Tensors[name].Data).All(p => Math.Abs(p.First - p.Second) < 1e-6));
            Assert.Equal(Safetensors.ToBytes(weights), Safetensors.ToBytes(adapted.Parameters.Snapshot(policyOnly: false)));
            Assert.Equal(Safetensors.ToBytes(trained.Tensors), Safetensors.ToBytes(adapted.Parameters.SnapshotAdapter()!.Tensors));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void GradientsReachTheAdapterAloneAndAreThoseOfTheWholeModelThroughItsFactors(bool checkpointed)
    {
        DecoderConfig config = Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 1);
        LoraOptions options = Options with { TargetModules = ["q_proj", "down_proj"] };
        LoraAdapter adapter = Trained(config, options);
        using var adapted = new TorchDecoder(config, weights, CPU, adapter: adapter);
        using var whole = new TorchDecoder(config, adapter.Merge(weights), CPU);
        using var scope = NewDisposeScope();
        TurnBatch batch = Batch(config);
        Tensor mix = Mix(batch, config);
        if (checkpointed)
        {
            using CheckpointedForward pass = adapted.ForwardCheckpointed(batch);
            (pass.Output * mix).sum().backward();
            pass.Backward();
        }
        else
        {
            (adapted.Forward(batch) * mix).sum().backward();
        }
        (whole.Forward(batch) * mix).sum().backward();

        long trained = adapter.Tensors.Tensors.Values.Sum(t => t.Data.LongLength);
        Assert.Equal(trained, adapted.Parameters.Values.numel());
        foreach (string name in weights.Tensors.Keys)
        {
            if (!name.Contains("q_proj.weight") && !name.Contains("down_proj"))
                Assert.False(adapted.Parameters[name].requires_grad, name);
        }
        foreach (string name in new[] { "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj" })
        {
            Tensor a = adapted.Parameters[name + LoraAdapter.SuffixA], b = adapted.Parameters[name + LoraAdapter.SuffixB];
            Tensor dw = whole.Parameters[name + ".weight"].grad!;
            Near(matmul(dw, a.detach().t()) * options.Scale(), b.grad!);
            Near(matmul(b.detach().t(), dw) * options.Scale(), a.grad!);
        }
    }

    [Fact]
    public void AnAdapterIsWrittenAsPeftWritesIt()
    {
        using var folder = new Support.TempFolder();
        DecoderConfig config = Support.PlainConfig() with { Layers = 1 };
        LoraAdapter adapter = Trained(config, new LoraOptions { Rank = 2, Alpha = 4, TargetModules = ["q_proj", "down_proj"] });
        string path = folder.File("adapter");
        PeftFolder.Save(adapter, path, "Qwen/Qwen2.5-0.5B");
        // By hand from PEFT's LoraConfig and get_peft_model_state_dict.
        Assert.Equal(
        [
            ("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", "2,96"), ("base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", "64,2"),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "2,64"),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", "64,2"),
        ], Safetensors.Read(Path.Combine(path, "adapter_model.safetensors")).Tensors.Select(t => (t.Key, string.Join(',', t.Value.Shape))));
        JsonNode json = JsonNode.Parse(File.ReadAllText(Path.Combine(path, "adapter_config.json")))!;
        JsonNode expected = JsonNode.Parse("""
            {"base_model_name_or_path":"Qwen/Qwen2.5-0.5B","bias":"none","fan_in_fan_out":false,"inference_mode":true,"init_lora_weights":true,
            "lora_alpha":4,"lora_dropout":0.0,"modules_to_save":null,"peft_type":"LORA","r":2,"rank_pattern":{},"alpha_pattern":{},
            "target_modules":["q_proj","down_proj"],"task_type":"CAUSAL_LM","use_dora":false,"use_rslora":false}
            """)!;
        Assert.True(JsonNode.DeepEquals(expected, json), json.ToJsonString());
        LoraAdapter loaded = PeftFolder.Load(path, config);
        Assert.True(loaded.Options.SameAs(adapter.Options));
        Assert.Equal(Safetensors.ToBytes(adapter.Tensors), Safetensors.ToBytes(loaded.Tensors));

        string good = File.ReadAllText(Path.Combine(path, "adapter_config.json"));
        foreach ((string from, string to, string said) in new[]
        {
            ("\"LORA\"", "\"IA3\"", "peft_type"), ("\"use_dora\": false", "\"use_dora\": true", "use_dora"), ("\"r\": 2", "\"r\": 0", "r is not"),
            ("\"r\": 2", "\"r\": 3", "has shape [2, 64] (expected [3, 64])"), ("\"rank_pattern\": {}", "\"rank_pattern\": {\"x\": 1}", "rank_pattern"),
            ("\"q_proj\"", "\"k_proj\"", "has no model.layers.0.self_attn.k_proj.lora_A.weight (expected [2, 64])"),
            ("\"q_proj\"", "\"lm_head\"", "lm_head"), ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias"), ("{", "[", "not the configuration"),
        })
        {
            Assert.Contains(from, good);
            File.WriteAllText(Path.Combine(path, "adapter_config.json"), good.Replace(from, to));
            Assert.Contains(said, Assert.Throws<CheckpointException>(() => PeftFolder.Load(path, config)).Message);
        }
    }

    [Fact]
    public void ACheckpointKeepsItsAdapterInAFolderOfItsOwn()
    {
        using var folder = new Support.TempFolder();
        DecoderConfig config = Support.PlainConfig();
        ModelWeights weights = Support.RandomWeights(config, 1);
        LoraAdapter adapter = Trained(config, Options);
        new Checkpoint(config, weights, null) { Adapter = adapter }.Save(folder.File("m"));
        Checkpoint loaded = Checkpoint.Load(folder.File("m"));
        Assert.Equal(Safetensors.ToBytes(weights), Safetensors.ToBytes(loaded.Weights));
        Assert.Equal(Safetensors.ToBytes(adapter.Tensors), Safetensors.ToBytes(loaded.Adapter!.Tensors));
        Assert.False(File.Exists(Path.Combine(folder.File("m"), "adapter_config.json")));
        Assert.Equal(Safetensors.ToBytes(adapter.Merge(weights)), Safetensors.ToBytes(loaded.Merged().Weights));
        Assert.Null(loaded.Merged().Adapter);
    }

    [Fact]
    public void OptionsThatContradictThemselvesAreNamed()
    {
        Assert.Empty(new LoraOptions().Validate());
        var wrong = new LoraOptions { Rank = -1, Alpha = 0, Dropout = 0.1, TargetModules = ["q_proj", "q_proj", "lm_head"] };
        string all = string.Join('\n', wrong.Validate());
        foreach (string word in new[] { "lora.rank", "lora.alpha", "lora.dropout", "\"lm_head\"", "twice" })
            Assert.Contains(word, all);
    }

    /// <summary>An adapter with both factors random.</summary>
    private static LoraAdapter Trained(DecoderConfig config, LoraOptions options)
    {
        LoraAdapter adapter = LoraAdapter.Create(config, options, 5);
        var tensors = new SortedDictionary<string, WeightTensor>(adapter.Tensors.Tensors.ToDictionary(), StringComparer.Ordinal);
        ulong stream = 11;
        foreach ((string name, WeightTensor tensor) in adapter.Tensors.Tensors)
        {
            if (!name.EndsWith(LoraAdapter.SuffixB))
                continue;
            stream++;
            tensors[name] = tensor with
            {
                Data = [.. tensor.Data.Select((_, i) => (float)(0.2 * Generation.RandomStream.Normals(stream, (ulong)i).First))],
            };
        }
        return adapter with { Tensors = new ModelWeights(tensors) };
    }

    private static TurnBatch Batch(DecoderConfig config) => new(
        [Support.RandomTokens(5, config.VocabularySize, 1), Support.RandomTokens(3, config.VocabularySize, 2)],
        [Support.RandomTokens(7, config.VocabularySize, 3), Support.RandomTokens(4, config.VocabularySize, 4), Support.RandomTokens(6, config.VocabularySize, 5)],
        [0, 0, 1]);

    /// <summary>Weights of a sum over the outputs that count; pads hold rubbish.</summary>
    private static Tensor Mix(TurnBatch batch, DecoderConfig config)
    {
        var mix = new float[batch.Rows.Count * batch.RowWidth * config.HiddenSize];
        for (int r = 0; r < batch.Rows.Count; r++)
        {
            for (int i = 0; i < batch.Rows[r].Length; i++)
            {
                for (int d = 0; d < config.HiddenSize; d++)
                {
                    long at = (batch.FlatIndex(r, i) * config.HiddenSize) + d;
                    mix[at] = (float)Generation.RandomStream.Normals(9, (ulong)at).First;
                }
            }
        }
        return torch.tensor(mix).view(-1, config.HiddenSize);
    }

    private static void Near(Tensor expected, Tensor actual)
    {
        float[] a = expected.contiguous().data<float>().ToArray(), b = actual.contiguous().data<float>().ToArray();
        double scale = a.Max(Math.Abs);
        Assert.True(scale > 0);
        Assert.True(a.Zip(b).Max(p => Math.Abs(p.First - p.Second)) < 2e-4 * scale);
    }
}
