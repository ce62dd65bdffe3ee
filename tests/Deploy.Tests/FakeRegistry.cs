// A registry with one small base image, by the part of OCI's distribution protocol that pulling takes.
using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;

namespace Mem1.Deploy.Tests;

internal sealed class FakeRegistry : IAsyncDisposable
{
    private readonly WebApplication _application;

    private FakeRegistry(WebApplication application) => _application = application;

    /// <summary>Name of the image, with the registry.</summary>
    public string Image => $"localhost:{new Uri(_application.Urls.First()).Port}/base:1.0";

    /// <param name="path">The PATH of the image; it has no other variable.</param>
    /// <param name="cancellationToken">Stops the start.</param>
    public static async Task<FakeRegistry> StartAsync(string path, CancellationToken cancellationToken)
    {
        using var tar = new MemoryStream();
        await using (var writer = new TarWriter(tar, leaveOpen: true))
            await writer.WriteEntryAsync(new PaxTarEntry(TarEntryType.RegularFile, "base"), cancellationToken);
        using var zipped = new MemoryStream();
        await using (var zip = new GZipStream(zipped, CompressionLevel.Fastest, leaveOpen: true))
            await zip.WriteAsync(tar.ToArray(), cancellationToken);
        var layer = zipped.ToArray();
        var config = JsonSerializer.SerializeToUtf8Bytes(new
        {
            architecture = RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "amd64",
            os = "linux",
            config = new { Env = new[] { $"PATH={path}" } },
            rootfs = new { type = "layers", diff_ids = new[] { Digest(tar.ToArray()) } },
        });
        const string docker = "application/vnd.docker";
        var manifest = JsonSerializer.SerializeToUtf8Bytes(new
        {
            schemaVersion = 2,
            mediaType = $"{docker}.distribution.manifest.v2+json",
            config = new { mediaType = $"{docker}.container.image.v1+json", size = config.Length, digest = Digest(config) },
            layers = new[] { new { mediaType = $"{docker}.image.rootfs.diff.tar.gzip", size = layer.Length, digest = Digest(layer) } },
        });
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0));
        var application = builder.Build();
        application.Run(context =>
        {
            var asked = context.Request.Path.Value!;
            var (type, body) = asked.Contains("/manifests/", StringComparison.Ordinal)
                ? ($"{docker}.distribution.manifest.v2+json", manifest)
                : asked.EndsWith(Digest(config), StringComparison.Ordinal) ? ("application/octet-stream", config)
                : asked.EndsWith(Digest(layer), StringComparison.Ordinal) ? ("application/octet-stream", layer)
                : ("application/json", "{}"u8.ToArray());
            context.Response.ContentType = type;
            context.Response.ContentLength = body.Length;
            if (body == manifest) context.Response.Headers["Docker-Content-Digest"] = Digest(manifest);
            return HttpMethods.IsHead(context.Request.Method) ? Task.CompletedTask : context.Response.Body.WriteAsync(body).AsTask();
        });
        await application.StartAsync(cancellationToken);
        return new FakeRegistry(application);
    }

    public ValueTask DisposeAsync() => _application.DisposeAsync();

    private static string Digest(byte[] bytes) => $"sha256:{Convert.ToHexStringLower(SHA256.HashData(bytes))}";
}
