// Manifests as values, as they are written and as kubectl renders them.
using System.Collections;
using System.Collections.Concurrent;
using System.Diagnostics;
using YamlDotNet.Serialization;

namespace Mem1.Deploy.Tests;

/// <summary>A value of a YAML file; what is not there is null all the way down.</summary>
internal sealed record Node(object? Value)
{
    public static readonly Node None = new((object?)null);

    public bool IsNull => Value is null;

    public string? Text => Value as string;

    public string Kind => this["kind"].Text ?? "";

    public string Name => this["metadata"]["name"].Text ?? "";

    public IReadOnlyList<Node> Items => Value is IList list ? [.. list.Cast<object?>().Select(i => new Node(i))] : [];

    public IReadOnlyList<string> Keys => Value is IDictionary map ? [.. map.Keys.Cast<string>()] : [];

    public Node this[string key] => Value is IDictionary map && map.Contains(key) ? new Node(map[key]) : None;

    public override string ToString() => $"{Kind} {Name}";
}

internal static class Manifest
{
    public const string Base = "deploy/k8s/base", Overlays = "deploy/k8s/overlays";

    private static readonly ConcurrentDictionary<string, Lazy<Task<string>>> s_rendered = new(StringComparer.Ordinal);

    /// <summary>What can be rendered.</summary>
    public static IEnumerable<string> Folders =>
    [
        Base,
        .. Directory.EnumerateDirectories(DeployFolder.Full(Overlays))
            .Select(d => $"{Overlays}/{Path.GetFileName(d)}").Order(StringComparer.Ordinal),
    ];

    /// <summary>The objects of a text.</summary>
    public static IEnumerable<Node> Load(string text)
    {
        var deserializer = new DeserializerBuilder().Build();
        foreach (var document in text.Split("\n---\n"))
        {
            if (deserializer.Deserialize<object?>(document) is { } value) yield return new Node(value);
        }
    }

    /// <summary>The base as it is written, with the ConfigMaps that are made of its files.</summary>
    /// <param name="edit">Given a file's name and text, gives the text to read instead.</param>
    public static List<Node> Written(Func<string, string, string>? edit = null)
    {
        var objects = new List<Node>();
        var generated = Load(Read("kustomization.yaml")).Single()["configMapGenerator"].Items;
        var data = generated.SelectMany(g => g["files"].Items).Select(f => f.Text!).ToHashSet(StringComparer.Ordinal);
        foreach (var path in Directory.EnumerateFiles(DeployFolder.Full(Base), "*.yaml").Order(StringComparer.Ordinal))
        {
            var name = Path.GetFileName(path);
            if (name != "kustomization.yaml" && !data.Contains(name)) objects.AddRange(Load(Read(name)));
        }

        objects.AddRange(generated.Select(g => new Node(new Dictionary<object, object?>
        {
            ["apiVersion"] = "v1",
            ["kind"] = "ConfigMap",
            ["metadata"] = new Dictionary<object, object?> { ["name"] = g["name"].Text },
            ["data"] = g["files"].Items.ToDictionary(f => (object)f.Text!, f => (object?)Read(f.Text!)),
        })));
        return objects;

        string Read(string name)
        {
            var text = File.ReadAllText(DeployFolder.Full($"{Base}/{name}"));
            return edit?.Invoke(name, text) ?? text;
        }
    }

    /// <summary>What kubectl makes of a folder; skips the test where there is no kubectl that can.</summary>
    public static Task<string> RenderAsync(string folder) => s_rendered.GetOrAdd(folder, f => new(() => KustomizeAsync(f))).Value;

    private static async Task<string> KustomizeAsync(string folder)
    {
        var start = new ProcessStartInfo("kubectl", ["kustomize", DeployFolder.Full(folder)])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        Process kubectl;
        try
        {
            kubectl = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("kubectl is missing (1.27 or newer; https://kubernetes.io/docs/tasks/tools).");
            throw;
        }

        using (kubectl)
        {
            var error = kubectl.StandardError.ReadToEndAsync();
            var text = await kubectl.StandardOutput.ReadToEndAsync();
            await kubectl.WaitForExitAsync();
            var said = await error;
            // Debian 12's kubectl 1.20 carries kustomize 2.0, which knows neither "labels" nor folders as resources.
            if (said.Contains("unknown field \"labels\"", StringComparison.Ordinal)
                || said.Contains("field labels not found", StringComparison.Ordinal))
                Assert.Skip("kubectl is too old: 1.27 or newer renders these.");
            Assert.True(kubectl.ExitCode == 0, said);
            return text;
        }
    }
}
