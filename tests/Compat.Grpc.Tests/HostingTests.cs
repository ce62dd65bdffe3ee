// What surrounds calls: channel options, TLS, credentials, interceptors, how services are found, made and disposed.

using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;

namespace Compat.Grpc.Tests;

public sealed class HostingTests
{
    private static readonly Script s_echo = new() { Unary = (note, _) => Task.FromResult(note) };

    [Fact]
    public void A_channel_refuses_options_that_contradict_each_other()
    {
        Assert.Throws<ArgumentException>(() => GrpcChannel.ForAddress(
            "http://localhost", new GrpcChannelOptions { HttpClient = new HttpClient(), HttpHandler = new SocketsHttpHandler() }));
        Assert.Throws<InvalidOperationException>(() => GrpcChannel.ForAddress(
            "https://localhost", new GrpcChannelOptions { Credentials = ChannelCredentials.Insecure }));
        Assert.Throws<InvalidOperationException>(() => GrpcChannel.ForAddress(
            "http://localhost", new GrpcChannelOptions { Credentials = ChannelCredentials.SecureSsl }));
        using var channel = GrpcChannel.ForAddress(new Uri("http://localhost:5000/ignored/path"));
        Assert.Equal("localhost:5000", channel.Target);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_channel_disposes_a_handler_only_if_told(bool dispose)
    {
        await using var host = await TestHost.StartAsync(s_echo);
        var handler = new WatchedHandler();
        var channel = GrpcChannel.ForAddress(host.Address, new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = dispose });
        await new Kit.KitClient(channel).UnaryAsync(new Note()).ResponseAsync.Soon();
        channel.Dispose();
        Assert.Equal(dispose, handler.Disposed);
        handler.Dispose();
    }

    [Fact]
    public async Task An_HttpClient_can_be_given()
    {
        await using var host = await TestHost.StartAsync(s_echo);
        using var http = new HttpClient();
        using var channel = GrpcChannel.ForAddress(host.Address, new GrpcChannelOptions { HttpClient = http });
        Assert.Equal(3, (await new Kit.KitClient(channel).UnaryAsync(new Note { Number = 3 }).ResponseAsync.Soon()).Number);
    }

    [Fact]
    public async Task A_certificate_nobody_trusts_ends_the_call()
    {
        await using var host = await TestHost.StartAsync(s_echo, tls: true);
        using var channel = GrpcChannel.ForAddress(host.Address);
        var failure = await Assert.ThrowsAsync<RpcException>(() => new Kit.KitClient(channel).UnaryAsync(new Note()).ResponseAsync.Soon());
        Assert.Contains(failure.StatusCode, (StatusCode[])[StatusCode.Unavailable, StatusCode.Internal]);
    }

    [Fact]
    public async Task A_client_certificate_names_the_peer()
    {
        var script = new Script
        {
            Unary = (_, context) => Task.FromResult(new Note
            {
                Text = string.Join(",", context.AuthContext.PeerIdentity.Select(p => p.Name + "=" + p.Value)),
            }),
        };
        await using var host = await TestHost.StartAsync(
            services => services.AddSingleton(script).AddGrpc(),
            app => app.MapGrpcService<ScriptedKit>(),
            tls: true,
            clientCertificates: ClientCertificateMode.RequireCertificate);
        using var certificate = TestHost.CreateCertificate("worker-7");
        var handler = TestHost.TrustingHandler();
        handler.SslOptions.ClientCertificates = [certificate];
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate;
        var reply = await host.Client(o => o.HttpHandler = handler).UnaryAsync(new Note()).ResponseAsync.Soon();
        Assert.Equal("x509_subject_alternative_name=worker-7", reply.Text);
    }

