// dotnet publish -t:PublishContainer makes the image that deploy/docker/Dockerfile makes: its settings, as MSBuild evaluates them, are
// those of the file. ImageTests makes one.
using System.Text.Json;
using Mem1.Model.Tests;

namespace Mem1.Deploy.Tests;

public sealed class PublishTests
{
    private static readonly IReadOnlyList<Instruction> s_file =
        Dockerfile.Parse(File.ReadAllText(DeployFolder.Full("deploy/docker/Dockerfile")));

    [Fact]
    public void The_settings_are_those_of_the_Dockerfile()
    {
        var (properties, items) = Evaluate("compat");
        string Property(string name) => properties.GetProperty(name).GetString()!;
        List<string> Items(string name) =>
            [.. items.GetProperty(name).EnumerateArray().Select(i => i.GetProperty("Identity").GetString()!)];

        Assert.Equal("true", Property("EnableSdkContainerSupport"));
        Assert.Equal("mem1", Property("ContainerRepository"));
        Assert.Equal(Property("Version"), Property("ContainerImageTag"));
        Assert.Equal(Last("USER"), Property("ContainerUser"));
        Assert.Equal("Entrypoint", Property("ContainerAppCommandInstruction"));
        Assert.Equal(Words("ENTRYPOINT"), Items("ContainerAppCommand"));
        Assert.Equal(Words("CMD"), Items("ContainerDefaultArgs"));
        Assert.Equal(Last("EXPOSE").Split(' '), Items("ContainerPort"));
        Assert.All(items.GetProperty("ContainerPort").EnumerateArray(), p => Assert.Equal("tcp", p.GetProperty("Type").GetString()));
        Assert.Equal(File.ReadAllText(DeployFolder.Full("LICENSE")).Split(' ')[0], Property("ContainerLicenseExpression"));
        Assert.NotEqual("", Property("ContainerDescription"));

        // All variables but those that say where the base image has its runtime.
        var wanted = s_file.SkipWhile(i => i.Name != "FROM" || !i.Arguments.EndsWith(" AS base", StringComparison.Ordinal))
            .Where(i => i.Name == "ENV").SelectMany(i => i.Arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(v => !v.StartsWith("PATH=", StringComparison.Ordinal) && !v.StartsWith("DOTNET_ROOT=", StringComparison.Ordinal));
        Assert.Equal(
            wanted.Order(StringComparer.Ordinal),
            items.GetProperty("ContainerEnvironmentVariable").EnumerateArray()
                .Select(v => $"{v.GetProperty("Identity").GetString()}={v.GetProperty("Value").GetString()}")
                .Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_base_image_has_what_the_packages_of_each_mode_leave_out()
    {
        static string? Base(string packages) => Evaluate(packages).Properties.GetProperty("ContainerBaseImage").GetString();

        Assert.Equal($"registry.example.com/mem1-base:{Version()}", Base("compat"));
        Assert.Contains(s_file, i => i is { Name: "FROM", Arguments: "${DEBIAN} AS base" });
        Assert.Contains(s_file, i => i.Name == "FROM" && i.Arguments == $"{Base("nuget")} AS runtime");
    }

    [Fact]
    public void Manifests_name_the_images_of_this_version()
    {
        var lines = Directory.EnumerateFiles(DeployFolder.Full("deploy/k8s"), "*.yaml", SearchOption.AllDirectories)
            .SelectMany(File.ReadLines).Select(l => l.Trim()).ToList();
        var tags = lines.Where(l => l.StartsWith("newTag:", StringComparison.Ordinal) || l.Contains("/mem1:", StringComparison.Ordinal))
            .ToList();
        Assert.NotEmpty(tags);
        foreach (var tag in tags)
            Assert.Equal(Version(), tag.Split(':')[^1].Trim().Replace("-cuda", "", StringComparison.Ordinal));
    }

    /// <summary>The dotnet that runs these tests; the one on the path where they run by their own executable.</summary>
    internal static string DotnetHost { get; } =
        Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet" ? Environment.ProcessPath! : "dotnet";

    private static string Version() => Evaluate("compat").Properties.GetProperty("Version").GetString()!;

    private static string Last(string name) => s_file.Last(i => i.Name == name).Arguments;

    private static List<string> Words(string name) => JsonSerializer.Deserialize<List<string>>(Last(name))!;

    private static readonly System.Collections.Concurrent.ConcurrentDictionary<string, Lazy<JsonDocument>> s_evaluated = new();

    private static (JsonElement Properties, JsonElement Items) Evaluate(string packages)
    {
        var root = s_evaluated.GetOrAdd(packages, _ => new(() =>
        {
            var (exit, said, error) = Peers.Run(
                DotnetHost,
                [
                    "msbuild", DeployFolder.Full("Mem1.Cli/Mem1.Cli.csproj"), "-nologo", $"-p:Mem1Packages={packages}",
                    "-getProperty:EnableSdkContainerSupport,ContainerRepository,ContainerImageTag,Version,ContainerUser,ContainerBaseImage,"
                    + "ContainerAppCommandInstruction,ContainerLicenseExpression,ContainerDescription",
                    "-getItem:ContainerAppCommand,ContainerDefaultArgs,ContainerPort,ContainerEnvironmentVariable",
                ],
                DeployFolder.Root)!.Value;
            Assert.True(exit == 0, said + error);
            return JsonDocument.Parse(said);
        })).Value.RootElement;
        return (root.GetProperty("Properties"), root.GetProperty("Items"));
    }
}
