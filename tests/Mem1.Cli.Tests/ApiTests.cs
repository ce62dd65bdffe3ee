// mem1 api against the assemblies themselves: nothing public is left out, and what the XML docs say is found.
using System.Reflection;
using Mem1.Cli.Commands;
using Mem1.Environments;

namespace Mem1.Cli.Tests;

public sealed class ApiTests : IDisposable
{
    private readonly TempFolder _temp = new();

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void Every_public_type_is_described_and_every_member_has_words()
    {
        Assert.Equal(0, ApiCommand.Create().Parse(["--out", _temp.FullPath]).Invoke());
        Assert.Contains("[Mem1.Environments](Mem1.Environments.md)", File.ReadAllText(_temp["README.md"]), StringComparison.Ordinal);
        var text = File.ReadAllText(_temp["Mem1.Environments.md"]);
        foreach (var type in typeof(IEnvironment).Assembly.GetExportedTypes().Where(t => !t.IsNested))
            Assert.Contains($"\n## {type.Name.Split('`')[0]}", text, StringComparison.Ordinal);
        foreach (var member in typeof(IEnvironmentModule).GetMembers(BindingFlags.Public | BindingFlags.Instance).Where(m => m is PropertyInfo))
            Assert.Matches($@"### `[\w.<>?]+ {member.Name} \{{ get; \}}`\n\n\w", text);

        // The compiler demands words for every public member, so each heading has some: of its own, or of what it implements.
        var blocks = text.Split("\n### ")[1..];
        var silent = blocks.Where(b => b.Split("\n## ")[0].Trim().Split('\n').Length < 3).Select(b => b.Split('\n')[0]).ToList();
        Assert.True(silent.Count < blocks.Length / 10, $"{silent.Count} of {blocks.Length} have no words: {string.Join("; ", silent.Take(20))}");
    }
}
