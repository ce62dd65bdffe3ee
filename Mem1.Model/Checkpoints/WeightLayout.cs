// The one place that says which tensors a configuration asks for. Decoders, the initialiser and checkpoint checks all read it.
namespace Mem1.Model.Checkpoints;

/// <summary>Names and shapes of the tensors of a model.</summary>
public static class WeightLayout
{
    /// <summary>Prefix of the learner's own tensors, which decoders pass over.</summary>
    public const string ValueHeadPrefix = "value_head.";

    /// <summary>At most so many misfits are spelled out; the rest are counted.</summary>
    private const int ListedMisfits = 20;

    /// <summary>Every tensor the decoder needs, in the order of computation.</summary>
    /// <param name="config">The shape of the model.</param>
    public static IReadOnlyList<KeyValuePair<string, long[]>> Expected(DecoderConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        long hidden = config.HiddenSize, vocabulary = config.VocabularySize, inner = config.IntermediateSize;
        long queries = (long)config.Heads * config.HeadSize, keys = (long)config.KeyValueHeads * config.HeadSize;
        var list = new List<KeyValuePair<string, long[]>>();
        void Add(string name, params long[] shape) => list.Add(new(name, shape));
        Add("model.embed_tokens.weight", vocabulary, hidden);
        if (config.EmbeddingConvKernel > 0)
            Add("model.embed_conv.weight", hidden, config.EmbeddingConvKernel);
        for (int i = 0; i < config.Layers; i++)
        {
            string layer = $"model.layers.{i}.";
            Add(layer + "input_layernorm.weight", hidden);
            foreach ((string part, long rows) in new[] { ("q", queries), ("k", keys), ("v", keys) })
            {
                Add($"{layer}self_attn.{part}_proj.weight", rows, hidden);
                if (config.QkvBias)
                    Add($"{layer}self_attn.{part}_proj.bias", rows);
                if (config.ConvKernel > 0)
                    Add($"{layer}self_attn.{part}_conv.weight", rows, config.ConvKernel);
            }
            Add(layer + "self_attn.o_proj.weight", hidden, queries);
            Add(layer + "post_attention_layernorm.weight", hidden);
            Add(layer + "mlp.gate_proj.weight", inner, hidden);
            Add(layer + "mlp.up_proj.weight", inner, hidden);
            Add(layer + "mlp.down_proj.weight", hidden, inner);
        }
        Add("model.norm.weight", hidden);
        if (!config.TiedEmbeddings)
            Add("lm_head.weight", vocabulary, hidden);
        return list;
    }

    /// <summary>
    /// What does not fit, one phrase per tensor: missing, of another shape, or unknown. A tied model may carry a redundant lm_head.weight,
    /// and value_head.* is the learner's.
    /// </summary>
    /// <param name="config">What the tensors should fit.</param>
    /// <param name="weights">The tensors.</param>
    public static IReadOnlyList<string> Misfits(DecoderConfig config, ModelWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var misfits = new List<string>();
        var known = new HashSet<string>(StringComparer.Ordinal);
        foreach ((string name, long[] shape) in Expected(config))
        {
            known.Add(name);
            if (!weights.Tensors.TryGetValue(name, out WeightTensor? tensor))
                misfits.Add($"{name} is missing (expected [{string.Join(", ", shape)}])");
            else if (!tensor.Shape.SequenceEqual(shape))
                misfits.Add($"{name} has shape [{string.Join(", ", tensor.Shape)}] (expected [{string.Join(", ", shape)}])");
            else if (tensor.Data.LongLength != shape.Aggregate(1L, (a, b) => a * b))
                misfits.Add($"{name} has {tensor.Data.Length} values (expected [{string.Join(", ", shape)}])");
        }
        foreach (string name in weights.Tensors.Keys.Order(StringComparer.Ordinal))
        {
            bool redundant = config.TiedEmbeddings && name == "lm_head.weight";
            if (!known.Contains(name) && !redundant && !name.StartsWith(ValueHeadPrefix, StringComparison.Ordinal))
                misfits.Add($"{SafetensorsHeader.Shown(name)} is not a tensor of this model");
        }
        return misfits;
    }

    /// <summary>Throws unless the weights fit the configuration.</summary>
    /// <param name="config">What the tensors should fit.</param>
    /// <param name="weights">The tensors.</param>
    /// <param name="name">What the error calls the weights.</param>
    /// <exception cref="CheckpointException">Lists every misfit: tensor, found and expected shape.</exception>
    public static void Require(DecoderConfig config, ModelWeights weights, string name)
    {
        IReadOnlyList<string> misfits = Misfits(config, weights);
        if (misfits.Count == 0)
            return;
        string rest = misfits.Count > ListedMisfits ? $"; and {misfits.Count - ListedMisfits} more" : "";
        string listed = string.Join("; ", misfits.Take(ListedMisfits));
        throw new CheckpointException($"{name} does not fit the model configuration: {listed}{rest}.");
    }
}
