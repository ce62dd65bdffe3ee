using Grpc.Core;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>Says where the cluster is joined (cluster.proto). Callers have shown what viewers show (<see cref="AccessGuard"/>).</summary>
internal sealed class MembershipServiceImplementation(LearnerServiceOptions options) : MembershipService.MembershipServiceBase
{
    public override Task<FindReply> Find(FindRequest request, ServerCallContext context) =>
        Task.FromResult(new FindReply { Cluster = options.Cluster() });
}
