// Invariants: an adapter has lora_A and lora_B of every target module of every block, with the shapes the model asks for, and nothing
// else; a new adapter changes nothing (B is zero); merging computes W + alpha/rank * B A and leaves every other tensor as it is.
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Model.Adapters;

/// <summary>A LoRA adapter of a model.</summary>
/// <param name="Options">Its rank, scale and targets.</param>
/// <param name="Tensors">
/// model.layers.i.self_attn.q_proj.lora_A.weight [rank, in] and ....lora_B.weight [out, rank], and so on: the names of PEFT without its
/// prefix.
/// </param>
public sealed record LoraAdapter(LoraOptions Options, ModelWeights Tensors)
{
    /// <summary>How the names of the two factors of a matrix end.</summary>
    public const string SuffixA = ".lora_A.weight", SuffixB = ".lora_B.weight";

    /// <summary>A new adapter: A uniform within 1/sqrt(in) (PEFT's own start), B zero.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="options">Validated, with a rank above 0.</param>
    /// <param name="seed">Of A.</param>
    public static LoraAdapter Create(DecoderConfig config, LoraOptions options, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Rank, 1);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        ulong stream = 0;
        foreach ((string name, long[] shape) in Expected(config, options))
        {
            var data = new float[shape[0] * shape[1]];
            if (name.EndsWith(SuffixA, StringComparison.Ordinal))
            {
                ulong own = RandomStream.Bits(seed, stream++);
                double bound = 1 / Math.Sqrt(shape[1]);
                for (int i = 0; i < data.Length; i++)
                    data[i] = (float)(bound * ((2.0 * (RandomStream.Bits(own, (ulong)i) >> 11) / (1UL << 53)) - 1));
            }
            tensors[name] = new WeightTensor(shape, data);
        }
        return new LoraAdapter(options, new ModelWeights(tensors));
    }

    /// <summary>Names and shapes of the tensors of an adapter.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="options">The adapter's.</param>
    public static IEnumerable<KeyValuePair<string, long[]>> Expected(DecoderConfig config, LoraOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        foreach ((string name, long[] shape) in WeightLayout.Expected(config))
        {
            if (!IsTarget(name, options))
                continue;
            string module = name[..^".weight".Length];
            yield return new(module + SuffixA, [options.Rank, shape[1]]);
            yield return new(module + SuffixB, [shape[0], options.Rank]);
        }
    }

    /// <summary>Whether a matrix of the model is adapted.</summary>
    internal static bool IsTarget(string name, LoraOptions options) =>
        name.StartsWith("model.layers.", StringComparison.Ordinal) && options.TargetModules.Any(
            module => name.EndsWith($".{module}.weight", StringComparison.Ordinal));

    /// <summary>Throws unless the adapter fits a model.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="name">What the error calls the adapter.</param>
    /// <exception cref="CheckpointException">Names the first tensor that is missing, unknown or of another shape.</exception>
    public void Require(DecoderConfig config, string name)
    {
        var known = new HashSet<string>(StringComparer.Ordinal);
        foreach ((string tensor, long[] shape) in Expected(config, Options))
        {
            known.Add(tensor);
            if (!Tensors.Tensors.TryGetValue(tensor, out WeightTensor? found))
                throw new CheckpointException($"{name} has no {tensor} (expected [{string.Join(", ", shape)}]).");
            if (!found.Shape.SequenceEqual(shape))
            {
                throw new CheckpointException(
                    $"{name}: {tensor} has shape [{string.Join(", ", found.Shape)}] (expected [{string.Join(", ", shape)}]).");
            }
        }
        string? stranger = Tensors.Tensors.Keys.FirstOrDefault(k => !known.Contains(k));
        if (stranger is not null)
            throw new CheckpointException($"{name}: {SafetensorsHeader.Shown(stranger)} is not a tensor of this adapter.");
    }

    /// <summary>The weights with the adapter in them. Products are summed in double precision.</summary>
    /// <param name="weights">Of the model it was trained on.</param>
    public ModelWeights Merge(ModelWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var merged = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach ((string name, WeightTensor tensor) in weights.Tensors)
        {
            string module = name.EndsWith(".weight", StringComparison.Ordinal) ? name[..^".weight".Length] : name;
            bool adapted = Tensors.Tensors.TryGetValue(module + SuffixA, out WeightTensor? a);
            merged[name] = adapted ? Merge(tensor, a!, Tensors.Tensors[module + SuffixB]) : tensor;
        }
        return new ModelWeights(merged);
    }

    private WeightTensor Merge(WeightTensor weight, WeightTensor a, WeightTensor b)
    {
        int rank = Options.Rank, rows = (int)weight.Shape[0], columns = (int)weight.Shape[1];
        double scale = Options.Scale();
        var data = new float[weight.Data.Length];
        Parallel.For(0, rows, row =>
        {
            var sums = new double[columns];
            for (int r = 0; r < rank; r++)
            {
                double left = b.Data[(row * rank) + r];
                ReadOnlySpan<float> right = a.Data.AsSpan(r * columns, columns);
                for (int c = 0; c < columns; c++)
                    sums[c] += left * right[c];
            }
            for (int c = 0; c < columns; c++)
                data[(row * columns) + c] = (float)(weight.Data[(row * columns) + c] + (scale * sums[c]));
        });
        return new WeightTensor(weight.Shape, data);
    }
}
