// Keeps: each whole line of a growing file is given once; a line without its line break is left for the next look; a file that was cut or
// replaced (a resume does that) begins anew.
using System.Text;

namespace Mem1.Dashboard;

/// <summary>Follows a file of lines that another part of the program, or another process, appends to. For one thread.</summary>
/// <param name="path">The file; it may come to be later.</param>
internal sealed class LineFollower(string path)
{
    // Enough to know a file again: the end of a line of metrics or of a trajectory is never the same twice.
    private const int TailBytes = 64;

    // A look reads at most this; the next one goes on, so that a large file does not keep everything else waiting.
    private const int MaxBytes = 16 << 20;

    private long _position;
    private byte[] _tail = [];

    /// <summary>Takes what is new.</summary>
    /// <param name="restarted">Called before the lines of a file that began anew.</param>
    /// <param name="line">Called with each line, its offset in bytes and its length.</param>
    /// <returns>Whether there may be more to read at once.</returns>
    public bool Poll(Action restarted, Action<string, long, int> line)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            if (file.Length == _position && _position == 0) return false;
            if (!IsSame(file))
            {
                (_position, _tail) = (0, []);
                restarted();
            }

            var buffer = new byte[Math.Min(MaxBytes, file.Length - _position)];
            if (buffer.Length == 0) return false;
            file.Position = _position;
            file.ReadExactly(buffer);
            var from = 0;
            for (int end; (end = Array.IndexOf(buffer, (byte)'\n', from)) >= 0; from = end + 1)
            {
                if (end > from) line(Encoding.UTF8.GetString(buffer, from, end - from), _position + from, end - from);
            }

            // A single line longer than a look: nothing of ours, skipped rather than read for ever.
            if (from == 0 && buffer.Length == MaxBytes) from = MaxBytes;
            if (from == 0) return false;
            _tail = buffer[Math.Max(0, from - TailBytes)..from];
            _position += from;
            return buffer.Length == MaxBytes;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // not there yet, or being replaced: the next look tells
        }
    }

    /// <summary>Reads a line again.</summary>
    public static string? Read(string path, long offset, int length)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var buffer = new byte[length];
            file.Position = offset;
            file.ReadExactly(buffer);
            return Encoding.UTF8.GetString(buffer);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private bool IsSame(FileStream file)
    {
        if (file.Length < _position) return false;
        if (_tail.Length == 0) return true;
        var now = new byte[_tail.Length];
        file.Position = _position - _tail.Length;
        file.ReadExactly(now);
        return now.AsSpan().SequenceEqual(_tail);
    }
}
