// The rules that no schema knows, on objects as they are applied: nothing runs as root or unbounded, whatever refers to something finds it,
// and command lines, ports, variables and settings are those that the program has. Each rule is a sentence about what breaks it.
using System.CommandLine;
using System.Globalization;
using System.Text.RegularExpressions;
using Mem1.Cli;

namespace Mem1.Deploy.Tests;

internal static partial class Policy
{
    private const string Gpu = "nvidia.com/gpu";

    private static readonly string[] s_probes = ["startupProbe", "readinessProbe", "livenessProbe"];

    // Of the commands, by the option that opens it.
    private static readonly Dictionary<string, string> s_portOptions = new(StringComparer.Ordinal)
    {
        ["--listen"] = "grpc",
        ["--health"] = "health",
        ["--port"] = "http",
        ["--rendezvous"] = "ranks",
    };

    // Variables that the program reads, as its sources have them.
    private static readonly Lazy<HashSet<string>> s_variables = new(() =>
    [
        .. Directory.EnumerateDirectories(DeployFolder.Root, "Mem1.*")
            .SelectMany(d => Directory.EnumerateFiles(d, "*.cs", SearchOption.AllDirectories))
            .Where(f => !f.Contains("/obj/", StringComparison.Ordinal))
            .SelectMany(f => Variable().Matches(File.ReadAllText(f))).Select(m => m.Groups[1].Value),
    ]);

    /// <summary>Everything that is wrong, a sentence each.</summary>
    /// <param name="objects">All that is applied.</param>
    /// <param name="rendered">Whether kustomize has set names of images and namespaces.</param>
    public static IEnumerable<string> Problems(IReadOnlyList<Node> objects, bool rendered) =>
        Objects(objects, rendered).Concat(Workloads(objects).SelectMany(w => Workload(objects, w, rendered)))
            .Concat(PolicyOfNetwork.Problems(objects)).Concat(PolicyOfRun.Problems(objects));

    /// <summary>What makes pods.</summary>
    public static IReadOnlyList<Node> Workloads(IReadOnlyList<Node> objects) =>
        [.. objects.Where(o => o.Kind is "Deployment" or "StatefulSet")];

    /// <summary>Labels of the pods it makes.</summary>
    public static Node Labels(Node workload) => workload["spec"]["template"]["metadata"]["labels"];

    /// <summary>The containers of a workload's pods, those that only prepare first.</summary>
    public static IEnumerable<Node> Containers(Node workload) =>
        workload["spec"]["template"]["spec"]["initContainers"].Items.Concat(workload["spec"]["template"]["spec"]["containers"].Items);

    /// <summary>Whether a label selector (matchLabels and matchExpressions with In) takes these labels.</summary>
    public static bool Selects(Node selector, Node labels) =>
        selector["matchLabels"].Keys.All(k => labels[k].Text == selector["matchLabels"][k].Text)
        && selector["matchExpressions"].Items.All(
            e => e["operator"].Text == "In" && e["values"].Items.Any(v => v.Text == labels[e["key"].Text!].Text));

    /// <summary>Whether a service leads to the pods of a workload.</summary>
    public static bool Leads(Node service, Node workload) =>
        service["spec"]["selector"].Keys.All(k => Labels(workload)[k].Text == service["spec"]["selector"][k].Text);

    /// <summary>The first object of a kind and a name; none if there is none.</summary>
    public static Node Find(IReadOnlyList<Node> objects, string? kind, string? name) =>
        objects.FirstOrDefault(o => o.Kind == kind && o.Name == name) ?? Node.None;

    /// <summary>Whether the program of this container is ours.</summary>
    public static bool IsOurs(Node container) => OurImage().IsMatch(container["image"].Text ?? "");

    private static IEnumerable<string> Objects(IReadOnlyList<Node> objects, bool rendered)
    {
        var workloads = Workloads(objects);
        foreach (var o in objects)
        {
            if (rendered && o.Kind != "Namespace" && o["metadata"]["namespace"].Text != "mem1")
                yield return $"{o} is not in the namespace mem1.";
            if (Regex.IsMatch(o["apiVersion"].Text ?? "", "alpha|beta")) yield return $"{o}: {o["apiVersion"].Text} goes away one day.";
            switch (o.Kind)
            {
                case "ServiceAccount" when o["automountServiceAccountToken"].Text != "false":
                    yield return $"{o} hands out its token.";
                    break;
                case "Role" or "RoleBinding" or "ClusterRole" or "ClusterRoleBinding":
                    yield return $"{o}: nothing here talks to the Kubernetes API, so nothing needs rights there.";
                    break;
                case "Service" when !workloads.Any(w => Leads(o, w)):
                    yield return $"{o}: its selector finds no pod.";
                    break;
                case "PodDisruptionBudget" when !workloads.Any(w => Selects(o["spec"]["selector"], Labels(w))):
                    yield return $"{o}: its selector finds no pod.";
                    break;
                case "NetworkPolicy" when !workloads.Any(w => Selects(o["spec"]["podSelector"], Labels(w))):
                    yield return $"{o}: its selector finds no pod.";
                    break;
                case "HorizontalPodAutoscaler":
                    foreach (var problem in Scaler(objects, o)) yield return problem;
                    break;
            }
        }

        // The dashboard is started again in seconds and holds nothing.
        foreach (var w in workloads.Where(w => w.Name != "dashboard"
            && !objects.Any(o => o.Kind == "PodDisruptionBudget" && Selects(o["spec"]["selector"], Labels(w)))))
        {
            yield return $"{w}: no disruption budget says how it may be moved.";
        }
    }

