// Keeps: the token itself is never printed, logged or put in an exception; comparing takes the same time whatever differs, its length too.
using System.Security.Cryptography;
using System.Text;

namespace Mem1.Protocol.Security;

/// <summary>A shared secret that a caller shows as <c>authorization: Bearer TOKEN</c> (RFC 6750).</summary>
public sealed class BearerToken
{
    /// <summary>Name of the header, as gRPC wants it.</summary>
    public const string HeaderName = "authorization";

    private const string Scheme = "Bearer ";

    // 128 bits in hex: what is shorter can be guessed by somebody patient.
    private const int ShortestLength = 32;

    // No header of a sensible server takes more.
    private const int LongestLength = 4096;

    private readonly string _value;
    private readonly byte[] _hash;

    private BearerToken(string value)
    {
        _value = value;
        _hash = Hash(value);
    }

    /// <summary>What a caller sends.</summary>
    public string Header => Scheme + _value;

    /// <summary>Makes a new one: 256 random bits in hex.</summary>
    public static BearerToken Create() => new(RandomNumberGenerator.GetHexString(64, lowercase: true));

    /// <summary>Takes a token that somebody gives.</summary>
    /// <param name="value">White space around it does not count.</param>
    /// <param name="source">Where it is from, for the sentence.</param>
    /// <exception cref="SecurityException">It is too short, too long, or has characters that a header cannot carry.</exception>
    public static BearerToken Parse(string value, string source)
    {
        var token = value.Trim();
        if (token.Length is < ShortestLength or > LongestLength)
        {
            throw new SecurityException(
                $"The token of {source} has {token.Length} characters; it must have {ShortestLength} to {LongestLength}. Make one with: "
                + "openssl rand -hex 32");
        }

        if (token.Any(c => c is <= ' ' or > '~'))
            throw new SecurityException($"The token of {source} may hold printable ASCII characters only, and no blanks.");
        return new BearerToken(token);
    }

    /// <summary>Reads a token from a file.</summary>
    /// <exception cref="SecurityException">The file cannot be read, or holds no fit token.</exception>
    public static BearerToken FromFile(string path)
    {
        string text;
        try
        {
            using var reader = new StreamReader(path);
            var buffer = new char[LongestLength + 16]; // a file that is no token is not read whole
            text = new string(buffer, 0, reader.ReadBlock(buffer));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SecurityException($"The token file {path} cannot be read: {e.Message}", e);
        }

        return Parse(text, $"the file {path}");
    }

    /// <summary>Whether a header shows this token.</summary>
    public bool Matches(string? header)
    {
        // The scheme's name is no secret; what follows is compared by hashes of one length.
        if (header is null || !header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase)) return false;
        return CryptographicOperations.FixedTimeEquals(Hash(header[Scheme.Length..].Trim(' ')), _hash);
    }

    /// <summary>Whether both are the same secret. Takes the same time whatever differs.</summary>
    public bool IsSame(BearerToken other) => HasDigest(other._hash);

    /// <summary>Whether the SHA-256 of this token's UTF-8 is this one. Takes the same time whatever differs.</summary>
    public bool HasDigest(ReadOnlySpan<byte> sha256) => CryptographicOperations.FixedTimeEquals(sha256, _hash);

    /// <summary>Never the token.</summary>
    public override string ToString() => "(secret)";

    private static byte[] Hash(string text) => SHA256.HashData(Encoding.UTF8.GetBytes(text));
}

/// <summary>What is wrong with a token or a certificate, in one sentence for the user.</summary>
public sealed class SecurityException(string message, Exception? inner = null) : Exception(message, inner);
