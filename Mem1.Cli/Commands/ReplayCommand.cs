using System.CommandLine;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 replay</c>: computes a step that diverged again and says where the first number that is not finite appears.</summary>
internal static class ReplayCommand
{
    public static Command Create()
    {
        var file = new Argument<FileInfo>("FILE") { Description = "step.json of a run's diverged/update-N" };
        var command = new Command(
            "replay",
            """
            Compute a step that diverged once more, and say where the numbers were lost.

            From the batch and the weights that the run saved. The first number that is not finite may appear in the weights, in what the step was fed, in a block of the model, in a term of the loss, or in a gradient.

            Examples:
              ./mem1 replay runs/default/diverged/update-12/step.json
            """)
        {
            file,
        };
        command.SetAction(parse =>
        {
            Replay(parse.GetValue(file)!.FullName);
            return 0;
        });
        return command;
    }

    private static void Replay(string path)
    {
        if (!File.Exists(path)) throw new UserErrorException($"there is no file {path}.");
        var step = SavedStep.Read(path);
        var folder = Path.GetDirectoryName(path)!;
        var configPath = Path.GetFullPath(Path.Combine(folder, "..", "..", "config.yaml"));
        var config = ConfigFile.Read(configPath, []).Config;
        var checkpoint = Checkpoint.Load(folder);
        torch.set_num_threads(1); // as in training
        Console.WriteLine(
            $"Update {step.Update}, a step over {step.Members.Count} of {step.Trajectories.Count} episodes, settings of {configPath}");
        foreach (var line in StepReplay.Run(checkpoint, ILayout.Of(config.Ppo.Layout), step, config.Ppo, config.Rollout.Temperature))
            Console.WriteLine(line);
    }
}
