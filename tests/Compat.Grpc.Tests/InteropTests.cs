// gRPC's interoperability cases between our client and our server, in the clear and over TLS.

using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace Compat.Grpc.Tests.Interop;

public sealed class InteropTests
{
    public static TheoryData<string> Cases =>
    [
        "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
        "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server", "status_code_and_message",
        "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
        "client_compressed_unary", "client_compressed_streaming", "server_compressed_unary", "server_compressed_streaming",
    ];

    internal static Task<TestHost> StartAsync(bool tls) =>
        TestHost.StartAsync(services => services.AddGrpc(), app => app.MapGrpcService<InteropService>(), tls);

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task In_the_clear(string name)
    {
        await using var host = await StartAsync(tls: false);
        await InteropCases.RunAsync(name, host.Channel());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Over_TLS(string name)
    {
        await using var host = await StartAsync(tls: true);
        await InteropCases.RunAsync(name, host.Channel());
    }
}
