// The manifests against the schemas of Kubernetes' OpenAPI, by tests/peers/kubernetes (npm); and that it refuses what is wrong.
using Mem1.Model.Tests;

namespace Mem1.Deploy.Tests;

public sealed class SchemaTests
{
    private static readonly Lazy<string> s_base = new(() => string.Join("\n---\n", Directory
        .EnumerateFiles(DeployFolder.Full(Manifest.Base), "*.yaml")
        .Where(f => Path.GetFileName(f) is not ("kustomization.yaml" or "run.yaml"))
        .Order(StringComparer.Ordinal).Select(File.ReadAllText)));

    [Fact]
    public void The_base_as_it_is_written_fits_the_schemas()
    {
        var (exit, said) = Validate(s_base.Value);
        Assert.True(exit == 0, said);
        Assert.Matches("^[0-9]{2} objects, 0 mistakes\n$", said);
    }

    // The script is the one that people run; it takes the packages that the other tests have had installed.
    [Fact]
    public async Task The_script_renders_every_overlay_and_finds_it_to_fit()
    {
        await Manifest.RenderAsync(Manifest.Base); // skips where there is no kubectl
        Peer();
        var (exit, said, error) = Peers.Run("bash", [DeployFolder.Full("deploy/k8s/check.sh")], DeployFolder.Root)!.Value;
        Assert.True(exit == 0, said + error);
        foreach (var folder in Manifest.Folders) Assert.Contains($"{Path.GetFileName(folder)}:\n", said);
        Assert.Equal(Manifest.Folders.Count(), said.Split(" objects, 0 mistakes").Length - 1);
    }

    // What is wrong, and what is said of it.
    private static readonly (string From, string To, string Says)[] s_wrong =
    [
        ("strategy:", "stratgy:", "/spec/stratgy is no field of it"),
        ("containerPort: 5060", "containerPort: cluster", "/spec/template/spec/containers/0/ports/1/containerPort"),
        ("replicas: 1", "replicas: one", "/spec/replicas"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "securityContext/readOnlyRootFileSystem is no field of it"),
        ("runAsNonRoot: true", "runAsNonRoot: \"yes\"", "/spec/template/spec/securityContext/runAsNonRoot"),
        ("  podSelector: {}", "  podSelectr: {}", "/spec/podSelectr is no field of it"),
        ("storage: 20Gi", "storage: [20Gi]", "/spec/resources/requests/storage"),
        ("kind: PodDisruptionBudget", "kind: PodDisruptionBadget", "there is no schema of PodDisruptionBadget in policy/v1"),
        ("apiVersion: policy/v1", "apiVersion: policy/v3", "there is no schema of PodDisruptionBudget in policy/v3"),
        ("minAvailable: 1", "minAvailable: 1\n  minAvailable: 1", "Map keys must be unique"),
    ];

    // All at once: a process for each would take as long as all other tests here.
    [Fact]
    public void What_is_wrong_is_refused()
    {
        Assert.All(s_wrong, w => Assert.Contains(w.From, s_base.Value));
        var broken = s_wrong.Select(w => s_base.Value.Replace(w.From, w.To, StringComparison.Ordinal));
        var (exit, said) = Validate(string.Join("\n---\n", broken));
        Assert.Equal(1, exit);
        Assert.All(s_wrong, w => Assert.Contains(w.Says, said));
    }

    [Fact]
    public void Nothing_at_all_is_refused() => Assert.Equal((1, "0 objects, 0 mistakes\n"), Validate(""));

    private static string Peer() => Peers.NpmPeer("kubernetes", "kubernetes-models and yaml");

    private static (int Exit, string Said) Validate(string manifests)
    {
        var (exit, said, error) = Peers.Run("node", ["validate.mjs"], Peer(), manifests)!.Value;
        Assert.Equal("", error);
        return (exit, said);
    }
}
