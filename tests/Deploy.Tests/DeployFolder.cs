// The files under deploy/ of the checkout these tests run in.
namespace Mem1.Deploy.Tests;

internal static class DeployFolder
{
    /// <summary>The folder that holds Mem1.sln.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The whole path of a file of the checkout.</summary>
    public static string Full(string path) => Path.Combine(Root, path);

    private static string FindRoot()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Mem1.sln"))) return at.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Mem1.sln.");
    }
}
