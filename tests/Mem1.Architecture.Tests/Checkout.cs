// The checkout these tests read. Invariants: paths are relative to its root with forward slashes, in ordinal order; folders that a build
// or a run makes are never entered.
namespace Mem1.Architecture.Tests;

internal static class Checkout
{
    private static readonly HashSet<string> s_made = ["bin", "obj", "artifacts", "runs", "node_modules", "TestResults", "__pycache__"];

    /// <summary>The folder that holds Mem1.sln.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>All files that somebody wrote.</summary>
    public static IReadOnlyList<string> Files { get; } = [.. Walk(Root).Select(Relative).Order(StringComparer.Ordinal)];

    /// <summary>The project files of the product: the folders Mem1.* of the root.</summary>
    public static IEnumerable<string> ProductProjects => Files.Where(f => IsProduct(f) && f.EndsWith(".csproj", StringComparison.Ordinal));

    public static bool IsProduct(string file) => file.StartsWith("Mem1.", StringComparison.Ordinal) && file.Contains('/');

    public static bool IsCompat(string file) => file.StartsWith("compat/", StringComparison.Ordinal);

    public static string Full(string file) => Path.Combine(Root, file);

    /// <summary>Where a product project's assembly lies, built in the configuration of these tests.</summary>
    public static string AssemblyOf(string project)
    {
        // .../bin/<configuration>/<framework>/
        var framework = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        var name = Path.GetFileNameWithoutExtension(project);
        return Path.Combine(Root, name, "bin", framework.Parent!.Name, framework.Name, name + ".dll");
    }

    private static string FindRoot()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Mem1.sln")))
                return at.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Mem1.sln.");
    }

    private static IEnumerable<string> Walk(string folder)
    {
        foreach (var file in Directory.EnumerateFiles(folder))
            yield return file;
        foreach (var inner in Directory.EnumerateDirectories(folder))
        {
            var name = Path.GetFileName(inner);
            var entered = name == ".ci" || (!s_made.Contains(name) && !name.StartsWith('.') && !IsIgnoredFolder(inner));
            if (!entered)
                continue;
            foreach (var file in Walk(inner))
                yield return file;
        }
    }

    // The .gitignore names one folder of the root that a checkout may hold and the project does not own.
    private static bool IsIgnoredFolder(string folder) => Relative(folder) == "shared";

    private static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');
}
