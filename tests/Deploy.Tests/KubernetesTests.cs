// What the manifests must keep: no root, limits everywhere, selectors that match, ports that the program opens, command lines and config
// keys that it knows. Checked on the files of the base, and on every overlay as kubectl renders it where kubectl is there.
using System.Collections;
using System.CommandLine;
using System.Diagnostics;
using Mem1.Cli;
using Mem1.Cli.Configuration;
using YamlDotNet.Serialization;

namespace Mem1.Deploy.Tests;

public sealed class KubernetesTests
{
    private const string BaseFolder = "deploy/k8s/base";

    // Of the commands, by the option that opens it.
    private static readonly Dictionary<string, string> s_portOptions = new(StringComparer.Ordinal)
    {
        ["--listen"] = "grpc",
        ["--health"] = "health",
        ["--port"] = "http",
        ["--rendezvous"] = "ranks",
    };

    public static TheoryData<string> Rendered =>
        [BaseFolder, .. Directory.EnumerateDirectories(DeployFolder.Full("deploy/k8s/overlays")).Select(d => $"deploy/k8s/overlays/{Path.GetFileName(d)}")];

    [Fact]
    public void The_base_as_it_is_written_keeps_the_rules()
    {
        var objects = Directory.EnumerateFiles(DeployFolder.Full(BaseFolder), "*.yaml")
            .Where(f => Path.GetFileName(f) is not ("kustomization.yaml" or "run.yaml")).SelectMany(f => Load(File.ReadAllText(f))).ToList();
        var problems = Policy(objects, rendered: false).ToList();

        Assert.True(objects.Count > 15, $"only {objects.Count} objects");
        Assert.Empty(problems);
    }

    [Theory]
    [MemberData(nameof(Rendered))]
    public async Task What_kubectl_renders_keeps_the_rules(string folder)
    {
        var objects = Load(await RenderAsync(folder)).ToList();

        Assert.True(objects.Count > 15, $"only {objects.Count} objects");
        Assert.Empty(Policy(objects, rendered: true));
    }

    [Theory]
    [InlineData("runAsNonRoot: true", "runAsNonRoot: false", "root")]
    [InlineData("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file system")]
    [InlineData("limits:", "bounds:", "limits")]
    [InlineData("image: mem1", "image: mem1:latest", "latest")]
    [InlineData("--grace=240", "--grace=900", "grace")]
    [InlineData("--finish", "--finnish", "command line")]
    [InlineData("containerPort: 8081", "containerPort: 8082", "health")]
    [InlineData("matchLabels: {app.kubernetes.io/name: rollout}", "matchLabels: {app.kubernetes.io/name: rolout}", "selector")]
    [InlineData("automountServiceAccountToken: false", "automountServiceAccountToken: true", "token")]
    [InlineData("port: health}", "port: helth}", "probe")]
    [InlineData("--learner=learner:5050", "--learner=learner:5051", "learner:5051")]
    public void Every_rule_finds_what_breaks_it(string from, string to, string rule)
    {
        var text = File.ReadAllText(DeployFolder.Full(BaseFolder + "/rollout.yaml"));
        Assert.Contains(from, text);
        var others = Directory.EnumerateFiles(DeployFolder.Full(BaseFolder), "*.yaml")
            .Where(f => Path.GetFileName(f) is not ("kustomization.yaml" or "run.yaml" or "rollout.yaml")).SelectMany(f => Load(File.ReadAllText(f)));

        Assert.Contains(
            Policy([.. others, .. Load(text.Replace(from, to, StringComparison.Ordinal))], rendered: false),
            p => p.Contains(rule, StringComparison.Ordinal));
    }

    [Fact]
    public void Every_run_config_is_one_that_the_program_takes()
    {
        var files = Directory.EnumerateFiles(DeployFolder.Full("deploy/k8s"), "run.yaml", SearchOption.AllDirectories).ToList();

        Assert.True(files.Count >= 3);
        Assert.All(files, f => Assert.Empty((ConfigFile.Load(f, ["rollout.local_worker=false"], new RunConfig()).Config).Validate()));
    }

    // ---- the rules ---------------------------------------------------------------------------------------------------------

