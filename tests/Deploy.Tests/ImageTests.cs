// What the image would run, run without an engine in a root that debootstrap and the Dockerfile's own instructions make
// (deploy/docker/try.sh). Minutes the first time, so a part of the long series only.
using Mem1.Model.Tests;

namespace Mem1.Deploy.Tests;

public sealed class ImageTests
{
    // Debian's packages from a slow mirror, and the program built anew.
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(30);

    [Fact]
    public void Nothing_is_missing_in_the_image_at_run_time()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1", "A part of the long series: ./mem1 test --faults deploy.");
        var (exit, said, error) = Peers.Run("bash", [DeployFolder.Full("deploy/docker/try.sh")], DeployFolder.Root, limit: s_limit)!.Value;
        // What try.sh says when something is missing here rather than in the image.
        Assert.SkipWhen(exit == 2, error.Trim());
        Assert.True(exit == 0, said + error);
        Assert.DoesNotContain("WRONG", said);
        Assert.True(said.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)) >= 12, said);
    }
}
