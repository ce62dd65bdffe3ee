// Invariants: writing and reading agree on everything here; a change of it raises CorpusIndex.SchemaVersion.

using System.Numerics;

namespace Mem1.Environments.Retrieval;

/// <summary>
/// How postings lie in the index. Passages are cut into windows of <see cref="WindowSize"/> consecutive numbers. A term's postings are
/// 16-bit words in the order of passages, offset within the window in the low bits and term frequency above; its directory has, for every
/// window that holds it, the distance from the window before, the number of postings less one (both as variable-length integers) and a bound of the
/// BM25 saturation tf / (tf + K) over the window in 255ths, rounded up: what lets a search skip the window.
/// </summary>
internal static class PostingFormat
{
    /// <summary>BM25's saturation of term frequency, as in the baselines of the literature (Anserini's default).</summary>
    public const double K1 = 0.9;

    /// <summary>BM25's share of length normalisation, as in the same baselines.</summary>
    public const double B = 0.4;

    /// <summary>
    /// Binary logarithm of the window's size. Smaller windows have tighter bounds, larger ones fewer directory entries; 256 passages leave
    /// 8 bits for the frequency.
    /// </summary>
    public const int WindowBits = 8;

    public const int WindowSize = 1 << WindowBits;

    public const int OffsetMask = WindowSize - 1;

    /// <summary>A term that a passage repeats more often counts as if repeated so often; BM25 has long saturated there.</summary>
    public const int MaxFrequency = (1 << (16 - WindowBits)) - 1;

    public const double BoundUnit = 1.0 / 255;

    // Lengths below this are exact, as in Lucene since version 7; above, four significant bits of the rest are kept.
    private const int ExactLengths = 40;
    private const int Subtracted = 24;

    /// <summary>A passage's length in one byte.</summary>
    public static byte EncodeLength(int terms)
    {
        if (terms < ExactLengths)
            return (byte)terms;
        uint rest = (uint)(terms - Subtracted);
        int shift = 31 - BitOperations.LeadingZeroCount(rest) - 3;
        return (byte)(Subtracted + (((uint)(shift + 1) << 3) | ((rest >> shift) & 7)));
    }

    public static int DecodeLength(byte code)
    {
        if (code < ExactLengths)
            return code;
        int shift = ((code - Subtracted) >> 3) - 1;
        long length = Subtracted + ((long)(((code - Subtracted) & 7) | 8) << shift);
        return (int)Math.Min(length, int.MaxValue);
    }

    /// <summary>K in tf / (tf + K), for every length code.</summary>
    public static float[] Norms(double averageLength) =>
        [.. Enumerable.Range(0, 256).Select(code => (float)(K1 * (1 - B + (B * DecodeLength((byte)code) / averageLength))))];

    /// <summary>Lucene's inverse document frequency, which is positive for every term.</summary>
    public static double Idf(long passages, long holding) => Math.Log(1 + ((passages - holding + 0.5) / (holding + 0.5)));

    public static int ReadNumber(ReadOnlySpan<byte> bytes, ref int at)
    {
        int number = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte part = bytes[at++];
            number |= (part & 0x7F) << shift;
            if (part < 0x80)
                return number;
        }
    }

    /// <summary>Writes a number of at most 5 bytes.</summary>
    public static void WriteNumber(Span<byte> bytes, ref int at, int number)
    {
        uint rest = (uint)number;
        for (; rest >= 0x80; rest >>= 7)
            bytes[at++] = (byte)(rest | 0x80);
        bytes[at++] = (byte)rest;
    }
}