    [Fact]
    public async Task Call_credentials_need_TLS_unless_told_otherwise()
    {
        var script = new Script
        {
            Unary = (_, context) => Task.FromResult(new Note
            {
                Text = string.Join(
                    ",", context.RequestHeaders.Where(e => e.Key.StartsWith("x-token", StringComparison.Ordinal)).Select(e => e.Value)),
            }),
        };
        AuthInterceptorContext? seen = null;
        var one = CallCredentials.FromInterceptor((context, metadata) =>
        {
            seen = context;
            metadata.Add("x-token-1", "a");
            return Task.CompletedTask;
        });
        var two = CallCredentials.FromInterceptor(async (_, metadata) =>
        {
            await Task.Yield();
            metadata.Add("x-token-2", "b");
        });
        var options = new CallOptions(credentials: CallCredentials.Compose(one, two));

        await using var secure = await TestHost.StartAsync(script, tls: true);
        Assert.Equal("a,b", (await secure.Client().UnaryAsync(new Note(), options).ResponseAsync.Soon()).Text);
        Assert.Equal($"https://localhost:{secure.Port}/mem1.kit.Kit", seen!.ServiceUrl);
        Assert.Equal("Unary", seen.MethodName);
        var ofChannel = secure.Client(o => o.Credentials = ChannelCredentials.Create(ChannelCredentials.SecureSsl, one));
        Assert.Equal("a", (await ofChannel.UnaryAsync(new Note()).ResponseAsync.Soon()).Text);

        await using var open = await TestHost.StartAsync(script);
        Assert.Equal("", (await open.Client().UnaryAsync(new Note(), options).ResponseAsync.Soon()).Text);
        var forced = open.Client(o => o.UnsafeUseInsecureChannelCallCredentials = true);
        Assert.Equal("a,b", (await forced.UnaryAsync(new Note(), options).ResponseAsync.Soon()).Text);
    }

    [Fact]
    public async Task Interceptors_run_in_the_order_they_were_given()
    {
        var log = new List<string>();
        await using var host = await TestHost.StartAsync(
            services =>
            {
                services.AddSingleton(log);
                services.AddSingleton(new Script
                {
                    Unary = (note, _) =>
                    {
                        log.Add("handler");
                        return Task.FromResult(note);
                    },
                    Down = (note, writer, _) => writer.WriteAsync(note),
                    Up = async (notes, _) => await notes.MoveNext() ? notes.Current : new Note(),
                    Both = async (notes, writer, _) =>
                    {
                        while (await notes.MoveNext())
                            await writer.WriteAsync(notes.Current);
                    },
                });
                services.AddGrpc(o =>
                {
                    o.Interceptors.Add<Logging>("server 1");
                    o.Interceptors.Add(typeof(Logging), "server 2");
                }).AddServiceOptions<ScriptedKit>(o => o.Interceptors.Add<Logging>("service"));
            },
            app => app.MapGrpcService<ScriptedKit>());
        var invoker = host.Channel().Intercept(new Logging(log, "inner"))
            .Intercept(new Logging(log, "client 1"), new Logging(log, "client 2"));
        var client = new Kit.KitClient(invoker);
        string[] expected =
        [
            "client 1 UnaryAsync", "client 2 UnaryAsync", "inner UnaryAsync",
            "server 1 Unary", "server 2 Unary", "service Unary", "handler",
        ];
        await client.UnaryAsync(new Note()).ResponseAsync.Soon();
        Assert.Equal(expected, log);

        log.Clear();
        client.Unary(new Note());
        Assert.Equal("client 1 Unary", log[0]);

        log.Clear();
        using var down = client.Down(new Note());
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        using var up = client.Up();
        await up.RequestStream.WriteAsync(new Note { Number = 2 }).Soon();
        Assert.Equal(2, (await up.ResponseAsync.Soon()).Number);
        using var both = client.Both();
        await both.RequestStream.WriteAsync(new Note()).Soon();
        Assert.True(await both.ResponseStream.MoveNext().Soon());
        Assert.Equal(3 * 6, log.Count);
        var onServer = log.Where(l => l.EndsWith(" Down", StringComparison.Ordinal) && l[0] == 's');
        Assert.Equal(["server 1 Down", "server 2 Down", "service Down"], onServer);
    }

    [Fact]
    public async Task An_interceptor_can_refuse_and_wrap()
    {
        await using var host = await TestHost.StartAsync(
            services => services.AddSingleton(s_echo).AddGrpc(o => o.Interceptors.Add<TokenCheck>()),
            app => app.MapGrpcService<ScriptedKit>());
        var client = host.Client();
        await client.UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Unauthenticated);
        var good = await client.UnaryAsync(new Note(), new Metadata { { "authorization", "Bearer t" } }).ResponseAsync.Soon();
        Assert.Equal(new Note(), good);

