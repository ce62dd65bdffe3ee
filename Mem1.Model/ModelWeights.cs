namespace Mem1.Model;

/// <summary>One tensor in row-major order.</summary>
/// <param name="Shape">Sizes, outermost first.</param>
/// <param name="Data">Values; as many as the product of <paramref name="Shape"/>.</param>
public sealed record WeightTensor(IReadOnlyList<long> Shape, float[] Data);

/// <summary>
/// Named float32 tensors of a model, in the names of Hugging Face's Qwen2 (model.embed_tokens.weight, model.layers.0.self_attn.q_proj.weight,
/// ..., lm_head.weight) plus this project's own: model.embed_conv.weight [D, k], model.layers.i.self_attn.{q,k,v}_conv.weight [channels, k]
/// (tap k-1 is the current token), and value_head.* which only the learner reads. Immutable by convention: who holds one never writes to it.
/// </summary>
/// <param name="Tensors">By name, ordinal order.</param>
public sealed record ModelWeights(IReadOnlyDictionary<string, WeightTensor> Tensors) : IWeightSource
{
    IReadOnlyDictionary<string, IReadOnlyList<long>> IWeightSource.Shapes => Tensors.ToDictionary(t => t.Key, t => t.Value.Shape);

    float[] IWeightSource.Read(string name) => Tensors[name].Data;
}

/// <summary>Named float32 tensors that need not all be in memory at once.</summary>
public interface IWeightSource
{
    /// <summary>Shapes by name.</summary>
    IReadOnlyDictionary<string, IReadOnlyList<long>> Shapes { get; }

    /// <summary>The values of a tensor in row-major order; not to be written to.</summary>
    /// <exception cref="KeyNotFoundException">There is none of that name.</exception>
    float[] Read(string name);
}