    private static IEnumerable<string> Scaler(IReadOnlyList<Node> objects, Node scaler)
    {
        var spec = scaler["spec"];
        var target = Find(objects, spec["scaleTargetRef"]["kind"].Text, spec["scaleTargetRef"]["name"].Text);
        if (target.IsNull) yield return $"{scaler}: it scales nothing that there is.";
        else if (!target["spec"]["replicas"].IsNull) yield return $"{scaler}: {target} says itself how many replicas it wants.";
        if (Number(spec["minReplicas"]) > Number(spec["maxReplicas"]))
            yield return $"{scaler}: its bounds are the wrong way round.";
        var learner = File.ReadAllText(DeployFolder.Full("Mem1.Cli/Serve/LearnerHealth.cs"));
        foreach (var metric in spec["metrics"].Items.Select(m => m["object"]))
        {
            var name = metric["metric"]["name"].Text;
            if (name is null || !learner.Contains($"\"{name}\"", StringComparison.Ordinal))
                yield return $"{scaler}: the learner has no metric {name}.";
            if (!objects.Any(o => o.Kind == metric["describedObject"]["kind"].Text && o.Name == metric["describedObject"]["name"].Text))
                yield return $"{scaler}: its metric is of nothing that there is.";
        }
    }

    private static IEnumerable<string> Workload(IReadOnlyList<Node> objects, Node workload, bool rendered)
    {
        var pod = workload["spec"]["template"]["spec"];
        if (!Selects(workload["spec"]["selector"], Labels(workload))) yield return $"{workload}: its selector finds no pod.";
        if (!objects.Any(o => o.Kind == "ServiceAccount" && o.Name == pod["serviceAccountName"].Text))
            yield return $"{workload}: no service account of its own.";
        if (pod["automountServiceAccountToken"].Text != "false") yield return $"{workload}: the account's token is mounted.";
        if (pod["securityContext"]["runAsNonRoot"].Text != "true" || pod["securityContext"]["runAsUser"].Text != "10001")
            yield return $"{workload}: may run as root.";
        if (pod["securityContext"]["seccompProfile"]["type"].Text != "RuntimeDefault") yield return $"{workload}: no seccomp profile.";
        foreach (var key in pod.Keys.Where(k => k.StartsWith("host", StringComparison.Ordinal)))
            yield return $"{workload}: shares the node's {key}.";
        foreach (var problem in Volumes(objects, workload)) yield return problem;
        foreach (var container in Containers(workload))
        {
            foreach (var problem in Container(workload, container, rendered).Concat(Serves(objects, workload, container)))
                yield return $"{workload}, container {container["name"].Text}: {problem}";
        }

        foreach (var service in objects.Where(o => o.Kind == "Service" && Leads(o, workload)))
        {
            var open = pod["containers"].Items.SelectMany(c => c["ports"].Items).Select(p => p["name"].Text).ToHashSet();
            foreach (var port in service["spec"]["ports"].Items.Where(p => !p["targetPort"].IsNull && !open.Contains(p["targetPort"].Text)))
                yield return $"{service}: target port {port["targetPort"].Text} is not one of {workload}.";
        }
    }

