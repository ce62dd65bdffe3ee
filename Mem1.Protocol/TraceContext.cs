// Keeps: the trace of an episode follows from its run and its name alone, so that every try, every process and every life of the learner
// says the same; nothing has to be stored for it.
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Mem1.Protocol;

/// <summary>Names that tie together what different processes say of one episode, in the form of W3C Trace Context, level 1.</summary>
public static class TraceContext
{
    private const int TraceLength = 32, SpanLength = 16; // hex digits
    private const string Version = "00-", Sampled = "-01";

    /// <summary>The trace of an episode: 32 hex digits, never all zero.</summary>
    /// <param name="run">What tells runs apart.</param>
    /// <param name="episodeId">Unique in the run.</param>
    public static string TraceOf(string run, string episodeId) => Digits(run, episodeId, 0, TraceLength);

    /// <summary>The header of one try: <c>00-TRACE-SPAN-01</c>.</summary>
    /// <param name="run">What tells runs apart.</param>
    /// <param name="episodeId">Unique in the run.</param>
    /// <param name="attempt">From 1.</param>
    public static string ParentOf(string run, string episodeId, int attempt) =>
        $"{Version}{TraceOf(run, episodeId)}-{Digits(run, episodeId, attempt, SpanLength)}{Sampled}";

    /// <summary>The trace in a header; "-" when it holds none, as from a learner that sends none.</summary>
    public static string TraceIn(string traceparent) =>
        traceparent.Length == Version.Length + TraceLength + 1 + SpanLength + Sampled.Length
        && traceparent.AsSpan(Version.Length, TraceLength) is var trace && !trace.ContainsAnyExcept("0123456789abcdef")
            ? trace.ToString() : "-";

    private static string Digits(string run, string episodeId, int attempt, int count)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(number, attempt);
        byte[] named = [.. Encoding.UTF8.GetBytes(run), 0, .. Encoding.UTF8.GetBytes(episodeId), 0, .. number];
        return Convert.ToHexStringLower(SHA256.HashData(named))[..count];
    }
}
