namespace Mem1.Cli.Tests;

/// <summary>The checkout these tests were built from.</summary>
internal static class Documents
{
    /// <summary>The folder that holds Mem1.sln.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Mem1.sln"))) return at.FullName;
        }

        throw new InvalidOperationException($"No Mem1.sln above {AppContext.BaseDirectory}.");
    }
}
