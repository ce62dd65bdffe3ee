// Who may talk to whom: nothing by default, and what is let through is let through at both ends and at ports that are open.
namespace Mem1.Deploy.Tests;

internal static class PolicyOfNetwork
{
    public static IEnumerable<string> Problems(IReadOnlyList<Node> objects)
    {
        var workloads = Policy.Workloads(objects);
        var policies = objects.Where(o => o.Kind == "NetworkPolicy").ToList();
        if (!policies.Any(o => o["spec"]["podSelector"].Keys.Count == 0 && o["spec"]["ingress"].IsNull
            && o["spec"]["egress"].IsNull && o["spec"]["policyTypes"].Items.Count == 2))
        {
            yield return "no network policy denies everything by default.";
        }

        foreach (var policy in policies)
        {
            var spec = policy["spec"];
            var own = workloads.Where(w => Policy.Selects(spec["podSelector"], Policy.Labels(w))).ToList();
            foreach (var port in spec["ingress"].Items.SelectMany(r => r["ports"].Items).Select(p => p["port"].Text!))
            {
                foreach (var closed in own.Where(w => !Opens(w, port)))
                    yield return $"{policy} lets callers in at port {port}, which {closed} does not open.";
            }

            foreach (var rule in spec["egress"].Items)
            {
                // Others than our own pods are beyond these rules.
                foreach (var target in rule["to"].Items.Where(t => !t["podSelector"].IsNull && t["namespaceSelector"].IsNull))
                {
                    var targets = workloads.Where(w => Policy.Selects(target["podSelector"], Policy.Labels(w))).ToList();
                    if (targets.Count == 0) yield return $"{policy}: it lets nobody out to anybody: its selector finds no pod.";
                    foreach (var (from, to, port) in
                        from f in own from t in targets from p in rule["ports"].Items.Select(p => p["port"].Text!) select (f, t, p))
                    {
                        if (!Opens(to, port)) yield return $"{policy} lets {from} out to port {port}, which {to} does not open.";
                        else if (!policies.Any(p => LetsIn(p, from, to, port)))
                            yield return $"{policy} lets {from} out to port {port} of {to}, which lets it not in.";
                    }
                }
            }
        }

        // What a service offers somebody must be able to reach.
        foreach (var service in objects.Where(o => o.Kind == "Service"))
        {
            foreach (var workload in workloads.Where(w => Policy.Leads(service, w)))
            {
                foreach (var target in service["spec"]["ports"].Items.Select(p => p["targetPort"].Text).OfType<string>())
                {
                    var open = Policy.Containers(workload).SelectMany(c => c["ports"].Items);
                    var port = open.FirstOrDefault(p => p["name"].Text == target)?["containerPort"].Text;
                    if (port is not null && !policies.Any(p => Policy.Selects(p["spec"]["podSelector"], Policy.Labels(workload))
                        && p["spec"]["ingress"].Items.Any(r => AtPort(r, port))))
                    {
                        yield return $"{service}: no network policy lets anybody in at port {port}.";
                    }
                }
            }
        }
    }

    private static bool Opens(Node workload, string port) =>
        Policy.Containers(workload).SelectMany(c => c["ports"].Items).Any(p => p["containerPort"].Text == port);

    private static bool AtPort(Node rule, string port) => rule["ports"].IsNull || rule["ports"].Items.Any(p => p["port"].Text == port);

    private static bool LetsIn(Node policy, Node from, Node to, string port) =>
        Policy.Selects(policy["spec"]["podSelector"], Policy.Labels(to))
        && policy["spec"]["ingress"].Items.Any(r => AtPort(r, port)
            && r["from"].Items.Any(f => f["namespaceSelector"].IsNull && !f["podSelector"].IsNull
                && Policy.Selects(f["podSelector"], Policy.Labels(from))));
}