        var wrapped = new Kit.KitClient(host.Channel().Intercept(new AddToken()));
        using var call = wrapped.UnaryAsync(new Note());
        Assert.Equal("wrapped", (await call.ResponseAsync.Soon()).Text);
        await call.ResponseHeadersAsync.Soon();
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    [Fact]
    public async Task A_service_lives_for_one_call_unless_registered()
    {
        var lives = new Lives();
        await using (var host = await TestHost.StartAsync(
            services => services.AddSingleton(lives).AddGrpc(), app => app.MapGrpcService<CountedKit>()))
        {
            var client = host.Client();
            await client.UnaryAsync(new Note()).ResponseAsync.Soon();
            await client.UnaryAsync(new Note()).ResponseAsync.Soon();
            await client.UnaryAsync(new Note { Text = "throw" }).ResponseAsync.FailsWith(StatusCode.Unknown);
            // The answer may be on its way before the instance is disposed.
            for (var i = 0; i < 200 && lives.Disposed < 3; i++)
                await Task.Delay(10);
        }
        Assert.Equal((3, 3), (lives.Made, lives.Disposed));

        lives = new Lives();
        await using (var host = await TestHost.StartAsync(
            services => services.AddSingleton(lives).AddSingleton<CountedKit>().AddGrpc(), app => app.MapGrpcService<CountedKit>()))
        {
            var client = host.Client();
            await client.UnaryAsync(new Note()).ResponseAsync.Soon();
            await client.UnaryAsync(new Note()).ResponseAsync.Soon();
            Assert.Equal((1, 0), (lives.Made, lives.Disposed));
        }
        Assert.Equal((1, 1), (lives.Made, lives.Disposed));
    }

    [Fact]
    public async Task A_hiding_method_is_not_served_and_an_inherited_one_is()
    {
        await using var host = await TestHost.StartAsync(services => services.AddGrpc(), app => app.MapGrpcService<HidingKit>());
        Assert.Equal("overridden", (await host.Client().UnaryAsync(new Note()).ResponseAsync.Soon()).Text);
    }

    [Fact]
    public void Mapping_without_AddGrpc_is_refused()
    {
        var app = WebApplication.CreateBuilder().Build();
        Assert.Throws<InvalidOperationException>(() => app.MapGrpcService<ScriptedKit>());
    }

    [Fact]
    public async Task Endpoints_carry_the_attributes_of_class_and_method()
    {
        IEndpointRouteBuilder? routes = null;
        await using var host = await TestHost.StartAsync(
            services => services.AddGrpc(),
            app =>
            {
                routes = app;
                app.MapGrpcService<GuardedKit>().WithMetadata("convention");
            });
        var endpoint = routes!.DataSources.SelectMany(s => s.Endpoints)
            .Single(e => e.Metadata.GetMetadata<GrpcMethodMetadata>()?.Method.Name == "Unary");
        Assert.Equal(["class", "method"], endpoint.Metadata.GetOrderedMetadata<AuthorizeAttribute>().Select(a => a.Policy));
        Assert.Equal(typeof(GuardedKit), endpoint.Metadata.GetMetadata<GrpcMethodMetadata>()!.ServiceType);
        Assert.Contains("convention", endpoint.Metadata);
    }

    [Fact]
    public async Task A_test_double_of_a_client_needs_no_channel()
    {
        var call = new AsyncUnaryCall<Note>(
            Task.FromResult(new Note { Number = 9 }), Task.FromResult(new Metadata()), () => Status.DefaultSuccess, () => [], () => { });
        Assert.Equal(9, (await call).Number);
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
        Assert.Empty(call.GetTrailers());
    }

    private sealed class WatchedHandler : HttpMessageHandler
    {
        private readonly HttpMessageInvoker _inner = new(new SocketsHttpHandler());

        public bool Disposed { get; private set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            _inner.SendAsync(request, cancellationToken);

        protected override void Dispose(bool disposing)
        {
            Disposed = true;
            _inner.Dispose();
        }
    }

    public sealed class Lives
    {
        public int Made;
        public int Disposed;
    }

    public sealed class CountedKit : Kit.KitBase, IAsyncDisposable
    {
        private readonly Lives _lives;