    private static IEnumerable<string> Policy(IReadOnlyList<Node> objects, bool rendered)
    {
        var services = objects.Where(o => o.Kind == "Service").ToList();
        var pods = objects.Where(o => o.Kind is "Deployment" or "StatefulSet").ToList();
        var accounts = objects.Where(o => o.Kind == "ServiceAccount").Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var ports = services.ToDictionary(
            s => s.Name, s => s["spec"]["ports"].Items.Select(p => p["port"].Text!).ToHashSet(StringComparer.Ordinal), StringComparer.Ordinal);
        foreach (var o in objects.Where(o => rendered && o.Kind != "Namespace" && o["metadata"]["namespace"].Text != "mem1"))
            yield return $"{o} is not in the namespace mem1.";
        foreach (var account in objects.Where(o => o.Kind == "ServiceAccount" && o["automountServiceAccountToken"].Text != "false"))
            yield return $"{account} hands out its token.";
        if (!objects.Any(o => o.Kind == "NetworkPolicy" && o["spec"]["podSelector"].Keys.Count == 0 && o["spec"]["ingress"].IsNull
            && o["spec"]["egress"].IsNull && o["spec"]["policyTypes"].Items.Count == 2))
        {
            yield return "no network policy denies everything by default.";
        }

        var labels = pods.Select(p => p["spec"]["template"]["metadata"]["labels"]).ToList();
        foreach (var (o, selector) in objects.Select(o => (o, o.Kind switch
        {
            "Service" => o["spec"]["selector"],
            "NetworkPolicy" => o["spec"]["podSelector"]["matchLabels"],
            "PodDisruptionBudget" or "Deployment" or "StatefulSet" => o["spec"]["selector"]["matchLabels"],
            _ => Node.None,
        })))
        {
            var own = o.Kind is "Deployment" or "StatefulSet" ? [o["spec"]["template"]["metadata"]["labels"]] : labels;
            if (!selector.IsNull && !own.Any(l => selector.Keys.All(k => l[k].Text == selector[k].Text)))
                yield return $"{o}: its selector finds no pod.";
        }

        foreach (var workload in pods)
        {
            var pod = workload["spec"]["template"]["spec"];
            if (!accounts.Contains(pod["serviceAccountName"].Text ?? "")) yield return $"{workload}: no service account of its own.";
            if (pod["automountServiceAccountToken"].Text != "false") yield return $"{workload}: the account's token is mounted.";
            if (pod["securityContext"]["runAsNonRoot"].Text != "true" || pod["securityContext"]["runAsUser"].Text != "10001")
                yield return $"{workload}: may run as root.";
            if (pod["securityContext"]["seccompProfile"]["type"].Text != "RuntimeDefault") yield return $"{workload}: no seccomp profile.";
            var volumes = pod["volumes"].Items.Select(v => v["name"].Text).ToHashSet(StringComparer.Ordinal);
            foreach (var container in pod["initContainers"].Items.Concat(pod["containers"].Items))
            {
                var where = $"{workload}, container {container["name"].Text}";
                var image = container["image"].Text ?? "";
                var tag = image[(image.LastIndexOf('/') + 1)..].Split(':').ElementAtOrDefault(1);
                if (tag == "latest" || (rendered && tag is null)) yield return $"{where}: image {image} is latest or has no tag.";
                var security = container["securityContext"];
                if (security["readOnlyRootFilesystem"].Text != "true") yield return $"{where}: its root file system can be written.";
                if (security["allowPrivilegeEscalation"].Text != "false") yield return $"{where}: may gain privileges.";
                if (!security["capabilities"]["drop"].Items.Any(c => c.Text == "ALL")) yield return $"{where}: keeps capabilities.";
                foreach (var resource in new[] { "cpu", "memory", "ephemeral-storage" })
                {
                    if (container["resources"]["requests"][resource].IsNull || container["resources"]["limits"][resource].IsNull)
                        yield return $"{where}: no requests or limits of {resource}.";
                }

                foreach (var mount in container["volumeMounts"].Items.Where(m => !volumes.Contains(m["name"].Text)))
                    yield return $"{where}: there is no volume {mount["name"].Text}.";
                if (!container["volumeMounts"].Items.Any(m => m["mountPath"].Text == "/tmp")) yield return $"{where}: /tmp cannot be written.";
                var named = container["ports"].Items.ToDictionary(p => p["name"].Text!, p => p["containerPort"].Text!, StringComparer.Ordinal);
                foreach (var probe in new[] { "startupProbe", "readinessProbe", "livenessProbe" }.Select(p => container[p]))
                {
                    if (!probe.IsNull && !named.ContainsKey(probe["httpGet"]["port"].Text ?? "")) yield return $"{where}: a probe asks a port it has not.";
                }

                // Who serves is watched over; a rank of a group and an init container answer nobody.
                if (named.Count > 0 && new[] { "startupProbe", "readinessProbe", "livenessProbe" }.Any(p => container[p].IsNull))
                    yield return $"{where}: a probe is missing.";
                foreach (var problem in CommandLine(container, named, ports, pod)) yield return $"{where}: {problem}";
            }

            foreach (var service in services.Where(s => s["spec"]["selector"].Keys.All(
                k => workload["spec"]["template"]["metadata"]["labels"][k].Text == s["spec"]["selector"][k].Text)))
            {
                var open = pod["containers"].Items.SelectMany(c => c["ports"].Items).Select(p => p["name"].Text).ToHashSet(StringComparer.Ordinal);
                foreach (var port in service["spec"]["ports"].Items.Where(p => !p["targetPort"].IsNull && !open.Contains(p["targetPort"].Text)))
                    yield return $"{service}: target port {port["targetPort"].Text} is not one of {workload}.";
            }
        }
    }

