// Keeps: Mem1.Environments is the program's own copy whatever lies beside the user's assembly, or its types would not be ours; everything
// that can be wrong with the assembly is one sentence.
using System.Reflection;
using System.Runtime.Loader;
using Mem1.Environments;

namespace Mem1.Cli.Training;

/// <summary>Loads an environment of the user's own.</summary>
internal static class EnvironmentAssembly
{
    private const string Wanted =
        $"a public class that implements {nameof(IEnvironmentModule)} and has a public constructor without parameters";

    /// <summary>Makes the one module of an assembly.</summary>
    /// <exception cref="UserErrorException">
    /// The assembly cannot be loaded, or does not have exactly one module that can be made.
    /// </exception>
    public static IEnvironmentModule Load(string path)
    {
        path = Path.GetFullPath(path);
        if (!File.Exists(path))
            throw new UserErrorException($"The environment {path} does not exist; build it first (docs/environments.md).");
        Type[] found;
        try
        {
            var types = new Context(path).LoadFromAssemblyPath(path).GetExportedTypes();
            found = [.. types.Where(t => t is { IsClass: true, IsAbstract: false } && typeof(IEnvironmentModule).IsAssignableFrom(t))];
        }
        catch (BadImageFormatException e)
        {
            throw new UserErrorException($"{path} is not a .NET assembly that this program can load.", e);
        }
        catch (Exception e) when (e is IOException or TypeLoadException or ReflectionTypeLoadException or InvalidOperationException)
        {
            throw new UserErrorException(
                $"{path} cannot be loaded ({FirstLine(e)}); build it against this program's Mem1.Environments.", e);
        }

        if (found.Length != 1)
        {
            throw new UserErrorException(found.Length == 0
                ? $"{path} does not have {Wanted}."
                : $"{path} has {found.Length} classes that implement {nameof(IEnvironmentModule)} "
                    + $"({string.Join(", ", found.Select(t => t.FullName))}); exactly one is expected.");
        }

        if (found[0].ContainsGenericParameters || found[0].GetConstructor(Type.EmptyTypes) is not { } constructor)
            throw new UserErrorException($"{found[0].FullName} of {path} cannot be made: {Wanted} is expected.");
        try
        {
            return (IEnvironmentModule)constructor.Invoke(null);
        }
        catch (TargetInvocationException e)
        {
            throw new UserErrorException($"{found[0].FullName} of {path} failed when it was made ({FirstLine(e.InnerException!)}).", e);
        }
    }

    private static string FirstLine(Exception e) =>
        ((e as ReflectionTypeLoadException)?.LoaderExceptions[0] ?? e).Message.Split('\n')[0].TrimEnd('.', '\r');

    private sealed class Context(string path) : AssemblyLoadContext(Path.GetFileName(path))
    {
        private readonly AssemblyDependencyResolver _resolver = new(path);

        protected override Assembly? Load(AssemblyName name)
        {
            // What the program has is shared; the rest is looked for beside the assembly.
            if (name.Name == typeof(IEnvironmentModule).Assembly.GetName().Name) return typeof(IEnvironmentModule).Assembly;
            return _resolver.ResolveAssemblyToPath(name) is { } found ? LoadFromAssemblyPath(found) : null;
        }
    }
}
