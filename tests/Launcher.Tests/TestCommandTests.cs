// ./mem1 test: the counts add up, and a suite that did not finish is never a suite that passed.
using System.Diagnostics;

namespace Launcher.Tests;

public sealed class TestCommandTests : IDisposable
{
    private readonly Sandbox _sandbox = new();

    public void Dispose() => _sandbox.Dispose();

    [Fact]
    public void Counts_of_all_suites_are_added_up()
    {
        _sandbox.Suite("A.Tests", "counts 5 5 0 0 0 0");
        _sandbox.Suite("B.Tests", "counts 7 7 0 0 0 0");
        var outcome = _sandbox.Run("test");

        Assert.Equal(0, outcome.Status);
        Assert.Equal("12 passed, 0 failed", outcome.LastLine);
        Assert.Equal([$"build {_sandbox.Root}/Mem1.sln", "run A.Tests.dll", "run B.Tests.dll"], _sandbox.Calls);
    }

    [Fact]
    public void Failures_are_shown_in_full_and_fail()
    {
        _sandbox.Suite("A.Tests", "echo '    A.Thing [FAIL]'; echo '      because of this'; counts 5 3 2 0 0 0; exit 1");
        _sandbox.Suite("B.Tests", "echo 'chatter'; counts 1 1 0 0 0 0");
        var outcome = _sandbox.Run("test");

        Assert.Equal(1, outcome.Status);
        Assert.Contains("    A.Thing [FAIL]\n      because of this\n", outcome.Output);
        Assert.DoesNotContain("chatter", outcome.Output);
        Assert.Equal("4 passed, 2 failed", outcome.LastLine);
    }

    [Fact]
    public void Skipped_tests_are_counted_and_give_their_reason()
    {
        _sandbox.Suite("A.Tests", "echo '    A.Peer [SKIP]'; echo '      needs python3-grpcio'; counts 3 2 0 1 0 0");
        var outcome = _sandbox.Run("test");

        Assert.Equal(0, outcome.Status);
        Assert.Contains("    A.Peer [SKIP]\n      needs python3-grpcio\n", outcome.Output);
        Assert.Equal("2 passed, 0 failed, 1 skipped", outcome.LastLine);
    }

    [Theory]
    [InlineData("echo 'free(): invalid pointer'; kill -ABRT $$", "0 passed, 1 failed", "before it wrote its results")]
    [InlineData("counts 0 0 0 0 0 0", "0 passed, 1 failed", "ran no test")]
    [InlineData("counts 4 4 0 0 0 0; exit 134", "4 passed, 1 failed", "ended with status 134 although no test failed")]
    [InlineData("counts 4 4 0 0 0 1; exit 1", "4 passed, 1 failed", "errors")]
    public void A_suite_that_went_wrong_is_a_failure(string body, string summary, string reason)
    {
        _sandbox.Suite("A.Tests", "echo 'errors'; " + body);
        var outcome = _sandbox.Run("test");

        Assert.Equal(1, outcome.Status);
        Assert.Equal(summary, outcome.LastLine);
        Assert.Contains(reason, outcome.Output);
    }

    [Fact]
    public void Results_of_an_earlier_run_are_not_taken_for_this_one()
    {
        _sandbox.Suite("A.Tests", "counts 5 5 0 0 0 0");
        _sandbox.Run("test");
        _sandbox.Suite("A.Tests", "exit 3");

        Assert.Equal("0 passed, 1 failed", _sandbox.Run("test").LastLine);
    }

    [Fact]
    public void A_word_picks_the_suites_and_options_reach_them()
    {
        _sandbox.Suite("Mem1.Model.Tests", "echo \"[$*]\" > \"$TOP/options\"; counts 1 1 0 0 0 0");
        _sandbox.Suite("Mem1.Cli.Tests", "counts 1 1 0 0 0 0");
        var outcome = _sandbox.Run("test model -- -method \"A b\"");

        Assert.Equal("1 passed, 0 failed", outcome.LastLine);
        Assert.Equal([$"build {_sandbox.Root}/tests/Mem1.Model.Tests/Mem1.Model.Tests.csproj", "run Mem1.Model.Tests.dll"], _sandbox.Calls);
        Assert.Equal("[-method A b]\n", File.ReadAllText(Path.Combine(_sandbox.Top, "options")));
    }

    [Fact]
    public void A_word_that_fits_no_suite_is_refused_with_the_names()
    {
        _sandbox.Suite("Mem1.Model.Tests", "counts 1 1 0 0 0 0");
        var outcome = _sandbox.Run("test Modle");

        Assert.Equal(2, outcome.Status);
        Assert.Contains("there are: Mem1.Model.Tests", outcome.Error);
    }

    [Fact]
    public void A_failed_build_runs_no_suite()
    {
        _sandbox.Suite("A.Tests", "counts 1 1 0 0 0 0");
        File.WriteAllText(Path.Combine(_sandbox.Top, "broken"), "x.cs(1,1): error CS0001: broken\n");
        var outcome = _sandbox.Run("test");

        Assert.Equal(1, outcome.Status);
        Assert.DoesNotContain(_sandbox.Calls, c => c.StartsWith("run", StringComparison.Ordinal));
    }

    [Fact]
    public void Changed_tests_are_built_again_and_unchanged_ones_are_not()
    {
        _sandbox.Suite("A.Tests", "counts 1 1 0 0 0 0");
        _sandbox.Run("test");
        _sandbox.Run("test");
        Assert.Equal(1, _sandbox.Builds);

        _sandbox.Write("tests/A.Tests/Thing.cs", "// new");
        _sandbox.Run("test");
        Assert.Equal(2, _sandbox.Builds);
    }

    [Fact]
    public void An_interrupt_ends_the_suite_too()
    {
        _sandbox.Suite("A.Tests", "echo $$ > \"$TOP/pid.new\"; mv \"$TOP/pid.new\" \"$TOP/pid\"; exec sleep 60");
        var launcher = _sandbox.Start("test");
        var file = Path.Combine(_sandbox.Top, "pid");
        Assert.True(SpinWait.SpinUntil(() => File.Exists(file), TimeSpan.FromSeconds(30)));
        var suite = int.Parse(File.ReadAllText(file));
        using (Process.Start("/bin/kill", $"-TERM {launcher.Id}"))
        {
            Assert.Equal(130, Sandbox.Finish(launcher).Status);
        }

        Assert.True(SpinWait.SpinUntil(() => !Directory.Exists($"/proc/{suite}"), TimeSpan.FromSeconds(10)));
    }
}
