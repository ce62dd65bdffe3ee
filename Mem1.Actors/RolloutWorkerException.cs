namespace Mem1.Actors;

/// <summary>A rollout worker that cannot start or go on; the message is one sentence for the person who runs it.</summary>
public sealed class RolloutWorkerException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What happened and what to do.</param>
    /// <param name="innerException">The cause, if there is one.</param>
    public RolloutWorkerException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}
