using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class SftTests
{
    private const string Data = """
        {"exact_match":[1],"reward":1,"prompt":"<task> Chad food ; <end>","turns":[{"internal_state":"<think> next Chad food </think>","action":"<search> Chad food </search>","information":"<information> <doc> Chad food foo_1 . </information>"},{"internal_state":"<think> Chad food foo_1 </think>","action":"<answer> Chad food foo_1 </answer>","information":""}]}
        {"exact_match":[0],"reward":0,"prompt":"<task> Fiji food ; <end>","turns":[{"internal_state":"<think> next </think>","action":"<answer> unknown </answer>","information":""}]}
        {"exact_match":[1],"reward":1,"prompt":"<task> Cuba leader ; <end>","turns":[{"internal_state":"<think> Cuba leader lea_2 </think>","action":"<answer> Cuba leader lea_2 </answer>","information":""}]}
        """;

    [Fact]
    public void EpisodesAreDistilledLearntMergedAndResumed()
    {
        using var folder = new TempFolder();
        string all = folder["all.jsonl"], good = folder["good.jsonl"], runs = folder["runs"];
        File.WriteAllText(all, Data);
        var distilled = Cli.Run("data", "distil", "--trajectories", all, "--all-correct", "--out", good).Succeeded();
        Assert.Contains("2 of 3 episodes", distilled.Out, StringComparison.Ordinal);
        string[] sft =
            ["sft", "--data", good, "--runs", runs, "--name", "s", "--epochs", "3", "--batch-turns", "2", "--learning-rate", "1e-3", "--lora-rank", "2", "--json"];
        var trained = Cli.Run(sft).Succeeded();
        var metrics = trained.OutLines.Select(l => JsonDocument.Parse(l).RootElement).ToArray();
        Assert.Equal(6, metrics.Length);
        Assert.True(metrics[^1].GetProperty("loss").GetDouble() < metrics[0].GetProperty("loss").GetDouble());
        var run = Path.Combine(runs, "s");
        Assert.Equal(trained.OutLines, File.ReadAllLines(Path.Combine(run, "metrics.jsonl")));
        Assert.True(File.Exists(Path.Combine(run, "adapter", "adapter_config.json")));

        // The finished model is the base with the adapter in it.
        var merged = folder["merged"];
        Cli.Run("model", "merge", "--base", "built-in", "--adapter", Path.Combine(run, "adapter"), "--out", merged).Succeeded();
        using var info = JsonDocument.Parse(Cli.Run("model", "info", merged, "--json").Succeeded().Out);
        using var own = JsonDocument.Parse(Cli.Run("model", "info", Path.Combine(run, "model"), "--json").Succeeded().Out);
        Assert.Equal(info.RootElement.GetProperty("parameters").GetInt64(), own.RootElement.GetProperty("parameters").GetInt64());
        Cli.Run("model", "convert", merged, "--dtype", "bfloat16", "--shard-size", "100KB", "--out", folder["shards"]).Succeeded();
        Assert.True(File.Exists(Path.Combine(folder["shards"], "model.safetensors.index.json")));

        // Cut back to its beginning, the run makes the same model again.
        var made = File.ReadAllBytes(Path.Combine(run, "model", "model.safetensors"));
        foreach (var step in Directory.GetDirectories(Path.Combine(run, "checkpoints"), "step-6")) Directory.Delete(step, recursive: true);
        Directory.Delete(Path.Combine(run, "model"), recursive: true);
        Cli.Run("sft", "--resume", "s", "--runs", runs).Succeeded();
        Assert.Equal(made, File.ReadAllBytes(Path.Combine(run, "model", "model.safetensors")));
        Assert.Equal(6, File.ReadAllLines(Path.Combine(run, "metrics.jsonl")).Length);
    }

    [Fact]
    public void WhatCannotBeDoneIsOneSentence()
    {
        using var folder = new TempFolder();
        var file = folder["all.jsonl"];
        File.WriteAllText(file, Data);
        foreach (var (arguments, said) in new (string[], string)[]
        {
            (["sft", "--runs", folder.FullPath], "no data"), (["sft", "--data", file, "--epochs", "0", "--runs", folder.FullPath], "sft.epochs"),
            (["sft", "--data", folder["none.jsonl"], "--runs", folder.FullPath], "none.jsonl"),
            (["sft", "--data", file, "--model", folder["none"], "--runs", folder.FullPath], "not a folder"),
            (["sft", "--data", file, "--max-tokens", "5", "--runs", folder.FullPath], "longer than 5"),
            (["sft", "--data", file, "--chat", "on", "--runs", folder.FullPath], "whole words"),
            (["sft", "--resume", "x", "--epochs", "2", "--runs", folder.FullPath], "--epochs"),
            (["data", "distil", "--trajectories", file, "--out", folder["o"]], "--min-reward"),
            (["model", "info", folder.FullPath], "config.json"), (["model", "convert", "built-in", "--shard-size", "1", "--out", folder["o"]], "--shard-size"),
            (["model", "merge", "--base", "built-in", "--adapter", folder.FullPath, "--out", folder["o"]], "adapter_config.json"),
            (["train", "--set", "model.lora.rank=2", "--set", "model.lora.dropout=0.1", "--runs", folder.FullPath], "model.lora.dropout"),
        })
        {
            var outcome = Cli.Run(arguments);
            Assert.True(outcome.ExitCode == 2, $"{string.Join(' ', arguments)}: {outcome.ExitCode}\n{outcome.Error}");
            Assert.Contains(said, outcome.Error, StringComparison.Ordinal);
        }

        Assert.Equal(["all.jsonl"], Directory.GetFileSystemEntries(folder.FullPath).Select(Path.GetFileName));
    }
}
