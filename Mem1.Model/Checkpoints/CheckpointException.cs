namespace Mem1.Model.Checkpoints;

/// <summary>
/// A checkpoint file that cannot be used. The message is one sentence that names the file, the tensor or key at fault, and what is wrong.
/// </summary>
public sealed class CheckpointException : Exception
{
    /// <summary>Creates the error from its one sentence.</summary>
    /// <param name="message">Names the file and the item at fault.</param>
    public CheckpointException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the error from its one sentence and the failure beneath it.</summary>
    /// <param name="message">Names the file and the item at fault.</param>
    /// <param name="inner">What the runtime reported.</param>
    public CheckpointException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
