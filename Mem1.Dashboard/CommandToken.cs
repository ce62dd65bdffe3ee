// Keeps: the token is never logged and never compared byte by byte; its file is readable by its owner alone from the moment it exists.
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Mem1.Protocol.Security;

namespace Mem1.Dashboard;

/// <summary>The token that commands need.</summary>
public sealed class CommandToken
{
    /// <summary>Name of the file in a run's folder that holds a generated token.</summary>
    public const string FileName = "dashboard.token";

    // 256 bits cannot be guessed; 16 characters of a person's choice are the least that is not guessed in an afternoon.
    private const int Bytes = 32, LeastLength = 16, MostLength = 512;

    private readonly byte[] _hash;

    private CommandToken(string text) => _hash = SHA256.HashData(Encoding.UTF8.GetBytes(text));

    /// <summary>A token that somebody chose.</summary>
    /// <param name="text">The token; white space around it does not count.</param>
    /// <param name="source">Where it comes from, for the message.</param>
    /// <exception cref="DashboardException">It is too short or too long.</exception>
    public static CommandToken Of(string text, string source)
    {
        var clean = text.Trim();
        if (clean.Length is < LeastLength or > MostLength || clean.Any(c => c is <= ' ' or > '~'))
        {
            throw new DashboardException(
                $"The dashboard's token in {source} must have {LeastLength} to {MostLength} printable ASCII characters without spaces.");
        }

        return new CommandToken(clean);
    }

    /// <summary>
    /// The random token of a run's folder, kept in a file that only its owner can read; made anew if there is none, or one that others
    /// could read.
    /// </summary>
    /// <param name="folder">Where the file is.</param>
    /// <returns>The token and the path of its file.</returns>
    /// <exception cref="DashboardException">The file cannot be read or written.</exception>
    public static (CommandToken Token, string Path) OfRun(string folder)
    {
        var text = Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(Bytes));
        var path = Path.Combine(folder, FileName);
        try
        {
            if (File.Exists(path))
            {
                if (IsPrivate(path) && new FileInfo(path).Length <= MostLength) return (Of(File.ReadAllText(path), path), path);
                File.Delete(path);
            }

            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.None };
            if (!OperatingSystem.IsWindows()) options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            using var file = new FileStream(path, options);
            file.Write(Encoding.ASCII.GetBytes(text + "\n"));
            return (new CommandToken(text), path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DashboardException($"The dashboard's token cannot be kept in {path} ({e.Message.TrimEnd('.')}).", e);
        }
    }

    private static bool IsPrivate(string path) =>
        OperatingSystem.IsWindows() || (File.GetUnixFileMode(path) & ~(UnixFileMode.UserRead | UnixFileMode.UserWrite)) == 0;

    /// <summary>Whether another right's token is the same secret.</summary>
    public bool IsSame(BearerToken other) => other.HasDigest(_hash);

    /// <summary>Whether this is the token. Takes as long for a wrong one as for the right one.</summary>
    internal bool Matches(string? given) =>
        given is { Length: <= MostLength }
            && CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(given)), _hash);
}