    private static IEnumerable<string> Volumes(IReadOnlyList<Node> objects, Node workload)
    {
        long onDisk = 0;
        foreach (var volume in workload["spec"]["template"]["spec"]["volumes"].Items)
        {
            var kind = volume.Keys.Single(k => k != "name");
            var of = kind switch
            {
                "configMap" => ("ConfigMap", volume[kind]["name"].Text),
                "persistentVolumeClaim" => ("PersistentVolumeClaim", volume[kind]["claimName"].Text),
                _ => default,
            };
            if (kind is not ("configMap" or "persistentVolumeClaim" or "emptyDir" or "secret"))
                yield return $"{workload}: volume {volume["name"].Text} is a {kind}.";
            if (of != default && !objects.Any(o => (o.Kind, o.Name) == of)) yield return $"{workload}: there is no {of.Item1} {of.Item2}.";
            if (kind != "emptyDir") continue;
            if (volume[kind]["sizeLimit"].IsNull) yield return $"{workload}: volume {volume["name"].Text} has no bound.";
            else if (volume[kind]["medium"].Text != "Memory") onDisk += Bytes(volume[kind]["sizeLimit"].Text!);
        }

        // A pod whose scratch space is above the sum of its containers' limits is evicted.
        var room = workload["spec"]["template"]["spec"]["containers"].Items
            .Sum(c => Bytes(c["resources"]["limits"]["ephemeral-storage"].Text ?? "0"));
        if (onDisk > room) yield return $"{workload}: its scratch volumes may hold {onDisk} bytes, its limits of ephemeral-storage {room}.";
    }

    private static IEnumerable<string> Container(Node workload, Node container, bool rendered)
    {
        var pod = workload["spec"]["template"]["spec"];
        var image = container["image"].Text ?? "";
        var tag = image[(image.LastIndexOf('/') + 1)..].Split(':').ElementAtOrDefault(1);
        if (tag == "latest" || (rendered && tag is null)) yield return $"image {image} is latest or has no tag.";
        else if (tag is not null && !Pinned().IsMatch(tag)) yield return $"image {image} is not pinned to a release.";
        var security = container["securityContext"];
        if (security["readOnlyRootFilesystem"].Text != "true") yield return "its root file system can be written.";
        if (security["allowPrivilegeEscalation"].Text != "false" || security["privileged"].Text == "true")
            yield return "may gain privileges.";
        if (!security["capabilities"]["drop"].Items.Any(c => c.Text == "ALL") || !security["capabilities"]["add"].IsNull)
            yield return "keeps capabilities.";
        if (security.Keys.Any(k => k.StartsWith("runAs", StringComparison.Ordinal))) yield return "says itself who it runs as.";
        foreach (var resource in new[] { "cpu", "memory", "ephemeral-storage" })
        {
            if (container["resources"]["requests"][resource].IsNull || container["resources"]["limits"][resource].IsNull)
                yield return $"no requests or limits of {resource}.";
        }

        if (container["resources"]["requests"][Gpu].Text != container["resources"]["limits"][Gpu].Text)
            yield return "asks for another number of GPUs than it may have.";
        if (!container["resources"]["limits"][Gpu].IsNull && !pod["tolerations"].Items.Any(t => t["key"].Text == Gpu))
            yield return "wants a GPU but does not tolerate nodes that are kept for them.";
        var volumes = pod["volumes"].Items.Select(v => v["name"].Text).ToHashSet(StringComparer.Ordinal);
        foreach (var mount in container["volumeMounts"].Items.Where(m => !volumes.Contains(m["name"].Text)))
            yield return $"there is no volume {mount["name"].Text}.";
        if (!container["volumeMounts"].Items.Any(m => m["mountPath"].Text == "/tmp")) yield return "/tmp cannot be written.";
        foreach (var name in container["env"].Items.Select(e => e["name"].Text!))
        {
            if (name.StartsWith("MEM1_", StringComparison.Ordinal) && !s_variables.Value.Contains(name))
                yield return $"the program reads no variable {name}.";
        }
    }

    /// <summary>What it runs, where it answers and how it is ended.</summary>
    private static IEnumerable<string> Serves(IReadOnlyList<Node> objects, Node workload, Node container)
    {
        var pod = workload["spec"]["template"]["spec"];
        var named = container["ports"].Items.ToDictionary(p => p["name"].Text!, p => p["containerPort"].Text!, StringComparer.Ordinal);
        foreach (var probe in s_probes.Select(p => container[p]).Where(p => !p["httpGet"].IsNull))
        {
            if (!named.ContainsKey(probe["httpGet"]["port"].Text ?? "")) yield return "a probe asks a port it has not.";
        }

        // Who serves is watched over; a rank of a group and an init container answer nobody.
        if (named.Count > 0 && s_probes.Any(p => container[p].IsNull)) yield return "a probe is missing.";
        foreach (var problem in Scripts(objects, pod, container)) yield return problem;
        if (!IsOurs(container))
        {
            if (container["command"].IsNull) yield return "what it runs is left to an image that is not ours.";
            foreach (var port in container["args"].Items.Select(a => a.Text!).Where(a => a.StartsWith("--port=", StringComparison.Ordinal)))
            {
                if (!named.ContainsValue(port["--port=".Length..])) yield return $"{port} is not its port.";
            }

            yield break;
        }

        foreach (var problem in CommandLine(objects, container, named, pod)) yield return problem;
        string[] asked = [.. s_probes.Select(p => container[p]["httpGet"]["path"].Text ?? "")];
        if (container["args"].Items.FirstOrDefault()?.Text is "learner" or "rollout" && named.Count > 0
            && !asked.SequenceEqual(["/started", "/ready", "/health"]))
            yield return $"its probes ask {string.Join(", ", asked)}; each is to ask its own question.";
        if (named.Count > 0 && asked[1] == asked[2]) yield return "one probe says both whether it is ready and whether it lives.";
    }