        public CountedKit(Lives lives)
        {
            _lives = lives;
            Interlocked.Increment(ref lives.Made);
        }

        public override async Task<Note> Unary(Note request, ServerCallContext context)
        {
            await Task.Yield();
            return request.Text.Length == 0 ? request : throw new InvalidOperationException();
        }

        public ValueTask DisposeAsync()
        {
            Interlocked.Increment(ref _lives.Disposed);
            return default;
        }
    }

    public class OverridingKit : Kit.KitBase
    {
        public override Task<Note> Unary(Note request, ServerCallContext context) => Task.FromResult(new Note { Text = "overridden" });
    }

    public sealed class HidingKit : OverridingKit
    {
        public new Task<Note> Unary(Note request, ServerCallContext context) => Task.FromResult(new Note { Text = "hiding" });
    }

    [Authorize("class")]
    public sealed class GuardedKit : Kit.KitBase
    {
        [Authorize("method")]
        public override Task<Note> Unary(Note request, ServerCallContext context) => Task.FromResult(request);
    }

    public sealed class TokenCheck : Interceptor
    {
        public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
            TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation) =>
            context.RequestHeaders.GetValue("authorization") == "Bearer t"
                ? continuation(request, context)
                : throw new RpcException(new Status(StatusCode.Unauthenticated, "no token"));
    }

    private sealed class AddToken : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation)
        {
            var options = context.Options.WithHeaders(new Metadata { { "authorization", "Bearer t" } });
            var call = continuation(request, new ClientInterceptorContext<TRequest, TResponse>(context.Method, context.Host, options));
            return new AsyncUnaryCall<TResponse>(
                Change(call.ResponseAsync), call.ResponseHeadersAsync, call.GetStatus, call.GetTrailers, call.Dispose);

            static async Task<TResponse> Change(Task<TResponse> response)
            {
                var message = await response;
                if (message is Note note)
                    note.Text = "wrapped";
                return message;
            }
        }
    }

    public sealed class Logging(List<string> log, string name) : Interceptor
    {
        public override TResponse BlockingUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            BlockingUnaryCallContinuation<TRequest, TResponse> continuation)
        {
            Log("Unary");
            return continuation(request, context);
        }

        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation)
        {
            Log("UnaryAsync");
            return continuation(request, context);
        }

        public override AsyncServerStreamingCall<TResponse> AsyncServerStreamingCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncServerStreamingCallContinuation<TRequest, TResponse> continuation)
        {
            Log("Down");
            return continuation(request, context);
        }

        public override AsyncClientStreamingCall<TRequest, TResponse> AsyncClientStreamingCall<TRequest, TResponse>(
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncClientStreamingCallContinuation<TRequest, TResponse> continuation)
        {
            Log("Up");
            return continuation(context);
        }

        public override AsyncDuplexStreamingCall<TRequest, TResponse> AsyncDuplexStreamingCall<TRequest, TResponse>(
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncDuplexStreamingCallContinuation<TRequest, TResponse> continuation)
        {
            Log("Both");
            return continuation(context);
        }

        public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
            TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
        {
            Log("Unary");
            return continuation(request, context);
        }

        public override Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
            IAsyncStreamReader<TRequest> requestStream,
            ServerCallContext context,
            ClientStreamingServerMethod<TRequest, TResponse> continuation)
        {
            Log("Up");
            return continuation(requestStream, context);
        }

        public override Task ServerStreamingServerHandler<TRequest, TResponse>(
            TRequest request,
            IServerStreamWriter<TResponse> responseStream,
            ServerCallContext context,
            ServerStreamingServerMethod<TRequest, TResponse> continuation)
        {
            Log("Down");
            return continuation(request, responseStream, context);
        }

        public override Task DuplexStreamingServerHandler<TRequest, TResponse>(
            IAsyncStreamReader<TRequest> requestStream,
            IServerStreamWriter<TResponse> responseStream,
            ServerCallContext context,
            DuplexStreamingServerMethod<TRequest, TResponse> continuation)
        {
            Log("Both");
            return continuation(requestStream, responseStream, context);
        }

        private void Log(string call)
        {
            lock (log)
                log.Add(name + " " + call);
        }
    }
}
