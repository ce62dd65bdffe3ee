// The run that the manifests start: settings that the program has, that contradict neither each other nor the pods they are for.
using System.Globalization;
using Mem1.Actors;
using Mem1.Cli;
using Mem1.Cli.Configuration;

namespace Mem1.Deploy.Tests;

internal static class PolicyOfRun
{
    private const string Setting = "--set=";

    public static IEnumerable<string> Problems(IReadOnlyList<Node> objects)
    {
        var learner = Policy.Find(objects, "StatefulSet", "learner");
        var rollout = Policy.Find(objects, "Deployment", "rollout");
        var (run, wrong) = Config(objects, Settings(learner));
        foreach (var sentence in wrong) yield return sentence;
        if (run is null) yield break;
        foreach (var sentence in Config(objects, [.. Settings(learner), .. Settings(rollout)]).Wrong.Except(wrong))
            yield return $"of the workers: {sentence}";
        if (Port(learner, "cluster") is { } founds && run.Cluster.Port.ToString(CultureInfo.InvariantCulture) != founds)
            yield return $"the learner's node listens on cluster.port {run.Cluster.Port}, and its pod opens {founds}.";
        if (Port(rollout, "cluster") is { } joins && run.Cluster.WorkerPort.ToString(CultureInfo.InvariantCulture) != joins)
            yield return $"a worker's node listens on cluster.worker_port {run.Cluster.WorkerPort}, and its pod opens {joins}.";
        if (run.Model.From.StartsWith('/') && Mount(learner, "learner", run.Model.From) is null)
            yield return $"model.from is {run.Model.From}, where the learner has no volume.";
        if (run.Learner.Device == "cuda" && Pod(learner, "learner")["resources"]["limits"]["nvidia.com/gpu"].IsNull)
            yield return "learner.device is cuda, but its pod asks for no GPU.";
        if (run.Rollout.Backend != PolicyBackend.Openai) yield break;
        var endpoint = run.Rollout.Endpoint;
        var url = new Uri(endpoint.Url!);
        var port = url.Port.ToString(CultureInfo.InvariantCulture);
        var server = rollout["spec"]["template"]["spec"]["containers"].Items.FirstOrDefault(
            c => !Policy.IsOurs(c) && c["ports"].Items.Any(p => p["containerPort"].Text == port));
        if (!url.IsLoopback || server is null)
        {
            yield return $"rollout.endpoint.url is {endpoint.Url}, where no server of the worker's own pod listens.";
            yield break;
        }

        var arguments = server["args"].Items.Select(a => a.Text).ToList();
        if (arguments.FirstOrDefault() != endpoint.WeightsFolder)
            yield return $"rollout.endpoint.weights_folder is {endpoint.WeightsFolder}, which is not what the server serves.";
        if (!arguments.Contains($"--served-model-name={endpoint.Model}"))
            yield return $"rollout.endpoint.model is {endpoint.Model}, which is not the server's name for it.";
        var written = Mount(rollout, "rollout", endpoint.WeightsFolder!);
        var read = Mount(rollout, server["name"].Text!, endpoint.WeightsFolder!);
        if (written is null || written["name"].Text != read?["name"].Text || written["readOnly"].Text == "true")
            yield return "worker and server do not share the volume of rollout.endpoint.weights_folder.";
        // The folder is written beside and renamed, which a mount point cannot be.
        else if (written["mountPath"].Text == endpoint.WeightsFolder)
            yield return "rollout.endpoint.weights_folder is the volume itself, which cannot be renamed.";
        if (endpoint.Reload != EndpointReload.Vllm) yield break;
        if (!server["env"].Items.Any(e => e["name"].Text == "VLLM_SERVER_DEV_MODE" && e["value"].Text == "1"))
            yield return "the server loads weights in development mode only.";
        if (!arguments.Contains("--host=127.0.0.1"))
            yield return "a server in development mode does what anybody tells it, so it must listen on loopback.";
        if (!arguments.Contains("--logprobs-mode=processed_logprobs"))
            yield return "the server's log-probs are not those of rollout.temperature.";
    }

    private static (RunConfig? Run, IReadOnlyList<string> Wrong) Config(IReadOnlyList<Node> objects, IReadOnlyList<string> settings)
    {
        var maps = objects.Where(o => o.Kind == "ConfigMap" && !o["data"]["run.yaml"].IsNull).ToList();
        if (maps is not [var map]) return (null, [$"{maps.Count} ConfigMaps have a run.yaml; there must be one."]);
        var file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, map["data"]["run.yaml"].Text!);
            // As mem1 learner reads it: the kind of environment decides on the defaults.
            string[] all = ["rollout.local_worker=false", .. settings];
            var kind = ConfigFile.Load(file, all, new RunConfig()).Config.Environment.Kind;
            var run = ConfigFile.Load(file, all, Presets.For(null, null, quick: false, fromScratch: false, null, kind)).Config;
            return (run, run.Validate());
        }
        catch (UserErrorException e)
        {
            return (null, [e.Message.Replace(file, "run.yaml", StringComparison.Ordinal)]);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static Node Pod(Node workload, string container) =>
        workload["spec"]["template"]["spec"]["containers"].Items.FirstOrDefault(c => c["name"].Text == container) ?? Node.None;

    private static IReadOnlyList<string> Settings(Node workload) =>
    [
        .. workload["spec"]["template"]["spec"]["containers"].Items.Where(Policy.IsOurs)
            .SelectMany(c => c["args"].Items).Select(a => a.Text!)
            .Where(a => a.StartsWith(Setting, StringComparison.Ordinal)).Select(a => a[Setting.Length..]),
    ];

    private static string? Port(Node workload, string name) => workload["spec"]["template"]["spec"]["containers"].Items
        .SelectMany(c => c["ports"].Items).FirstOrDefault(p => p["name"].Text == name)?["containerPort"].Text;

    private static Node? Mount(Node workload, string container, string path) => Pod(workload, container)["volumeMounts"].Items
        .FirstOrDefault(m => path == m["mountPath"].Text || path.StartsWith(m["mountPath"].Text + "/", StringComparison.Ordinal));
}
