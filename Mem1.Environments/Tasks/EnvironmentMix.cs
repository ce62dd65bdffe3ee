// Invariants: which environment a task belongs to depends on its index alone, and the task carries that environment's name; within any
// stretch of tasks each environment has its share to within one task or so; each environment sees its own indices without gaps.

namespace Mem1.Environments.Tasks;

/// <summary>One environment of a mix.</summary>
/// <param name="Name">Names it within the mix; unique there.</param>
/// <param name="Share">How many of the tasks are its own, in proportion to the others; above 0.</param>
/// <param name="Factory">Makes its episodes.</param>
/// <param name="Training">Its tasks to train on.</param>
/// <param name="HeldOut">Its tasks to evaluate on.</param>
/// <param name="Expert">Its scripted player, or null.</param>
public sealed record MixPart(
    string Name, double Share, IEnvironmentFactory Factory, ITaskSource Training, ITaskSource HeldOut, IExpert? Expert);

/// <summary>Several environments as one. The parts must agree on the tags around internal state and observation. Thread-safe.</summary>
public sealed class EnvironmentMix
{
    /// <summary>The shares are kept exactly over so many tasks.</summary>
    public const int Cycle = 1000;

    /// <summary>Makes the mix.</summary>
    /// <param name="parts">The environments; not empty, names distinct, shares above 0.</param>
    /// <exception cref="ArgumentException"><see cref="Problem"/> says why they do not go together.</exception>
    public EnvironmentMix(IReadOnlyList<MixPart> parts)
    {
        if (Problem(parts) is { } problem)
            throw new ArgumentException(problem, nameof(parts));
        Factory = new MixedFactory(parts);
        int[] order = Order([.. parts.Select(p => p.Share)]);
        Training = new MixedSource(parts, order, p => p.Training);
        HeldOut = new MixedSource(parts, order, p => p.HeldOut);
        Expert = parts.All(p => p.Expert is not null) ? new MixedExpert(parts) : null;
    }

    /// <summary>Makes the episodes, each by the environment that its task names.</summary>
    public IEnvironmentFactory Factory { get; }

    /// <summary>The training tasks of all parts in their proportions.</summary>
    public ITaskSource Training { get; }

    /// <summary>The held-out tasks of all parts in their proportions.</summary>
    public ITaskSource HeldOut { get; }

    /// <summary>Plays each task as its environment's expert does; null when one has none.</summary>
    public IExpert? Expert { get; }

    /// <summary>Why some environments cannot be mixed, as one sentence without its full stop; null when they can.</summary>
    public static string? Problem(IReadOnlyList<MixPart> parts)
    {
        if (parts.Count == 0)
            return "a mix needs at least one environment";
        if (parts.FirstOrDefault(p => !(p.Share > 0 && double.IsFinite(p.Share))) is { } bad)
            return $"the share of {bad.Name} is {bad.Share} but must be above 0";
        if (parts.Select(p => p.Name).Distinct(StringComparer.Ordinal).Count() < parts.Count)
            return "two environments of the mix have one name";
        IEnvironmentFactory first = parts[0].Factory;
        foreach (MixPart part in parts)
        {
            if (part.Factory.InternalStateEnd != first.InternalStateEnd || part.Factory.ObservationEnd != first.ObservationEnd)
            {
                return $"{parts[0].Name} closes internal state and observation with {first.InternalStateEnd} and "
                    + $"{first.ObservationEnd} but "
                    + $"{part.Name} with {part.Factory.InternalStateEnd} and {part.Factory.ObservationEnd}, so one model cannot play both";
            }
            if (part.Factory.DiscardedEnd != first.DiscardedEnd)
            {
                return $"{parts[0].Name} keeps {Kept(first)} of a response but {part.Name} {Kept(part.Factory)}, so one model cannot play both";
            }
        }
        return Counts(parts, p => p.Training) is { Count: 0 } || Counts(parts, p => p.HeldOut) is { Count: 0 }
            ? "the environments have tasks of no common number of objectives"
            : null;
    }

    private static string Kept(IEnvironmentFactory factory) => factory.DiscardedEnd is { } tag ? $"what follows {tag}" : "all";

