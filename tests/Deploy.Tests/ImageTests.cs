// The image itself, without an engine: what it would run, run in a root that debootstrap and the Dockerfile's own instructions make
// (deploy/docker/try.sh), and the one that dotnet publish makes, on a base image from a registry of the test's own. Minutes, so a part of
// the long series only.
using System.Formats.Tar;
using System.IO.Compression;
using System.Text.Json;
using Mem1.Model.Tests;

namespace Mem1.Deploy.Tests;

public sealed class ImageTests
{
    // Debian's packages from a slow mirror, and the program built anew.
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(30);

    [Fact]
    public void Nothing_is_missing_in_the_image_at_run_time()
    {
        RequireLongSeries();
        var (exit, said, error) = Peers.Run("bash", [DeployFolder.Full("deploy/docker/try.sh")], DeployFolder.Root, limit: s_limit)!.Value;
        // What try.sh says when something is missing here rather than in the image.
        Assert.SkipWhen(exit == 2, error.Trim());
        Assert.True(exit == 0, said + error);
        Assert.DoesNotContain("WRONG", said);
        Assert.True(said.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)) >= 12, said);
    }

    [Fact]
    public async Task The_image_that_publish_makes_is_as_its_settings_say()
    {
        RequireLongSeries();
        var token = TestContext.Current.CancellationToken;
        await using var registry = await FakeRegistry.StartAsync("/usr/share/dotnet", token);
        var temp = Directory.CreateTempSubdirectory("mem1-image-");
        try
        {
            var archive = Path.Combine(temp.FullName, "mem1.tar.gz");
            var (exit, said, error) = Peers.Run(
                PublishTests.DotnetHost,
                [
                    "publish", DeployFolder.Full("Mem1.Cli/Mem1.Cli.csproj"), "-c", "Release", "-t:PublishContainer", "-nologo",
                    "-nodeReuse:false", "-p:UseSharedCompilation=false", $"-p:ContainerBaseImage={registry.Image}",
                    $"-p:ContainerArchiveOutputPath={archive}",
                ],
                DeployFolder.Root, limit: s_limit)!.Value;
            Assert.True(exit == 0, said + error);

            // An uncompressed archive, whatever its name says.
            var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
            await using var stream = File.OpenRead(archive);
            await using var tar = new TarReader(stream);
            while (await tar.GetNextEntryAsync(copyData: true, token) is { } entry)
            {
                if (entry.DataStream is null) continue;
                using var copy = new MemoryStream();
                await entry.DataStream.CopyToAsync(copy, token);
                files[entry.Name] = copy.ToArray();
            }

            var manifest = JsonDocument.Parse(files["manifest.json"]).RootElement[0];
            var config = JsonDocument.Parse(files[manifest.GetProperty("Config").GetString()!]).RootElement.GetProperty("config");
            Assert.Equal(2, manifest.GetProperty("Layers").GetArrayLength());
            Assert.Equal("10001:10001", config.GetProperty("User").GetString());
            Assert.Equal(["dotnet", "/app/mem1.dll"], Strings(config.GetProperty("Entrypoint")));
            Assert.Equal(["--help"], Strings(config.GetProperty("Cmd")));
            Assert.Equal(
                ["5050/tcp", "5080/tcp", "8000/tcp", "8081/tcp"],
                config.GetProperty("ExposedPorts").EnumerateObject().Select(p => p.Name).Order(StringComparer.Ordinal));
            Assert.Superset(
                new HashSet<string?> { "PATH=/usr/share/dotnet", "HOME=/tmp", "OMP_NUM_THREADS=1", "DOTNET_EnableDiagnostics=0" },
                Strings(config.GetProperty("Env")).ToHashSet());
            Assert.Equal("MIT", config.GetProperty("Labels").GetProperty("org.opencontainers.image.licenses").GetString());
            await using var layer = new GZipStream(
                new MemoryStream(files[manifest.GetProperty("Layers")[1].GetString()!]), CompressionMode.Decompress);
            await using var program = new TarReader(layer);
            var names = new HashSet<string>(StringComparer.Ordinal);
            while (await program.GetNextEntryAsync(cancellationToken: token) is { } entry) names.Add(entry.Name.TrimStart('/'));
            Assert.Superset(
                new HashSet<string> { "app/mem1.dll", "app/libmem1_torch.so", "app/assets/worlds-cloned/model.safetensors" }, names);
        }
        finally
        {
            temp.Delete(recursive: true);
        }

        static IEnumerable<string?> Strings(JsonElement list) => list.EnumerateArray().Select(i => i.GetString());
    }

    private static void RequireLongSeries() => Assert.SkipUnless(
        Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1", "A part of the long series: ./mem1 test --faults deploy.");
}
