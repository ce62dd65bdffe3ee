// Names and texts of gRPC's HTTP headers. Source: the gRPC over HTTP/2 protocol document.
// Invariants: decoding never throws on a bad percent escape; a timeout sent is never shorter than the one asked for; values of a "-bin" key
// are split at commas before they are decoded, with or without padding.

using System.Buffers.Text;
using System.Globalization;
using System.Text;
using Grpc.Core;

namespace Grpc.Wire;

internal static class Headers
{
    public const string ContentType = "application/grpc";
    public const string Status = "grpc-status";
    public const string Message = "grpc-message";
    public const string Timeout = "grpc-timeout";
    public const string Encoding = "grpc-encoding";
    public const string AcceptEncoding = "grpc-accept-encoding";

    /// <summary>A metadata key that asks for an encoding and never goes out itself.</summary>
    public const string EncodingRequest = "grpc-internal-encoding-request";

    // The protocol allows eight digits.
    private const long MaxTimeoutSeconds = 99_999_999;

    /// <summary>Is it application/grpc, alone or with a +suffix or ;parameters?</summary>
    public static bool IsGrpcContentType(string? value) =>
        value is not null
        && value.StartsWith(ContentType, StringComparison.OrdinalIgnoreCase)
        && (value.Length == ContentType.Length || value[ContentType.Length] is '+' or ';');

    /// <summary>Text of grpc-timeout: rounded up to three significant figures, in the coarsest unit that holds it exactly.</summary>
    public static string EncodeTimeout(TimeSpan timeout)
    {
        if (timeout <= TimeSpan.Zero)
            return "1n";
        var millis = RoundUp((timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond);
        // A thousand seconds and more are whole seconds after rounding up.
        if (millis < 1_000_000 && millis % 1000 != 0)
            return millis.ToString(CultureInfo.InvariantCulture) + "m";
        var seconds = RoundUp((millis + 999) / 1000);
        if (seconds > MaxTimeoutSeconds)
            return MaxTimeoutSeconds.ToString(CultureInfo.InvariantCulture) + "S";
        if (seconds % 3600 == 0)
            return (seconds / 3600).ToString(CultureInfo.InvariantCulture) + "H";
        if (seconds % 60 == 0)
            return (seconds / 60).ToString(CultureInfo.InvariantCulture) + "M";
        return seconds.ToString(CultureInfo.InvariantCulture) + "S";

        static long RoundUp(long value)
        {
            long unit = 1;
            while (value / unit >= 1000)
                unit *= 10;
            return (value + unit - 1) / unit * unit;
        }
    }

    /// <summary>Null for a malformed or non-positive value, which counts as no timeout.</summary>
    public static TimeSpan? DecodeTimeout(string? text)
    {
        if (text is null || text.Length < 2
            || !long.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var value)
            || value <= 0)
        {
            return null;
        }
        // In ticks of 100 ns; 0 marks nanoseconds, which are rounded up (grpc-dotnet rounds 1n down to no deadline at all).
        long ticksPerUnit;
        switch (text[^1])
        {
            case 'n':
                (value, ticksPerUnit) = ((value - 1) / 100 + 1, 1);
                break;
            case 'u':
                ticksPerUnit = TimeSpan.TicksPerMicrosecond;
                break;
            case 'm':
                ticksPerUnit = TimeSpan.TicksPerMillisecond;
                break;
            case 'S':
                ticksPerUnit = TimeSpan.TicksPerSecond;
                break;
            case 'M':
                ticksPerUnit = TimeSpan.TicksPerMinute;
                break;
            case 'H':
                ticksPerUnit = TimeSpan.TicksPerHour;
                break;
            default:
                return null;
        }
        const long MaxTicks = MaxTimeoutSeconds * TimeSpan.TicksPerSecond;
        return TimeSpan.FromTicks(value > MaxTicks / ticksPerUnit ? MaxTicks : value * ticksPerUnit);
    }

    /// <summary>UTF-8, then %XX for every byte outside printable ASCII and for % itself; a lone surrogate becomes U+FFFD.</summary>
    public static string EncodeMessage(string message)
    {
        var plain = true;
        foreach (var c in message)
            plain &= c is >= ' ' and <= '~' and not '%';
        if (plain)
            return message;
        var text = new StringBuilder(message.Length + 16);
        foreach (var b in System.Text.Encoding.UTF8.GetBytes(message))
        {
            if (b is >= 0x20 and <= 0x7E and not (byte)'%')
                text.Append((char)b);
            else
                text.Append('%').Append(b.ToString("X2", CultureInfo.InvariantCulture));
        }
        return text.ToString();
    }

    public static string DecodeMessage(string value) => Uri.UnescapeDataString(value);

    /// <summary>Appends one received header value to metadata. Keys the protocol does not allow are left out.</summary>
    public static void AddReceived(Metadata metadata, string key, string value)
    {
        if (!Metadata.Entry.IsValidKey(key))
            return;
        if (!key.EndsWith(Metadata.BinaryHeaderSuffix, StringComparison.OrdinalIgnoreCase))
        {
            metadata.Add(key, value);
            return;
        }
        foreach (var part in value.AsSpan().Split(','))
            metadata.Add(key, DecodeBase64(key, value.AsSpan(part).Trim()));
    }

    private static byte[] DecodeBase64(string key, ReadOnlySpan<char> text)
    {
        text = text.TrimEnd('=');
        if (text.Length == 0)
            return [];
        Span<char> padded = text.Length <= 252 ? stackalloc char[256] : new char[text.Length + 3];
        text.CopyTo(padded);
        var length = text.Length;
        while (length % 4 != 0)
            padded[length++] = '=';
        var bytes = new byte[length / 4 * 3];
        if (!Base64.IsValid(padded[..length]) || !Convert.TryFromBase64Chars(padded[..length], bytes, out var written))
            throw Framing.Fail(StatusCode.Internal, $"The value of the metadata key \"{key.ToLowerInvariant()}\" is not base64.");
        return bytes[..written];
    }
}
