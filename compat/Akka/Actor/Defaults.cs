using Akka.Configuration;

namespace Akka.Actor;

/// <summary>The reference settings every system falls back to: the keys this library honours.</summary>
internal static class Defaults
{
    internal static readonly Config Config = ConfigurationFactory.ParseString(
        """
        akka {
          loglevel = INFO
          stdout-loglevel = WARNING
          loggers = ["Akka.Event.DefaultLogger"]
          log-dead-letters = 10
          log-dead-letters-suspend-duration = 5m
          actor {
            provider = local
            guardian-supervisor-strategy = "Akka.Actor.DefaultSupervisorStrategy"
            ask-timeout = infinite
            default-dispatcher { type = Dispatcher, executor = default-executor, throughput = 30 }
            internal-dispatcher { type = Dispatcher, executor = default-executor, throughput = 5 }
            default-blocking-io-dispatcher { type = Dispatcher, executor = default-executor, throughput = 1 }
            deployment { }
          }
          remote {
            retry-gate-closed-for = 5s
            flush-wait-on-shutdown = 2s
            system-message-buffer-size = 20000
            initial-system-message-delivery-timeout = 3m
            watch-failure-detector {
              heartbeat-interval = 1s
              threshold = 10.0
              max-sample-size = 200
              min-std-deviation = 100ms
              acceptable-heartbeat-pause = 10s
              unreachable-nodes-reaper-interval = 1s
              expected-response-after = 1s
            }
            dot-netty.tcp {
              hostname = ""
              public-hostname = ""
              port = 2552
              public-port = 0
              connection-timeout = 15s
              maximum-frame-size = 128000b
            }
          }
          cluster {
            seed-nodes = []
            seed-node-timeout = 5s
            retry-unsuccessful-join-after = 10s
            shutdown-after-unsuccessful-join-seed-nodes = off
            allow-weakly-up-members = 7s
            roles = []
            min-nr-of-members = 1
            role { }
            periodic-tasks-initial-delay = 1s
            gossip-interval = 1s
            gossip-different-view-probability = 0.8
            leader-actions-interval = 1s
            unreachable-nodes-reaper-interval = 1s
            quarantine-removed-node-after = 5s
            run-coordinated-shutdown-when-down = on
            failure-detector {
              heartbeat-interval = 1s
              threshold = 8.0
              max-sample-size = 1000
              min-std-deviation = 100ms
              acceptable-heartbeat-pause = 3s
              monitored-by-nr-of-members = 9
              expected-response-after = 1s
            }
            downing-provider-class = "Akka.Cluster.SBR.SplitBrainResolverProvider, Akka.Cluster"
            split-brain-resolver {
              active-strategy = keep-majority
              stable-after = 20s
              down-all-when-unstable = on
              keep-majority { role = "" }
              static-quorum { quorum-size = 0, role = "" }
              keep-oldest { down-if-alone = on, role = "" }
            }
          }
          coordinated-shutdown {
            default-phase-timeout = 5s
            terminate-actor-system = on
            exit-clr = off
            run-by-actor-system-terminate = on
            run-by-clr-shutdown-hook = on
            phases {
              before-service-unbind { }
              service-unbind { depends-on = [before-service-unbind] }
              service-requests-done { depends-on = [service-unbind] }
              service-stop { depends-on = [service-requests-done] }
              before-cluster-shutdown { depends-on = [service-stop] }
              cluster-sharding-shutdown-region { timeout = 10s, depends-on = [before-cluster-shutdown] }
              cluster-leave { depends-on = [cluster-sharding-shutdown-region] }
              cluster-exiting { timeout = 10s, depends-on = [cluster-leave] }
              cluster-exiting-done { depends-on = [cluster-exiting] }
              cluster-shutdown { depends-on = [cluster-exiting-done] }
              before-actor-system-terminate { depends-on = [cluster-shutdown] }
              actor-system-terminate { timeout = 10s, depends-on = [before-actor-system-terminate] }
            }
          }
        }
        """);
}
