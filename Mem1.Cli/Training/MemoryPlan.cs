namespace Mem1.Cli.Training;

/// <summary>One line of a memory plan.</summary>
/// <param name="Name">In snake_case.</param>
/// <param name="Bytes">At most, while the run goes on.</param>
/// <param name="Why">How it comes about.</param>
internal sealed record MemoryItem(string Name, long Bytes, string Why);

/// <summary>What a run will take.</summary>
/// <param name="Passes">What the passes that are planned with come from.</param>
/// <param name="Parameters">Trained, value head included.</param>
/// <param name="Memory">Everything that counts.</param>
internal sealed record MemoryPlan(string Passes, long Parameters, IReadOnlyList<MemoryItem> Memory)
{
    public long TotalBytes => Memory.Sum(m => m.Bytes);
}
