// What the manifests must keep (Policy, PolicyOfNetwork, PolicyOfRun), on the base as it is written and on every overlay as kubectl renders
// it where kubectl is there; and that every rule finds what breaks it.
namespace Mem1.Deploy.Tests;

public sealed class KubernetesTests
{
    public static TheoryData<string> Folders => [.. Manifest.Folders];

    [Fact]
    public void The_base_as_it_is_written_keeps_the_rules()
    {
        var objects = Manifest.Written();

        Assert.True(objects.Count > 15, $"only {objects.Count} objects");
        Assert.Empty(Policy.Problems(objects, rendered: false));
    }

    [Theory]
    [MemberData(nameof(Folders))]
    public async Task What_kubectl_renders_keeps_the_rules(string folder)
    {
        var objects = Manifest.Load(await Manifest.RenderAsync(folder)).ToList();

        Assert.True(objects.Count > 15, $"only {objects.Count} objects");
        Assert.Empty(Policy.Problems(objects, rendered: true));
    }

    [Theory]
    [InlineData("rollout.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "root")]
    [InlineData("rollout.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file system")]
    [InlineData("rollout.yaml", "limits:", "bounds:", "limits")]
    [InlineData("rollout.yaml", "image: mem1", "image: mem1:latest", "latest")]
    [InlineData("rollout.yaml", "image: mem1", "image: mem1:1", "pinned")]
    [InlineData("rollout.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities")]
    [InlineData("rollout.yaml", "type: RuntimeDefault", "type: Unconfined", "seccomp")]
    [InlineData("rollout.yaml", "serviceAccountName: rollout", "serviceAccountName: default", "service account")]
    [InlineData("rollout.yaml", "serviceAccountName: rollout", "hostNetwork: true\n      serviceAccountName: rollout", "hostNetwork")]
    [InlineData("rollout.yaml", "emptyDir: {sizeLimit: 512Mi}", "hostPath: {path: /tmp}", "is a hostPath")]
    [InlineData("rollout.yaml", "emptyDir: {sizeLimit: 512Mi}", "emptyDir: {}", "no bound")]
    [InlineData("rollout.yaml", "emptyDir: {sizeLimit: 512Mi}", "emptyDir: {sizeLimit: 1Gi}", "ephemeral-storage")]
    [InlineData("rollout.yaml", "mountPath: /tmp", "mountPath: /var/tmp", "/tmp cannot")]
    [InlineData("rollout.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "gain privileges")]
    [InlineData("rollout.yaml", "drop: [ALL]", "drop: [ALL]\n            runAsUser: 0", "says itself who it runs as")]
    [InlineData("rollout.yaml", "{name: tmp, mountPath: /tmp}", "{name: tpm, mountPath: /tmp}", "no volume tpm")]
    [InlineData("rollout.yaml", "--grace=240", "--grace=900", "grace")]
    [InlineData("rollout.yaml", "--finish", "--finnish", "command line")]
    [InlineData("rollout.yaml", "containerPort: 8081", "containerPort: 8082", "health")]
    [InlineData(
        "rollout.yaml", "matchLabels: {app.kubernetes.io/name: rollout}",
        "matchLabels: {app.kubernetes.io/name: rolout}", "selector")]
    [InlineData("rollout.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token")]
    [InlineData("rollout.yaml", "port: health}", "port: helth}", "probe")]
    [InlineData("rollout.yaml", "path: /started", "path: /health", "its own question")]
    [InlineData("rollout.yaml", "livenessProbe:", "lifelinessProbe:", "probe is missing")]
    [InlineData("rollout.yaml", "--learner=learner:5050", "--learner=learner:5051", "learner:5051")]
    [InlineData("rollout.yaml", "name: MEM1_TOKEN", "name: MEM1_TOKN", "MEM1_TOKN")]
    [InlineData("rollout.yaml", "rollout.threads=2", "rollout.treads=2", "treads")]
    [InlineData("rollout.yaml", "containerPort: 5060", "containerPort: 5061", "cluster.worker_port")]
    [InlineData("retriever.yaml", "path: /ready", "path: /health", "one probe says both")]
    [InlineData("retriever.yaml", "configMap: {name: mem1-corpus}", "configMap: {name: mem1-corpse}", "mem1-corpse")]
    [InlineData("learner.yaml", "claimName: mem1-runs", "claimName: mem1-run", "PersistentVolumeClaim mem1-run.")]
    [InlineData("learner.yaml", "cluster.port=5060", "cluster.port=5061", "cluster.port 5061")]
    [InlineData("learner.yaml", "terminationGracePeriodSeconds: 330", "terminationGracePeriodSeconds: 300", "takes to end")]
    [InlineData("learner.yaml", "targetPort: grpc", "targetPort: rpc", "target port")]
    [InlineData("kustomization.yaml", "- run.yaml", "- rollout.yaml", "0 ConfigMaps have a run.yaml")]
    [InlineData("run.yaml", "staleness: 1", "stalenes: 1", "stalenes")]
    [InlineData("run.yaml", "staleness: 1", "staleness: -1", "rollout.staleness is -1")]
    [InlineData("run.yaml", "staleness: 1", "staleness: 1\n  device: cuda\nlearner:\n  device: cuda", "no GPU")]
    [InlineData("run.yaml", "updates: 400", "updates: 400\nmodel:\n  from: /models/policy", "no volume")]
    [InlineData(
        "network.yaml", "name: default-deny\nspec:\n  podSelector: {}",
        "name: default-deny\nspec:\n  podSelector: {matchLabels: {a: b}}", "denies everything")]
    [InlineData("network.yaml", "port: 5060", "port: 5061", "port 5061, which")]
    [InlineData("network.yaml", "port: 5080", "port: 5081", "anybody in at port 5080")]
    [InlineData(
        "network.yaml", "matchLabels: {app.kubernetes.io/name: retriever}\n      ports",
        "matchLabels: {app.kubernetes.io/name: retrieve}\n      ports", "lets nobody out")]
    [InlineData(
        "network.yaml", "values: [learner, rollout]}\n      ports:\n        - {protocol: TCP, port: 8000}",
        "values: [rollout]}\n      ports:\n        - {protocol: TCP, port: 8000}", "lets it not in")]
    [InlineData(
        "disruption.yaml", "matchLabels: {app.kubernetes.io/name: retriever}",
        "matchLabels: {app.kubernetes.io/name: retrievr}", "disruption budget")]
    [InlineData(
        "accounts.yaml", "name: rollout\nautomountServiceAccountToken: false",
        "name: rollout\nautomountServiceAccountToken: true", "hands out")]
    [InlineData(
        "accounts.yaml", "kind: ServiceAccount\nmetadata:\n  name: dashboard",
        "kind: ClusterRole\nmetadata:\n  name: dashboard", "needs rights")]
    [InlineData("disruption.yaml", "policy/v1", "policy/v1beta1", "goes away")]
    public void Every_rule_finds_what_breaks_it(string file, string from, string to, string rule)
    {
        var found = false;
        var objects = Manifest.Written((name, text) =>
        {
            if (name != file) return text;
            found = text.Contains(from, StringComparison.Ordinal);
            return text.Replace(from, to, StringComparison.Ordinal);
        });

        Assert.True(found, $"{file} does not hold: {from}");
        Assert.Contains(Policy.Problems(objects, rendered: false), p => p.Contains(rule, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("vllm", "mountPath: /weights\n", "mountPath: /weights/policy\n", "is the volume itself")]
    [InlineData("vllm", "weights_folder: /weights/policy", "weights_folder: /weights/other", "not what the server serves")]
    [InlineData("vllm", "url: http://127.0.0.1:8001/v1", "url: http://127.0.0.1:8002/v1", "where no server")]
    [InlineData("vllm", "model: policy", "model: polcy", "not the server's name")]
    [InlineData("vllm", "name: weights\n          readOnly: true", "name: cache\n          readOnly: true", "do not share the volume")]
    [InlineData("vllm", "--logprobs-mode=processed_logprobs", "--logprobs-mode=raw_logprobs", "not those of rollout.temperature")]
    [InlineData("vllm", "        command:\n        - bash\n        - /scripts/serve.sh\n", "", "left to an image")]
    [InlineData("vllm", "--port=8001", "--port=8002", "--port=8002 is not")]
    [InlineData("vllm", "--host=127.0.0.1", "--host=0.0.0.0", "loopback")]
    [InlineData("vllm", "name: VLLM_SERVER_DEV_MODE", "name: VLLM_SERVER_MODE", "development mode only")]
    [InlineData("vllm", "/scripts/serve.sh", "/scripts/sreve.sh", "no script /scripts/sreve.sh")]
    [InlineData("vllm", "- \"8081\"", "- \"8082\"", "nobody in the pod opens")]
    [InlineData("vllm", "vllm/vllm-openai:v0.11.0", "vllm/vllm-openai", "latest or has no tag")]
    [InlineData("vllm", "from: /models/policy", "from: /model/policy", "no volume")]
    [InlineData(
        "gpu", "memory: 16Gi\n            nvidia.com/gpu: \"1\"", "memory: 16Gi\n            nvidia.com/gpu: \"2\"",
        "another number of GPUs")]
    [InlineData("gpu", "namespace: mem1\nspec:\n  behavior", "namespace: mem2\nspec:\n  behavior", "not in the namespace")]
    [InlineData("gpu", "key: nvidia.com/gpu", "key: nvidia.com/cpu", "tolerate")]
    [InlineData("gpu", "name: mem1_queue_age_seconds", "name: mem1_queue_age", "no metric mem1_queue_age")]
    [InlineData("gpu", "maxReplicas: 32", "maxReplicas: 1", "wrong way round")]
    [InlineData("gpu", "kind: Deployment\n    name: rollout", "kind: Deployment\n    name: rolout", "scales nothing")]
    [InlineData("multi-learner", "--rendezvous=learner:5051", "--rendezvous=learner:5052", "learner:5052")]
    public async Task Every_rule_finds_what_breaks_an_overlay(string overlay, string from, string to, string rule)
    {
        var text = await Manifest.RenderAsync($"{Manifest.Overlays}/{overlay}");
        Assert.Contains(from, text);
        Assert.Contains(
            Policy.Problems([.. Manifest.Load(text.Replace(from, to, StringComparison.Ordinal))], rendered: true),
            p => p.Contains(rule, StringComparison.Ordinal));
    }
}
