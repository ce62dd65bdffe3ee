namespace Mem1.Cli;

/// <summary>Something the user can mend: its message is one sentence (or one per line) and the exit code is 2.</summary>
internal sealed class UserErrorException(string message, Exception? inner = null) : Exception(message, inner);
