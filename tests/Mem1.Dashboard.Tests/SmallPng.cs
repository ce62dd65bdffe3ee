// Makes a browser's screenshot small enough for a repository: at most 256 colours, indexed, deflated as far as it goes. Text, lines and
// flat areas, which a page is made of, look the same. Format: PNG (ISO/IEC 15948), 8 bits a channel, not interlaced.
using System.Buffers.Binary;
using System.IO.Compression;

namespace Mem1.Dashboard.Tests;

internal static class SmallPng
{
    private const int Colours = 256;

    // Colours that differ by less than this are one colour to the eye; anti-aliased text has hundreds of them.
    private const int Step = 4;

    private static readonly byte[] s_signature = [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    public static byte[] Shrink(byte[] png)
    {
        var (width, height, pixels) = Decode(png);
        var counts = new Dictionary<int, int>();
        for (var i = 0; i < pixels.Length; i++)
        {
            pixels[i] = Rounded(pixels[i]);
            counts[pixels[i]] = counts.GetValueOrDefault(pixels[i]) + 1;
        }

        var palette = counts.OrderByDescending(c => c.Value).Take(Colours).Select(c => c.Key).ToArray();
        var index = counts.Keys.ToDictionary(c => c, c => Nearest(palette, c));
        var raw = new byte[height * (width + 1)]; // a filter byte before every row: none
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++) raw[(y * (width + 1)) + 1 + x] = index[pixels[(y * width) + x]];

        using var result = new MemoryStream();
        result.Write(s_signature);
        var header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        (header[8], header[9]) = (8, 3); // 8 bits, indexed
        Chunk(result, "IHDR", header);
        Chunk(result, "PLTE", [.. palette.SelectMany(c => new[] { (byte)(c >> 16), (byte)(c >> 8), (byte)c })]);
        using var packed = new MemoryStream();
        using (var deflate = new ZLibStream(packed, CompressionLevel.SmallestSize, leaveOpen: true)) deflate.Write(raw);
        Chunk(result, "IDAT", packed.ToArray());
        Chunk(result, "IEND", []);
        return result.ToArray();
    }

    /// <summary>Width, height and colours (0xRRGGBB) row by row; what is transparent counts as it is without.</summary>
    public static (int Width, int Height, int[] Pixels) Decode(byte[] png)
    {
        Assert.True(png.AsSpan().StartsWith(s_signature), "It is no PNG.");
        int width = 0, height = 0, channels = 0;
        byte[] palette = [];
        using var packed = new MemoryStream();
        for (var at = s_signature.Length; at < png.Length;)
        {
            var length = BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(at));
            var data = png.AsSpan(at + 8, length);
            switch (System.Text.Encoding.ASCII.GetString(png, at + 4, 4))
            {
                case "IHDR":
                    (width, height) = (BinaryPrimitives.ReadInt32BigEndian(data), BinaryPrimitives.ReadInt32BigEndian(data[4..]));
                    Assert.Equal((8, 0), (data[8], data[12]));
                    channels = data[9] switch
                    {
                        2 => 3,
                        6 => 4,
                        3 => 1,
                        var other => throw new InvalidDataException($"Colour type {other}."),
                    };
                    break;
                case "PLTE":
                    palette = data.ToArray();
                    break;
                case "IDAT":
                    packed.Write(data);
                    break;
            }

            at += length + 12;
        }

        packed.Position = 0;
        var stride = width * channels;
        var (before, row) = (new byte[stride], new byte[stride]);
        var pixels = new int[width * height];
        using var inflate = new ZLibStream(packed, CompressionMode.Decompress);
        for (var y = 0; y < height; y++)
        {
            var filter = inflate.ReadByte();
            inflate.ReadExactly(row);
            for (var i = 0; i < stride; i++)
            {
                int left = i >= channels ? row[i - channels] : 0, up = before[i], corner = i >= channels ? before[i - channels] : 0;
                row[i] += (byte)(filter switch { 0 => 0, 1 => left, 2 => up, 3 => (left + up) / 2, _ => Paeth(left, up, corner) });
            }

            for (var x = 0; x < width; x++)
            {
                var p = channels == 1 ? palette.AsSpan(row[x] * 3, 3) : row.AsSpan(x * channels, 3);
                pixels[(y * width) + x] = (p[0] << 16) | (p[1] << 8) | p[2];
            }

            (before, row) = (row, before);
        }

