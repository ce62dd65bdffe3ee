using System.Text;

namespace Mem1.Model.Tokenizers;

/// <summary>
/// GPT-2's one-to-one map between bytes and printable characters, in which byte-level vocabularies are written: printable Latin-1 stands
/// for itself, every other byte for U+0100 and up in order.
/// </summary>
internal static class ByteLevelAlphabet
{
    private static readonly char[] CharOf = MakeCharOf();
    private static readonly Dictionary<char, byte> ByteOf = Enumerable.Range(0, 256).ToDictionary(b => CharOf[b], b => (byte)b);

    public static char ToChar(byte value) => CharOf[value];

    /// <summary>The bytes a token text stands for, or null when a character of it is not in the alphabet.</summary>
    public static byte[]? ToBytes(string token)
    {
        var bytes = new byte[token.Length];
        for (int i = 0; i < token.Length; i++)
        {
            if (!ByteOf.TryGetValue(token[i], out bytes[i]))
                return null;
        }
        return bytes;
    }

    public static string ToText(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(bytes.Length);
        foreach (byte b in bytes)
            text.Append(CharOf[b]);
        return text.ToString();
    }

    private static char[] MakeCharOf()
    {
        var map = new char[256];
        int next = 256;
        for (int b = 0; b < 256; b++)
            map[b] = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or >= 0xAE ? (char)b : (char)next++;
        return map;
    }
}
