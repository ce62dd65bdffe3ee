using Mem1.Model;

namespace Mem1.Learner;

/// <summary>The critic's own weights: a two-layer perceptron on the decoder's final hidden state.</summary>
public static class ValueHead
{
    /// <summary>The weights with a value head: as they are if they have one, else with a new one whose first prediction is 0 everywhere.</summary>
    /// <param name="weights">A decoder's.</param>
    /// <param name="hiddenSize">D; the head is as wide.</param>
    /// <param name="seed">Of the first layer; the second starts at zero, so that advantages start as plain returns.</param>
    public static ModelWeights Ensure(ModelWeights weights, int hiddenSize, ulong seed)
    {
        if (weights.Tensors.ContainsKey("value_head.fc1.weight")) return weights;
        var random = Seeds.Generator(seed, 0x5648); // 0x5648: "VH", this purpose's own number
        var first = new float[hiddenSize * hiddenSize];
        for (var i = 0; i < first.Length; i++)
        {
            // Box and Muller; 1 - u keeps the logarithm finite.
            var radius = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()));
            first[i] = (float)(radius * Math.Cos(2 * Math.PI * random.NextDouble()) / Math.Sqrt(hiddenSize));
        }

        var all = new SortedDictionary<string, WeightTensor>(weights.Tensors.ToDictionary(), StringComparer.Ordinal)
        {
            ["value_head.fc1.weight"] = new([hiddenSize, hiddenSize], first),
            ["value_head.fc1.bias"] = new([hiddenSize], new float[hiddenSize]),
            ["value_head.fc2.weight"] = new([1, hiddenSize], new float[hiddenSize]),
            ["value_head.fc2.bias"] = new([1], new float[1]),
        };
        return new ModelWeights(all);
    }
}
