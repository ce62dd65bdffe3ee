// Arrows point one way: Cli -> {Actors, Learner, Dashboard} -> {Model, Environments} and Protocol. Checked twice: in what the project
// files ask for, and in what the built assemblies use (a project sees the references of its references, so the first is not enough).
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Xml.Linq;

namespace Mem1.Architecture.Tests;

public sealed class ReferenceTests
{
    private static readonly Dictionary<string, Rule> s_rules = new()
    {
        ["Mem1.Protocol"] = new([], Uses: ["Grpc"]),
        ["Mem1.Environments"] = new([], Uses: []),
        ["Mem1.Model"] = new([], Uses: ["Torch"]),
        ["Mem1.Learner"] = new(["Mem1.Protocol", "Mem1.Model", "Mem1.Environments"], Uses: ["Grpc", "Torch"]),
        ["Mem1.Actors"] = new(["Mem1.Protocol", "Mem1.Model", "Mem1.Environments"], Uses: ["Grpc", "Akka", "Torch"]),
        ["Mem1.Dashboard"] = new(["Mem1.Protocol", "Mem1.Model", "Mem1.Environments"], Uses: ["Grpc"]),
        ["Mem1.Cli"] = new(
            ["Mem1.Protocol", "Mem1.Model", "Mem1.Environments", "Mem1.Learner", "Mem1.Actors", "Mem1.Dashboard"],
            Uses: ["Grpc", "Akka", "Torch"]),
    };

    public static TheoryData<string> Products => [.. Checkout.ProductProjects];

    public static TheoryData<string> Libraries => [.. Checkout.ProductProjects.Where(p => Name(p) != "Mem1.Cli")];

    [Fact]
    public void Every_product_project_has_a_rule_and_every_rule_a_project() =>
        Assert.Equal(s_rules.Keys.Order(StringComparer.Ordinal), Checkout.ProductProjects.Select(Name).Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Products))]
    public void A_project_file_asks_only_for_what_its_rule_allows(string project)
    {
        var rule = s_rules[Name(project)];
        var xml = XDocument.Load(Checkout.Full(project));
        var references = xml.Descendants("ProjectReference").Select(r => Name(r.Attribute("Include")!.Value)).ToArray();
        var uses = xml.Descendants("Mem1Uses").SelectMany(u => u.Value.Split(';', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        var packages = xml.Descendants("PackageReference").Select(p => Family(p.Attribute("Include")!.Value)).OfType<string>().ToArray();

        Assert.Empty(references.Except(rule.May));
        Assert.Empty(uses.Except(rule.Uses));
        Assert.Empty(packages.Except(rule.Uses));
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void An_assembly_refers_only_to_what_its_rule_allows(string project)
    {
        var rule = s_rules[Name(project)];
        var names = Read(project, m => m.AssemblyReferences.Select(r => m.GetString(m.GetAssemblyReference(r).Name)).ToArray());

        Assert.Contains("System.Runtime", names); // the inspection sees references at all
        Assert.Empty(names.Where(n => n.StartsWith("Mem1.", StringComparison.Ordinal) && Family(n) is null).Except(rule.May));
        Assert.Empty(names.Select(Family).OfType<string>().Except(rule.Uses));
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void No_product_type_lives_in_or_uses_the_namespace_of_the_substitutes(string project)
    {
        var found = Read(project, m => m.TypeDefinitions.Select(m.GetTypeDefinition).Select(t => (t.Namespace, t.Name))
            .Concat(m.TypeReferences.Select(m.GetTypeReference).Select(t => (t.Namespace, t.Name)))
            .Select(t => m.GetString(t.Namespace) + "." + m.GetString(t.Name))
            .Where(t => t.StartsWith("Mem1.Compat", StringComparison.Ordinal)).ToArray());

        Assert.Empty(found);
    }

    [Fact]
    public void The_substitutes_do_not_see_the_product()
    {
        var seen = Checkout.Files.Where(f => Checkout.IsCompat(f) && f.EndsWith(".csproj", StringComparison.Ordinal))
            .SelectMany(f => XDocument.Load(Checkout.Full(f)).Descendants("ProjectReference").Select(r => (f, Name(r.Attribute("Include")!.Value))))
            .Where(r => s_rules.ContainsKey(r.Item2));

        Assert.Empty(seen);
    }

    [Fact]
    public void Every_project_is_in_the_solution()
    {
        var listed = File.ReadLines(Checkout.Full("Mem1.sln"))
            .Where(l => l.StartsWith("Project(", StringComparison.Ordinal) && l.Contains(".csproj", StringComparison.Ordinal))
            .Select(l => l.Split('"')[5].Replace('\\', '/')).ToHashSet(StringComparer.Ordinal);
        var present = Checkout.Files.Where(f => f.EndsWith(".csproj", StringComparison.Ordinal) && !f.StartsWith("examples/", StringComparison.Ordinal))
            .ToHashSet(StringComparer.Ordinal); // examples show what is built outside the solution

        Assert.NotEmpty(present);
        Assert.All(present.Except(listed), p => Assert.Fail($"{p} is not in the solution: run `dotnet sln Mem1.sln add {p}`"));
        Assert.All(listed.Except(present), p => Assert.Fail($"the solution lists {p}, which does not exist"));
    }

    private static string Name(string project) => Path.GetFileNameWithoutExtension(project.Replace('\\', '/'));

    // Which of the three exchangeable packages an assembly or package belongs to, in either package mode.
    private static string? Family(string name) => name switch
    {
        "Mem1.Compat.Grpc" or "Google.Protobuf" => "Grpc",
        "Mem1.Compat.Akka" or "Akka" => "Akka",
        "Mem1.Compat.TorchSharp" => "Torch",
        _ when name.StartsWith("Grpc.", StringComparison.Ordinal) => "Grpc",
        _ when name.StartsWith("Akka.", StringComparison.Ordinal) => "Akka",
        _ when name.StartsWith("TorchSharp", StringComparison.Ordinal) => "Torch",
        _ => null,
    };

    private static T Read<T>(string project, Func<MetadataReader, T> read)
    {
        using var file = File.OpenRead(Checkout.AssemblyOf(project));
        using var image = new PEReader(file);
        return read(image.GetMetadataReader());
    }

    /// <summary>Which projects of ours, and which of the three exchangeable packages, a project may use.</summary>
    private sealed record Rule(string[] May, string[] Uses);
}