    private static IEnumerable<string> CommandLine(
        Node container, Dictionary<string, string> named, Dictionary<string, HashSet<string>> services, Node pod)
    {
        var arguments = container["args"].Items.Select(a => a.Text!).ToArray();
        var parsed = Program.CreateRoot().Parse(arguments);
        foreach (var error in parsed.Errors) yield return $"the program does not take its command line: {error.Message}";
        var hook = container["lifecycle"]["preStop"]["exec"]["command"].Items.Select(c => c.Text).ElementAtOrDefault(1) ?? "0";
        foreach (var option in arguments.Where(a => a.StartsWith("--", StringComparison.Ordinal) && a.Contains('=', StringComparison.Ordinal)))
        {
            var (name, value) = (option.Split('=', 2)[0], option.Split('=', 2)[1]);
            var port = value[(value.LastIndexOf(':') + 1)..];
            var host = value.Contains(':', StringComparison.Ordinal) ? value[..value.LastIndexOf(':')] : "";
            if (s_portOptions.TryGetValue(name, out var portName) && (host is "0.0.0.0" || (name == "--port" && host.Length == 0))
                && named.GetValueOrDefault(portName) != port)
            {
                yield return $"{option} is not its port {portName}.";
            }

            if ((name == "--learner" || (name == "--rendezvous" && host != "0.0.0.0"))
                && !(services.GetValueOrDefault(host)?.Contains(port) ?? false))
            {
                yield return $"no service listens at {value}.";
            }

            if (name == "--grace" && int.Parse(value) + int.Parse(hook) + 30 > int.Parse(pod["terminationGracePeriodSeconds"].Text!))
                yield return "its grace does not fit into the pod's grace period.";
        }
    }

    // ---- YAML ---------------------------------------------------------------------------------------------------------------

    private static IEnumerable<Node> Load(string text)
    {
        var deserializer = new DeserializerBuilder().Build();
        foreach (var document in text.Split("\n---\n"))
        {
            if (deserializer.Deserialize<object?>(document) is { } value) yield return new Node(value);
        }
    }

    private static async Task<string> RenderAsync(string folder)
    {
        var start = new ProcessStartInfo("kubectl", ["kustomize", DeployFolder.Full(folder)]) { RedirectStandardOutput = true, RedirectStandardError = true };
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
            var error = kubectl.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            var text = await kubectl.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await kubectl.WaitForExitAsync(TestContext.Current.CancellationToken);
            var said = await error;
            // Debian 12's kubectl 1.20 carries kustomize 2.0, which knows neither "labels" nor folders as resources.
            if (said.Contains("unknown field \"labels\"", StringComparison.Ordinal) || said.Contains("field labels not found", StringComparison.Ordinal))
                Assert.Skip("kubectl is too old: 1.27 or newer renders these.");
            Assert.True(kubectl.ExitCode == 0, said);
            return text;
        }
    }

    /// <summary>A value of a YAML file; what is not there is null all the way down.</summary>
    private sealed record Node(object? Value)
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
}