        return (width, height, pixels);
    }

    private static int Paeth(int left, int up, int corner)
    {
        var p = left + up - corner;
        var (a, b, c) = (Math.Abs(p - left), Math.Abs(p - up), Math.Abs(p - corner));
        return a <= b && a <= c ? left : b <= c ? up : corner;
    }

    private static int Rounded(int colour)
    {
        static int Channel(int value) => Math.Min(255, (value + (Step / 2)) / Step * Step);
        return (Channel(colour >> 16) << 16) | (Channel((colour >> 8) & 255) << 8) | Channel(colour & 255);
    }

    private static byte Nearest(int[] palette, int colour)
    {
        var (best, distance) = (0, int.MaxValue);
        for (var i = 0; i < palette.Length; i++)
        {
            var r = (palette[i] >> 16) - (colour >> 16);
            var g = ((palette[i] >> 8) & 255) - ((colour >> 8) & 255);
            var b = (palette[i] & 255) - (colour & 255);
            var d = (r * r) + (g * g) + (b * b);
            if (d < distance) (best, distance) = (i, d);
        }

        return (byte)best;
    }

    private static void Chunk(Stream into, string name, byte[] data)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        into.Write(number);
        byte[] body = [.. System.Text.Encoding.ASCII.GetBytes(name), .. data];
        into.Write(body);
        BinaryPrimitives.WriteUInt32BigEndian(number, Crc(body));
        into.Write(number);
    }

    private static uint Crc(byte[] data)
    {
        var crc = uint.MaxValue;
        foreach (var b in data)
        {
            crc ^= b;
            for (var bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
        }

        return ~crc;
    }
}

public sealed class SmallPngTests
{
    [Fact]
    public void A_small_picture_shows_what_the_large_one_did()
    {
        // Indexed to begin with: shrinking it again must change nothing.
        var large = SmallPng.Shrink(Gradient());
        var (width, height, pixels) = SmallPng.Decode(large);

        Assert.Equal((64, 16), (width, height));
        for (var i = 0; i < pixels.Length; i++) Assert.InRange(Math.Abs((pixels[i] & 255) - (i % 64 * 4)), 0, 4);
        Assert.Equal(pixels, SmallPng.Decode(SmallPng.Shrink(large)).Pixels);
    }

    /// <summary>64 by 16, true colour, grey from left to right, every row under another filter.</summary>
    private static byte[] Gradient()
    {
        using var raw = new MemoryStream();
        var before = new byte[64 * 3];
        for (var y = 0; y < 16; y++)
        {
            var row = new byte[64 * 3];
            for (var i = 0; i < row.Length; i++) row[i] = (byte)(i / 3 * 4);
            var filter = y % 3; // none, left, up
            raw.WriteByte((byte)filter);
            for (var i = 0; i < row.Length; i++)
                raw.WriteByte((byte)(row[i] - (filter == 1 ? i >= 3 ? row[i - 3] : 0 : filter == 2 ? before[i] : 0)));
            before = row;
        }

        using var png = new MemoryStream();
        png.Write([0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A]);
        void Chunk(string name, byte[] data)
        {
            var number = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
            png.Write(number);
            png.Write(System.Text.Encoding.ASCII.GetBytes(name));
            png.Write(data);
            png.Write(new byte[4]); // nobody here looks at the checksum
        }

        Chunk("IHDR", [0, 0, 0, 64, 0, 0, 0, 16, 8, 2, 0, 0, 0]);
        using var packed = new MemoryStream();
        using (var deflate = new ZLibStream(packed, CompressionLevel.Fastest, leaveOpen: true)) deflate.Write(raw.ToArray());
        Chunk("IDAT", packed.ToArray());
        return png.ToArray();
    }
}
