namespace Mem1.Cli.Tests;

/// <summary>Web QA trains end to end against its local web, and refuses configs that contradict themselves.</summary>
public sealed class WebRunTests
{
    [Fact]
    public void Web_qa_trains_on_the_local_web_and_again_from_its_recording_alone()
    {
        using var temp = new TempFolder();
        string[] Arguments(string name, string mode) =>
        [
            "train", "--quick", "--serial", "--updates", "1", "--name", name, "--set", "environment.kind=web", "--set",
            "environment.web.open_pages=true", "--set", "environment.web.local_open_share=0.5", "--set", "cloning.steps=6", "--set",
            $"environment.web.recording={temp["web.sqlite"]}", "--set", $"environment.web.recording_mode={mode}", "--runs", temp["runs"],
            "--json",
        ];
        Cli.Run(Arguments("first", "record")).Succeeded();
        Cli.Run(Arguments("second", "replay_only")).Succeeded();
        Assert.Single(Runs.Metrics(temp["runs", "first"]));
        Assert.Single(Runs.Metrics(temp["runs", "second"]));
    }

    [Theory]
    [InlineData("environment.web.provider=serper", "environment.tasks")]
    [InlineData("environment.web.recording_mode=replay", "environment.web.recording")]
    [InlineData("environment.web.local_open_share=0.5", "environment.web.open_pages")]
    [InlineData("environment.web.local_pages=1", "local.pages")]
    [InlineData("environment.web.provder=local", "environment.web.provider")]
    public void A_config_that_contradicts_itself_is_refused(string setting, string word)
    {
        using var temp = new TempFolder();
        Refusals.Refused(["train", "--quick", "--set", "environment.kind=web", "--set", setting, "--runs", temp["runs"]], word);
    }

    [Fact]
    public void A_service_without_its_key_is_refused_by_the_variables_name()
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp["tasks.jsonl"], """{"id":"1","question":"Q?","golden_answers":["A"]}""" + "\n");
        Refusals.Refused(
            [
                "train", "--quick", "--set", "environment.kind=web", "--set", "environment.web.provider=brave", "--set",
                "environment.web.key_variable=MEM1_NO_SUCH_KEY", "--tasks", temp["tasks.jsonl"], "--runs", temp["runs"],
            ],
            "MEM1_NO_SUCH_KEY");
    }
}