    /// <summary>Scripts from ConfigMaps: they are there, and the port at their end is one of the pod's.</summary>
    private static IEnumerable<string> Scripts(IReadOnlyList<Node> objects, Node pod, Node container)
    {
        Node[] commands =
        [
            container["command"], container["lifecycle"]["preStop"]["exec"]["command"],
            .. s_probes.Select(p => container[p]["exec"]["command"]),
        ];
        foreach (var words in commands.Select(c => c.Items.Select(i => i.Text!).ToList()))
        {
            if (words.Count < 2 || !words[1].EndsWith(".sh", StringComparison.Ordinal)) continue;
            var folder = Path.GetDirectoryName(words[1]);
            var mount = container["volumeMounts"].Items.FirstOrDefault(m => m["mountPath"].Text == folder);
            var map = pod["volumes"].Items.FirstOrDefault(v => v["name"].Text == mount?["name"].Text)?["configMap"]["name"].Text;
            if (Find(objects, "ConfigMap", map)["data"][Path.GetFileName(words[1])].Text is null)
                yield return $"there is no script {words[1]}.";
            if (words.Count > 2 && int.TryParse(words[2], out _)
                && !pod["containers"].Items.SelectMany(c => c["ports"].Items).Any(p => p["containerPort"].Text == words[2]))
            {
                yield return $"{words[1]} asks port {words[2]}, which nobody in the pod opens.";
            }
        }
    }

    private static IEnumerable<string> CommandLine(IReadOnlyList<Node> objects, Node container, Dictionary<string, string> named, Node pod)
    {
        var arguments = container["args"].Items.Select(a => a.Text!).ToArray();
        foreach (var error in Program.CreateRoot().Parse(arguments).Errors)
            yield return $"the program does not take its command line: {error.Message}";
        var hook = container["lifecycle"]["preStop"]["exec"]["command"].Items is [{ Text: "sleep" }, var seconds] ? Number(seconds) : 0;
        var grace = Number(pod["terminationGracePeriodSeconds"]);
        // An update under way is finished and saved.
        if (arguments is ["learner", ..] && hook + (int)Program.ShutdownLimit.TotalSeconds > grace)
            yield return "its grace period is shorter than what the program takes to end.";
        foreach (var option in arguments.Where(a => a.StartsWith("--", StringComparison.Ordinal)))
        {
            if (option.Split('=', 2) is not [var name, var value]) continue;
            var port = value[(value.LastIndexOf(':') + 1)..];
            var host = value.Contains(':', StringComparison.Ordinal) ? value[..value.LastIndexOf(':')] : "";
            if (s_portOptions.TryGetValue(name, out var portName) && (host is "0.0.0.0" || (name == "--port" && host.Length == 0))
                && named.GetValueOrDefault(portName) != port)
            {
                yield return $"{option} is not its port {portName}.";
            }

            if ((name == "--learner" || (name == "--rendezvous" && host != "0.0.0.0"))
                && !Find(objects, "Service", host)["spec"]["ports"].Items.Any(p => p["port"].Text == port))
            {
                yield return $"no service listens at {value}.";
            }

            if (name == "--grace" && Number(new Node(value)) + hook + 30 > grace)
                yield return "its grace does not fit into the pod's grace period.";
        }
    }

    private static int Number(Node node) => int.Parse(node.Text!, CultureInfo.InvariantCulture);

    private static long Bytes(string quantity)
    {
        var match = Quantity().Match(quantity);
        Assert.True(match.Success, $"{quantity} is no quantity that these tests know");
        var shift = match.Groups[2].Value switch { "Ki" => 10, "Mi" => 20, "Gi" => 30, _ => 0 };
        return long.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) << shift;
    }

    [GeneratedRegex(@"\A(\d+)(Ki|Mi|Gi|)\z")]
    private static partial Regex Quantity();

    [GeneratedRegex(@"\Av?\d+\.\d+[\w.-]*\z")]
    private static partial Regex Pinned();

    [GeneratedRegex(@"(\A|/)mem1(:|\z)")]
    private static partial Regex OurImage();

    [GeneratedRegex("\"(MEM1_[A-Z_]+)\"")]
    private static partial Regex Variable();
}
