namespace Mem1.Actors;

/// <summary>How an episode's memory reaches its next turn.</summary>
public enum RolloutMemory
{
    /// <summary>The kept tokens are read again: every turn begins a context of its own, as with any external server.</summary>
    Reencode,
    /// <summary>The kept tokens stay in the cache as they were computed and what is pruned is evicted: the <c>carry</c> layout.</summary>
    Carry,
    /// <summary>Nothing is forgotten: every turn reads the prompt and all turns before it, whole; the <c>full</c> layout. It is there to be
    /// compared with.</summary>
    Full,
}
