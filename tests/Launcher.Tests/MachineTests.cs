// What the launcher does on a machine that lacks something.
namespace Launcher.Tests;

public sealed class MachineTests : IDisposable
{
    private readonly Sandbox _sandbox = new();

    public void Dispose() => _sandbox.Dispose();

    [Fact]
    public void With_everything_there_apt_is_not_asked()
    {
        Assert.Equal(0, _sandbox.Run("x", ("PRETENDED_UID", "0")).Status);
        Assert.DoesNotContain(_sandbox.Calls, c => c.StartsWith("apt-get", StringComparison.Ordinal));
    }

    [Fact]
    public void A_user_gets_the_line_to_type_and_nothing_happens()
    {
        _sandbox.Installed("make");
        var outcome = _sandbox.Run("x");

        Assert.Equal(2, outcome.Status);
        Assert.Contains("    sudo apt-get install -y --no-install-recommends cmake g++ libtorch-dev libopenblas0-pthread\n", outcome.Error);
        Assert.Empty(_sandbox.Calls);
    }

    [Fact]
    public void Root_gets_what_is_missing_installed_and_goes_on()
    {
        _sandbox.Installed("cmake", "make", "libopenblas0-pthread");
        var outcome = _sandbox.Run("x", ("PRETENDED_UID", "0"));

        Assert.Equal(0, outcome.Status);
        Assert.Collection(
            _sandbox.Calls,
            c => Assert.Equal("apt-get -q update", c),
            c => Assert.Equal("apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 install g++ libtorch-dev", c),
            c => Assert.StartsWith("build ", c),
            c => Assert.Equal("run mem1.dll", c));
        Assert.StartsWith("mem1: installing g++ libtorch-dev with apt-get", outcome.Error);
    }

    [Fact]
    public void A_failed_installation_shows_why_and_builds_nothing()
    {
        _sandbox.Installed("cmake", "make", "g++", "libopenblas0-pthread");
        File.WriteAllText(Path.Combine(_sandbox.Top, "apt-fails"), "E: Unable to locate package libtorch-dev\n");
        var outcome = _sandbox.Run("x", ("PRETENDED_UID", "0"));

        Assert.Equal(2, outcome.Status);
        Assert.Contains("E: Unable to locate package libtorch-dev\n", outcome.Error);
        Assert.Contains("LIBTORCH=DIR", outcome.Error);
        Assert.Equal(0, _sandbox.Builds);
    }

    [Theory]
    [InlineData("libopenblas0-openmp", true)]
    [InlineData("libmkl-rt", true)]
    [InlineData("libblis4-pthread", true)]
    [InlineData("libblas3", false)] // the reference implementation, which libtorch pulls in
    public void Any_optimised_blas_will_do(string package, bool enough)
    {
        _sandbox.Installed("cmake", "make", "g++", "libtorch-dev", package);

        Assert.Equal(enough ? 0 : 2, _sandbox.Run("x").Status);
    }

    [Fact]
    public void A_package_that_was_removed_does_not_count()
    {
        _sandbox.Installed("cmake", "make", "g++", "libopenblas0-pthread");
        File.AppendAllText(Path.Combine(_sandbox.Top, "installed"), "libtorch-dev=config-files\n");

        Assert.Equal(2, _sandbox.Run("x").Status);
    }

    [Fact]
    public void A_compiler_from_elsewhere_counts()
    {
        _sandbox.Installed("libtorch-dev", "libopenblas0-pthread");
        foreach (var tool in (string[])["cmake", "make", "g++"])
            File.CreateSymbolicLink(Path.Combine(_sandbox.Bin, tool), "/bin/true");

        Assert.Equal(0, _sandbox.Run("x").Status);
    }

    [Fact]
    public void The_real_packages_need_nothing_of_the_machine()
    {
        _sandbox.Installed();

        Assert.Equal(0, _sandbox.Run("x", ("Mem1Packages", "nuget")).Status);
    }

    [Theory]
    [InlineData("compat")]
    [InlineData("nuget")]
    public void Without_certificates_no_feed_would_be_trusted(string packages)
    {
        File.Delete(Path.Combine(_sandbox.Top, "certificates"));
        var outcome = _sandbox.Run("x", ("Mem1Packages", packages));

        Assert.Equal(2, outcome.Status);
        Assert.Contains("--no-install-recommends ca-certificates\n", outcome.Error);
        Assert.Equal(0, _sandbox.Run("x", ("Mem1Packages", packages), ("SSL_CERT_FILE", "/elsewhere")).Status);
    }

    [Fact]
    public void A_libtorch_of_ones_own_takes_the_place_of_the_package()
    {
        var libtorch = Path.Combine(_sandbox.Top, "libtorch");
        Directory.CreateDirectory(Path.Combine(libtorch, "include"));
        Directory.CreateDirectory(Path.Combine(libtorch, "lib"));
        File.WriteAllText(Path.Combine(libtorch, "lib", "libtorch.so"), "");
        _sandbox.Installed("cmake", "make", "g++");

        Assert.Equal(0, _sandbox.Run("x", ("LIBTORCH", libtorch)).Status);
    }

    [Theory]
    [InlineData("LIBTORCH", "/nowhere", "LIBTORCH is \"/nowhere\"")]
    [InlineData("Mem1Packages", "npm", "Mem1Packages is \"npm\"; it must be compat or nuget")]
    public void A_wrong_setting_is_named(string name, string value, string message)
    {
        var outcome = _sandbox.Run("x", (name, value));

        Assert.Equal(2, outcome.Status);
        Assert.Contains(message, outcome.Error);
        Assert.Empty(_sandbox.Calls);
    }

    [Fact]
    public void Without_the_sdk_it_says_how_to_get_it_and_installs_nothing()
    {
        Directory.Move(Path.Combine(_sandbox.Top, "sdk"), Path.Combine(_sandbox.Top, "not-sdk"));
        _sandbox.Installed();
        var outcome = _sandbox.Run("x", ("PRETENDED_UID", "0"));

        Assert.Equal(2, outcome.Status);
        Assert.Contains("https://dot.net/v1/dotnet-install.sh | bash -s -- --channel 10.0\n", outcome.Error);
        Assert.DoesNotContain(_sandbox.Calls, c => c.StartsWith("apt-get", StringComparison.Ordinal));
        Assert.Equal(0, _sandbox.Builds);
    }

    [Fact]
    public void An_sdk_in_the_home_folder_is_found()
    {
        var own = Path.Combine(_sandbox.Top, ".dotnet");
        Directory.CreateDirectory(own);
        Directory.Move(Path.Combine(_sandbox.Top, "sdk"), Path.Combine(own, "sdk"));
        File.Move(Path.Combine(_sandbox.Top, "dotnet"), Path.Combine(own, "dotnet"));

        Assert.Equal(0, _sandbox.Run("x").Status);
    }
}