    // Numbers of objectives that every part can make; null: any.
    private static List<int>? Counts(IReadOnlyList<MixPart> parts, Func<MixPart, ITaskSource> source)
    {
        IReadOnlyList<int>[] limited = [.. parts.Select(p => source(p).ObjectiveCounts).OfType<IReadOnlyList<int>>()];
        return limited.Length == 0 ? null : [.. limited.Aggregate<IEnumerable<int>>((a, b) => a.Intersect(b)).Order()];
    }

    /// <summary>
    /// The part of each task of a cycle. Slots go to parts by largest remainder, at least one to each; part p's k-th task then wants to
    /// stand at (k + 1/2) / slots(p) of the cycle (stride scheduling, Waldspurger and Weihl 1995).
    /// </summary>
    private static int[] Order(double[] shares)
    {
        int cycle = Math.Max(Cycle, shares.Length);
        double sum = shares.Sum();
        double[] exact = [.. shares.Select(s => s / sum * cycle)];
        int[] slots = [.. exact.Select(e => Math.Max(1, (int)e))];
        while (slots.Sum() != cycle)
        {
            bool add = slots.Sum() < cycle;
            int[] candidates = [.. Enumerable.Range(0, slots.Length).Where(i => add || slots[i] > 1)];
            slots[add ? candidates.MaxBy(i => exact[i] - slots[i]) : candidates.MinBy(i => exact[i] - slots[i])] += add ? 1 : -1;
        }
        return
        [
            .. Enumerable.Range(0, slots.Length).SelectMany(p =>
                Enumerable.Range(0, slots[p]).Select(k => (Part: p, At: (k + 0.5) / slots[p])))
                .OrderBy(s => s.At).ThenBy(s => s.Part).Select(s => s.Part),
        ];
    }

    private sealed class MixedSource : ITaskSource
    {
        private readonly IReadOnlyList<MixPart> _parts;
        private readonly Func<MixPart, ITaskSource> _source;
        private readonly int[] _order, _rank, _slots;

        public MixedSource(IReadOnlyList<MixPart> parts, int[] order, Func<MixPart, ITaskSource> source)
        {
            (_parts, _source, _order) = (parts, source, order);
            _slots = new int[parts.Count];
            _rank = [.. order.Select(p => _slots[p]++)];
            ObjectiveCounts = Counts(parts, source);
        }

        public IReadOnlyList<int>? ObjectiveCounts { get; }

        public EnvironmentTask Get(long index, int objectives, ulong seed)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(index);
            (long cycle, long at) = Math.DivRem(index, _order.Length);
            MixPart part = _parts[_order[at]];
            long own = (cycle * _slots[_order[at]]) + _rank[at];
            EnvironmentTask task = _source(part).Get(own, objectives, seed);
            return task with { Id = $"{part.Name}/{task.Id}", Environment = part.Name };
        }
    }

    private sealed class MixedFactory(IReadOnlyList<MixPart> parts) : IEnvironmentFactory
    {
        private readonly Dictionary<string, IEnvironmentFactory> _factories =
            parts.ToDictionary(p => p.Name, p => p.Factory, StringComparer.Ordinal);

        public string Name { get; } = $"mix of {string.Join(", ", parts.Select(p => p.Name))}";

        public IReadOnlyList<string> StopStrings { get; } =
            [.. parts.SelectMany(p => p.Factory.StopStrings).Distinct(StringComparer.Ordinal)];

        public string InternalStateEnd => parts[0].Factory.InternalStateEnd;

        public string? DiscardedEnd => parts[0].Factory.DiscardedEnd;

        public string ObservationEnd => parts[0].Factory.ObservationEnd;

        public string? RightAction(EnvironmentTask task) =>
            _factories.TryGetValue(task.Environment, out var factory) ? factory.RightAction(task) : null;

        public IEnvironment Create(EnvironmentTask task, ulong seed) => _factories.TryGetValue(task.Environment, out var factory)
            ? factory.Create(task, seed)
            : throw new ArgumentException(
                $"Task {task.Id} is of the environment \"{task.Environment}\", which the mix does not have.", nameof(task));
    }

    private sealed class MixedExpert(IReadOnlyList<MixPart> parts) : IExpert
    {
        private readonly Dictionary<string, IExpert> _experts = parts.ToDictionary(p => p.Name, p => p.Expert!, StringComparer.Ordinal);

        public IExpertEpisode Begin(EnvironmentTask task, ulong seed) => _experts[task.Environment].Begin(task, seed);
    }
}
