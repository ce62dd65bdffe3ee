// Keeps: the token is never logged and never compared byte by byte; its file is readable by its owner alone from the moment it exists.
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;

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

    /// <summary>A new random token, kept in a file that only its owner can read.</summary>
    /// <param name="folder">Where the file goes.</param>
    /// <returns>The token and the path of its file.</returns>
    /// <exception cref="DashboardException">The file cannot be written.</exception>
    public static (CommandToken Token, string Path) Generate(string folder)
    {
        var text = Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(Bytes));
        var path = Path.Combine(folder, FileName);
        try
        {
            File.Delete(path); // an older one may have other rights
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.None };
            if (!OperatingSystem.IsWindows()) options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            using var file = new FileStream(path, options);
            file.Write(Encoding.ASCII.GetBytes(text + "\n"));
            return (new CommandToken(text), path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DashboardException($"The dashboard's token cannot be written to {path} ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>Whether this is the token. Takes as long for a wrong one as for the right one.</summary>
    internal bool Matches(string? given) =>
        given is { Length: <= MostLength } && CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(given)), _hash);
}
