// Hosted nodes: what AddAkka's delegate can say about remoting and clustering. What is not given stays as the configuration has it.
using System.Globalization;
using Akka.Actor;
using Akka.Configuration;
using Akka.Hosting;

namespace Akka.Remote.Hosting
{
    public static class AkkaRemoteHostingExtensions
    {
        public static AkkaConfigurationBuilder WithRemoting(
            this AkkaConfigurationBuilder builder,
            string hostname = null,
            int? port = null,
            string publicHostname = null,
            int? publicPort = null)
        {
            const string Tcp = "akka.remote.dot-netty.tcp.";
            var lines = new List<string>();
            if (builder.Configuration.GetOrElse(Config.Empty).GetString("akka.actor.provider") != "cluster")
            {
                lines.Add("akka.actor.provider = remote");
            }

            void Add(string key, string value)
            {
                if (value is not null)
                {
                    lines.Add($"{Tcp}{key} = {Quoted(value)}");
                }
            }

            Add("hostname", hostname);
            Add("port", port?.ToString(CultureInfo.InvariantCulture));
            Add("public-hostname", publicHostname);
            Add("public-port", publicPort?.ToString(CultureInfo.InvariantCulture));
            return builder.AddHocon(ConfigurationFactory.ParseString(string.Join('\n', lines)), HoconAddMode.Prepend);
        }

        internal static string Quoted(string value) =>
            "\"" + value.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal) + "\"";
    }
}

namespace Akka.Cluster.Hosting
{
    public sealed class ClusterOptions
    {
        public string[] Roles { get; set; }

        public Dictionary<string, int> MinimumNumberOfMembersPerRole { get; set; }

        public string[] SeedNodes { get; set; }

        public int? MinimumNumberOfMembers { get; set; }
    }

    public static class AkkaClusterHostingExtensions
    {
        public static AkkaConfigurationBuilder WithClustering(this AkkaConfigurationBuilder builder, ClusterOptions options = null)
        {
            options ??= new ClusterOptions();
            var lines = new List<string> { "akka.actor.provider = cluster" };
            if (options.Roles is { } roles)
            {
                lines.Add($"akka.cluster.roles = [{Listed(roles)}]");
            }

            if (options.SeedNodes is { } seeds)
            {
                // A malformed one fails here, not when the node wants to join.
                lines.Add($"akka.cluster.seed-nodes = [{Listed(seeds.Select(seed => Address.Parse(seed).ToString()))}]");
            }

            if (options.MinimumNumberOfMembers is { } least)
            {
                lines.Add(string.Create(CultureInfo.InvariantCulture, $"akka.cluster.min-nr-of-members = {least}"));
            }

            foreach (var (role, count) in options.MinimumNumberOfMembersPerRole ?? [])
            {
                var key = Remote.Hosting.AkkaRemoteHostingExtensions.Quoted(role);
                lines.Add(string.Create(CultureInfo.InvariantCulture, $"akka.cluster.role.{key}.min-nr-of-members = {count}"));
            }

            return builder.AddHocon(ConfigurationFactory.ParseString(string.Join('\n', lines)), HoconAddMode.Prepend);
        }

        private static string Listed(IEnumerable<string> values) =>
            string.Join(", ", values.Select(Remote.Hosting.AkkaRemoteHostingExtensions.Quoted));
    }
}
