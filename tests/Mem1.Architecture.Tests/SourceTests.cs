// What holds for the text of the sources: one code for both package modes, nothing of the machine it was written on, files of a size
// that can be read in one go.
using System.Text.RegularExpressions;

namespace Mem1.Architecture.Tests;

public sealed partial class SourceTests
{
    /// <summary>A file longer than this needs a reason; the reasons stand in data/long-files.txt.</summary>
    private const int LongFile = 500;

    private static readonly string[] s_sourceEndings =
        [".cs", ".cpp", ".h", ".py", ".sh", ".proto", ".js", ".css", ".html", ".csproj", ".props", ".targets", ".cmake"];

    private static IEnumerable<string> Sources => Checkout.Files.Where(f =>
        s_sourceEndings.Any(e => f.EndsWith(e, StringComparison.Ordinal)) || f is "mem1" || f.EndsWith("/CMakeLists.txt", StringComparison.Ordinal)
        || f.StartsWith(".ci/", StringComparison.Ordinal));

    [Fact]
    public void The_sources_are_found()
    {
        Assert.Contains("mem1", Sources);
        Assert.Contains(".ci/run", Sources);
        Assert.Contains("Mem1.Environments/IEnvironment.cs", Sources);
        Assert.DoesNotContain(Checkout.Files, f => f.Contains("/obj/", StringComparison.Ordinal));
    }

    [Fact]
    public void No_conditional_compilation_outside_the_substitutes() =>
        Assert.Empty(Matches(Sources.Where(f => f.EndsWith(".cs", StringComparison.Ordinal) && !Checkout.IsCompat(f)), Conditional()));

    [Fact]
    public void No_source_names_the_namespace_of_the_substitutes() =>
        Assert.Empty(Matches(Sources.Where(f => f.EndsWith(".cs", StringComparison.Ordinal) && Checkout.IsProduct(f)), CompatNamespace()));

    [Fact]
    public void No_source_names_a_path_of_one_machine() => Assert.Empty(Matches(Sources, MachinePath()));

    [Theory]
    [InlineData("var a = \"/ho" + "me/me/x\";", true)]
    [InlineData("cd /wo" + "rk/x", true)]
    [InlineData("open('/tm" + "p/w/x')", true)]
    [InlineData("../sha" + "red/golden", true)]
    [InlineData("see C:" + "\\Users\\me", true)]
    [InlineData("/usr/share/dotnet is where Debian looks", false)]
    [InlineData("http://host/work/x and ~/.dotnet", false)]
    public void The_pattern_of_machine_paths_finds_them(string line, bool found) => Assert.Equal(found, MachinePath().IsMatch(line));

    [Fact]
    public void Every_long_file_has_a_reason()
    {
        var reasons = File.ReadLines(Path.Combine(AppContext.BaseDirectory, "data", "long-files.txt"))
            .Where(l => l.Length > 0 && l[0] != '#')
            .ToDictionary(l => l.Split(' ', 2)[0], l => l.Split(' ', 2).ElementAtOrDefault(1)?.Trim() ?? "", StringComparer.Ordinal);
        var present = Sources.Where(f => File.ReadLines(Checkout.Full(f)).Count() > LongFile).ToArray();

        Assert.DoesNotContain(reasons, r => r.Value.Length == 0);
        // Both ways: a file that is short again, or gone, has its line removed.
        Assert.Equal(present, reasons.Keys.Order(StringComparer.Ordinal));
    }

    private static IEnumerable<string> Matches(IEnumerable<string> files, Regex pattern) =>
        from file in files
        from line in File.ReadLines(Checkout.Full(file)).Select((text, index) => (text, number: index + 1))
        where pattern.IsMatch(line.text)
        select $"{file}:{line.number}: {line.text.Trim()}";

    [GeneratedRegex(@"^\s*#\s*(if|elif|else|endif)\b")]
    private static partial Regex Conditional();

    [GeneratedRegex(@"\b(namespace|using)\s+(static\s+|\w+\s*=\s*)?(global::)?Mem1\.Compat\b")]
    private static partial Regex CompatNamespace();

    // A home folder, a drive letter, or the places where a checkout of one developer lies.
    [GeneratedRegex(@"(?<![\w.~$}>])/(home|root|Users|work|tmp/w)/\w|\.\./shared/|\b[A-Z]:\\\w")]
    private static partial Regex MachinePath();
}
