namespace Mem1.Cli.Training;

/// <summary>The checkpoint that ships with the program: the built-in model after behaviour cloning in the worlds.</summary>
internal static class BuiltIn
{
    /// <summary>Beside the program; made by <c>mem1 train --from-scratch --clone-only</c> (assets/worlds-cloned/README.md).</summary>
    public static string Folder => Path.Combine(AppContext.BaseDirectory, "assets", "worlds-cloned");
}
