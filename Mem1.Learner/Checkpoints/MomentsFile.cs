// Keeps: what is restored is what was saved, bit for bit; no more than a part of the moments is copied from the device at once, and none is
// more than one array holds, whatever the number of parameters.
using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>
/// The moments of an optimiser as a safetensors file: exp_avg and exp_avg_sq, flat; of many parameters in parts, exp_avg, exp_avg.1, exp_avg.2
/// and so on.
/// </summary>
internal static class MomentsFile
{
    /// <summary>Values of a part: 256 MiB.</summary>
    public const int StandardPart = 1 << 26;

    /// <summary>Writes it.</summary>
    /// <exception cref="IOException">The disk refused; what was there is untouched.</exception>
    public static void Save(string path, FlatAdamW optimiser, int part = StandardPart) =>
        Safetensors.Write(path, new Source(Moments(optimiser), part));

    /// <summary>Reads it into an optimiser.</summary>
    /// <exception cref="LearnerException">It does not fit the model.</exception>
    /// <exception cref="CheckpointException">The file is missing or damaged.</exception>
    public static void Restore(string path, FlatAdamW optimiser)
    {
        var saved = Safetensors.Read(path).Tensors;
        using var guard = no_grad();
        foreach (var (name, into) in Moments(optimiser))
        {
            var parts = new List<float[]>();
            while (saved.TryGetValue(PartName(name, parts.Count), out var next)) parts.Add(next.Data);
            var count = parts.Sum(p => p.LongLength);
            if (parts.Count == 0 || count != into.numel())
            {
                throw new LearnerException(
                    $"{path}: {name} has {(parts.Count == 0 ? "no" : count)} values where the model has {into.numel()} parameters.");
            }

            long at = 0;
            foreach (var values in parts)
            {
                using var scope = NewDisposeScope();
                into.narrow(0, at, values.LongLength).copy_(torch.tensor(values, dtype: ScalarType.Float32));
                at += values.LongLength;
            }
        }
    }

    private static (string Name, Tensor Values)[] Moments(FlatAdamW optimiser) =>
        [("exp_avg", optimiser.FirstMoment), ("exp_avg_sq", optimiser.SecondMoment)];

    private static string PartName(string name, int part) => part == 0 ? name : FormattableString.Invariant($"{name}.{part}");

    private sealed class Source : IWeightSource
    {
        private readonly Dictionary<string, (Tensor Of, long At, long Count)> _parts = new(StringComparer.Ordinal);

        public Source((string Name, Tensor Values)[] moments, int part)
        {
            foreach (var (name, values) in moments)
            {
                var total = values.numel();
                for (int i = 0; i == 0 || (long)i * part < total; i++)
                    _parts.Add(PartName(name, i), (values, (long)i * part, Math.Min(part, total - ((long)i * part))));
            }

            Shapes = _parts.ToDictionary(p => p.Key, p => (IReadOnlyList<long>)[p.Value.Count], StringComparer.Ordinal);
        }

        public IReadOnlyDictionary<string, IReadOnlyList<long>> Shapes { get; }

        public float[] Read(string name)
        {
            var (of, at, count) = _parts[name];
            using var scope = NewDisposeScope();
            return of.narrow(0, at, count).cpu().data<float>().ToArray();
        }
    }
}
