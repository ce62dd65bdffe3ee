// ./mem1 <arguments>: when it builds, when it does not, and what the program gets.
namespace Launcher.Tests;

public sealed class StartTests : IDisposable
{
    private readonly Sandbox _sandbox = new();

    public void Dispose() => _sandbox.Dispose();

    [Fact]
    public void Arguments_folder_and_status_are_the_programs()
    {
        var outcome = _sandbox.Run("train \"two words\" \"\" * -- --seed 1", ("PROGRAM_STATUS", "7"));

        Assert.Equal(7, outcome.Status);
        Assert.StartsWith("[train][two words][][*][--][--seed][1]\n", outcome.Output);
        Assert.Contains($"cwd={_sandbox.Top}", outcome.Output);
    }

    [Fact]
    public void The_program_takes_the_place_of_the_launcher() // so that Ctrl-C and every other signal reach it
    {
        var outcome = _sandbox.Run("x");

        Assert.Contains($"pid={outcome.Pid} ", outcome.Output);
    }

    [Fact]
    public void It_runs_through_a_link_and_from_any_folder()
    {
        var link = Path.Combine(_sandbox.Top, "elsewhere");
        File.CreateSymbolicLink(link, Path.Combine(_sandbox.Root, "mem1"));

        var outcome = Sandbox.Finish(_sandbox.Start("x", workingDirectory: "/", launcher: link));

        Assert.Equal(0, outcome.Status);
        Assert.Contains("cwd=/ ", outcome.Output);
        Assert.True(File.Exists(Path.Combine(_sandbox.Root, "artifacts", "stamp.cli")));
    }

    [Fact]
    public void Threads_of_blas_are_one_unless_the_user_says_otherwise()
    {
        Assert.Contains("blas=1 omp=1", _sandbox.Run("x").Output);
        Assert.Contains("blas=4 omp=1", _sandbox.Run("x", ("OPENBLAS_NUM_THREADS", "4")).Output);
    }

    [Fact]
    public void A_second_start_builds_nothing_and_says_nothing()
    {
        Assert.Contains("mem1: building", _sandbox.Run("x").Error);
        var second = _sandbox.Run("x");

        Assert.Equal("", second.Error);
        Assert.Equal(1, _sandbox.Builds);
    }

    [Theory]
    [InlineData("Mem1.Cli/Program.cs")]
    [InlineData("Mem1.Cli/assets/start.safetensors")]
    [InlineData("compat/TorchSharp/native/dispatch.cpp")]
    [InlineData("Mem1.Protocol/protos/rollout.proto")]
    [InlineData("Directory.Build.props")]
    [InlineData("global.json")]
    public void A_changed_an_added_and_a_removed_file_are_built(string file)
    {
        _sandbox.Run("x");
        _sandbox.Write(file, "// two, and longer");
        _sandbox.Run("x");
        Assert.Equal(2, _sandbox.Builds);

        _sandbox.Write(file, "// three is longer still");
        _sandbox.Run("x");
        Assert.Equal(3, _sandbox.Builds);

        File.Delete(Path.Combine(_sandbox.Root, file));
        _sandbox.Run("x");
        Assert.Equal(4, _sandbox.Builds);
    }

    [Fact]
    public void A_file_put_back_with_an_older_time_is_built()
    {
        _sandbox.Run("x");
        File.SetLastWriteTimeUtc(Path.Combine(_sandbox.Root, "Mem1.Cli", "Program.cs"), new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        _sandbox.Run("x");

        Assert.Equal(2, _sandbox.Builds);
    }

    [Theory]
    [InlineData("tests/A.Tests/One.cs")]
    [InlineData("README.md")]
    [InlineData("Mem1.Cli/obj/made.cs")]
    [InlineData("runs/first/config.yaml")]
    [InlineData(".git/HEAD")]
    public void What_the_program_is_not_made_of_does_not_build_it(string file)
    {
        _sandbox.Run("x");
        _sandbox.Write(file, "new");
        _sandbox.Run("x");

        Assert.Equal(1, _sandbox.Builds);
    }

    [Fact]
    public void Other_packages_or_another_libtorch_are_built()
    {
        var libtorch = Path.Combine(_sandbox.Top, "libtorch");
        Directory.CreateDirectory(Path.Combine(libtorch, "include"));
        Directory.CreateDirectory(Path.Combine(libtorch, "lib"));
        File.WriteAllText(Path.Combine(libtorch, "lib", "libtorch.so"), "");

        _sandbox.Run("x");
        _sandbox.Run("x", ("Mem1Packages", "nuget"));
        _sandbox.Run("x", ("LIBTORCH", libtorch));
        _sandbox.Run("x", ("LIBTORCH", libtorch));

        Assert.Equal(3, _sandbox.Builds);
    }

    [Fact]
    public void A_failed_build_shows_its_errors_only_and_is_tried_again()
    {
        File.WriteAllText(Path.Combine(_sandbox.Top, "broken"), $"""
              Restored something.
            {_sandbox.Root}/Mem1.Cli/Program.cs(1,2): error CS1002: ; expected [{_sandbox.Root}/Mem1.Cli/Mem1.Cli.csproj]
            {_sandbox.Root}/Mem1.Cli/Program.cs(1,2): error CS1002: ; expected [{_sandbox.Root}/Mem1.Cli/Mem1.Cli.csproj]

            """);
        var outcome = _sandbox.Run("x");

        Assert.Equal(1, outcome.Status);
        Assert.Equal("", outcome.Output);
        var lines = outcome.Error.Split('\n');
        Assert.Equal("Mem1.Cli/Program.cs(1,2): error CS1002: ; expected", lines[1]);
        Assert.StartsWith("mem1: the build failed; all of its output is in ", lines[2]);
        Assert.Equal(4, lines.Length);

        File.Delete(Path.Combine(_sandbox.Top, "broken"));
        Assert.Equal(0, _sandbox.Run("x").Status);
        Assert.Equal(2, _sandbox.Builds);
    }

    [Fact]
    public void A_file_saved_while_it_is_built_is_built_at_the_next_start()
    {
        var first = _sandbox.Start("x", environment: ("BUILD_SECONDS", "1"));
        SpinWait.SpinUntil(() => _sandbox.Builds == 1, TimeSpan.FromSeconds(30));
        _sandbox.Write("Mem1.Cli/Program.cs", "// saved in the meantime");
        Sandbox.Finish(first);
        _sandbox.Run("x");

        Assert.Equal(2, _sandbox.Builds);
    }

    [Fact]
    public void Of_two_starts_at_once_one_builds_and_both_run()
    {
        var first = _sandbox.Start("one", environment: ("BUILD_SECONDS", "1"));
        SpinWait.SpinUntil(() => _sandbox.Builds == 1, TimeSpan.FromSeconds(30));
        var second = Sandbox.Finish(_sandbox.Start("two", environment: ("BUILD_SECONDS", "1")));

        Assert.StartsWith("[one]", Sandbox.Finish(first).Output);
        Assert.StartsWith("[two]", second.Output);
        Assert.Contains("waiting for another mem1", second.Error);
        Assert.Equal(1, _sandbox.Builds);
    }
}
