// Keeps: a new head predicts 0 everywhere; a head that is there is whole and of the decoder's width, and is never touched.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>The critic's own weights: a two-layer perceptron on the decoder's final hidden state.</summary>
public static class ValueHead
{
    /// <summary>
    /// The weights with a value head: as they are if they have one, else with a new one whose first prediction is 0 everywhere.
    /// </summary>
    /// <param name="weights">A decoder's.</param>
    /// <param name="hiddenSize">D; the head is as wide.</param>
    /// <param name="seed">Of the first layer; the second starts at zero, so that advantages start as plain returns.</param>
    /// <exception cref="LearnerException">The weights carry a value head of another make.</exception>
    public static ModelWeights Ensure(ModelWeights weights, int hiddenSize, ulong seed)
    {
        var found = weights.Tensors.Where(t => t.Key.StartsWith("value_head.", StringComparison.Ordinal)).ToList();
        if (found.Count > 0)
        {
            var shapes = Shapes(hiddenSize);
            var misfit = shapes.FirstOrDefault(s => !weights.Tensors.TryGetValue(s.Name, out var t) || !t.Shape.SequenceEqual(s.Shape)).Name
                ?? found.FirstOrDefault(t => shapes.All(s => s.Name != t.Key)).Key;
            if (misfit is null) return weights;
            throw new LearnerException(
                $"The checkpoint's value head is not this program's: {misfit} is missing, of another shape or unknown; "
                + "remove all value_head.* tensors.");
        }

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

    private static IReadOnlyList<(string Name, long[] Shape)> Shapes(long hiddenSize) =>
    [
        ("value_head.fc1.weight", [hiddenSize, hiddenSize]), ("value_head.fc1.bias", [hiddenSize]),
        ("value_head.fc2.weight", [1, hiddenSize]), ("value_head.fc2.bias", [1]),
    ];
}
