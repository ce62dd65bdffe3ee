// A server on a loopback port, with the channels that reach it. Invariants: every test has a server of its own; nothing outlives the test.

using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Compat.Grpc.Tests;

/// <summary>What the Kit service does; a method without a script stays unimplemented.</summary>
public sealed class Script
{
    public Func<Note, ServerCallContext, Task<Note>>? Unary { get; init; }

    public Func<IAsyncStreamReader<Note>, ServerCallContext, Task<Note>>? Up { get; init; }

    public Func<Note, IServerStreamWriter<Note>, ServerCallContext, Task>? Down { get; init; }

    public Func<IAsyncStreamReader<Note>, IServerStreamWriter<Note>, ServerCallContext, Task>? Both { get; init; }
}

public sealed class ScriptedKit(Script script) : Kit.KitBase
{
    public override Task<Note> Unary(Note request, ServerCallContext context) =>
        script.Unary is { } f ? f(request, context) : base.Unary(request, context);

    public override Task<Note> Up(IAsyncStreamReader<Note> requestStream, ServerCallContext context) =>
        script.Up is { } f ? f(requestStream, context) : base.Up(requestStream, context);

    public override Task Down(Note request, IServerStreamWriter<Note> responseStream, ServerCallContext context) =>
        script.Down is { } f ? f(request, responseStream, context) : base.Down(request, responseStream, context);

    public override Task Both(
        IAsyncStreamReader<Note> requestStream, IServerStreamWriter<Note> responseStream, ServerCallContext context) =>
        script.Both is { } f ? f(requestStream, responseStream, context) : base.Both(requestStream, responseStream, context);
}

public sealed class TestHost : IAsyncDisposable
{
    /// <summary>Longer than any healthy step of a test takes on a loaded machine.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly WebApplication _app;
    private readonly List<IDisposable> _channels = [];

    private TestHost(WebApplication app, bool tls)
    {
        _app = app;
        Tls = tls;
        var address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        Port = new Uri(address).Port;
    }

    public static X509Certificate2 Certificate { get; } = CreateCertificate("localhost");

    public bool Tls { get; }

    public int Port { get; }

    public string Address => $"{(Tls ? "https" : "http")}://localhost:{Port}";

    public static Task<TestHost> StartAsync(
        Script script, Action<global::Grpc.AspNetCore.Server.GrpcServiceOptions>? options = null, bool tls = false) =>
        StartAsync(
            services => services.AddSingleton(script).AddGrpc(options ?? (_ => { })), app => app.MapGrpcService<ScriptedKit>(), tls);

    /// <summary>A server that answers with bytes of its own and knows nothing of gRPC.</summary>
    public static Task<TestHost> StartRawAsync(Microsoft.AspNetCore.Http.RequestDelegate answer) =>
        StartAsync(_ => { }, app => app.Run(answer));

    public static async Task<TestHost> StartAsync(
        Action<IServiceCollection> services,
        Action<WebApplication> map,
        bool tls = false,
        HttpProtocols protocols = HttpProtocols.Http2,
        ClientCertificateMode clientCertificates = ClientCertificateMode.NoCertificate)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = protocols;
            if (tls)
            {
                listen.UseHttps(https =>
                {
                    https.ServerCertificate = Certificate;
                    https.ClientCertificateMode = clientCertificates;
                    https.AllowAnyClientCertificate();
                });
            }
        }));
        services(builder.Services);
        var app = builder.Build();
        map(app);
        await app.StartAsync();
        return new TestHost(app, tls);
    }

    /// <summary>A channel that trusts the test certificate; disposed with the host.</summary>
    public GrpcChannel Channel(Action<GrpcChannelOptions>? configure = null)
    {
        var options = new GrpcChannelOptions();
        if (Tls)
        {
            options.HttpHandler = TrustingHandler();
            options.DisposeHttpClient = true;
        }
        configure?.Invoke(options);
        var channel = GrpcChannel.ForAddress(Address, options);
        _channels.Add(channel);
        return channel;
    }

    public Kit.KitClient Client(Action<GrpcChannelOptions>? configure = null) => new(Channel(configure));

    public static SocketsHttpHandler TrustingHandler() => new()
    {
        EnableMultipleHttp2Connections = true,
        SslOptions = new SslClientAuthenticationOptions
        {
            RemoteCertificateValidationCallback = (_, certificate, _, _) =>
                certificate is not null && certificate.GetCertHashString() == Certificate.GetCertHashString(),
        },
    };

    /// <summary>An HTTP/2 client without any gRPC.</summary>
    public HttpClient Http(Version? version = null)
    {
        var client = new HttpClient
        {
            BaseAddress = new Uri(Address),
            DefaultRequestVersion = version ?? HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        _channels.Add(client);
        return client;
    }

    public static X509Certificate2 CreateCertificate(string name)
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        request.CertificateExtensions.Add(names.Build());
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30));
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var channel in _channels)
            channel.Dispose();
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        try
        {
            await _app.StopAsync(now.Token);
        }
        catch (OperationCanceledException)
        {
            // Asked for: connections of a test that ends early are cut, not waited for.
        }
        await _app.DisposeAsync();
    }
}

internal static class TestTasks
{
    /// <summary>Fails a test that would hang.</summary>
    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(TestHost.Patience);

    public static Task Soon(this Task task) => task.WaitAsync(TestHost.Patience);

    public static async Task<RpcException> FailsWith(this Task task, StatusCode code)
    {
        var exception = await Assert.ThrowsAsync<RpcException>(() => task.Soon());
        Assert.True(code == exception.StatusCode, $"Expected {code}, but it was: {exception.Message}");
        return exception;
    }
}
