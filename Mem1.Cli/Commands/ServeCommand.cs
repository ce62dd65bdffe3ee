using System.CommandLine;
using System.Globalization;
using System.Net;
using Mem1.Cli.Serve;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 serve</c>: a checkpoint behind OpenAI's API.</summary>
internal static class ServeCommand
{
    // Beside the retriever's 8000.
    private const int StandardPort = 8001;

    public static Command Create()
    {
        var standard = new ServeOptions();
        var checkpoint = new Argument<DirectoryInfo>(
            "CHECKPOINT")
        { Description = "Folder with config.json, model.safetensors and tokenizer.json" };
        var port = Whole("--port", "PORT", "Port to listen on; 0 for any that is free", StandardPort, 0, ushort.MaxValue);
        var host = new Option<string>("--host")
        {
            Description = "IP address to listen on; 0.0.0.0 lets other machines in",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ =>
                "127.0.0.1",
        };
        var name = new Option<string?>(
            "--name")
        { Description = "Name of the model in the API; the folder's if not given", HelpName = "NAME" };
        var threads = Whole("--threads", "N", "Threads that decode; 0 takes one per processor", 0, 0, 1024);
        var batch = Whole("--batch", "N", "Continuations drawn at once", standard.Batch, 1, 4096);
        var queue = Whole("--queue", "N", "Continuations that may wait beside them; more get status 429", standard.Queue, 0, 65536);
        var deadline = Whole(
            "--deadline", "SECONDS", "How long a request may take, waiting included", (int)standard.Deadline.TotalSeconds, 1, 86_400);
        var key = new Option<string?>(
            "--api-key-env")
        { Description = "Environment variable with the key clients must send", HelpName = "NAME" };
        var weights = new Option<DirectoryInfo?>("--weights")
        {
            Description = "Folder that POST /v1/reload may load from, itself or below; without it clients of this machine may name any",
            HelpName = "FOLDER",
        };
        var version = Whole("--policy-version", "N", "Version of the checkpoint's weights", 0, 0, int.MaxValue);
        var command = new Command(
            "serve",
            """
            Serve a checkpoint by OpenAI's API (completions, chat, streams, log-probs, token ids), for any client and for mem1 rollout.

            Examples:
              ./mem1 serve runs/default/checkpoints/step-100
              ./mem1 serve MODEL --port 8001 --api-key-env MEM1_KEY --host 0.0.0.0
              curl -s localhost:8001/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "...", "max_tokens": 32}'
            """)
        {
            checkpoint, port, host, name, threads, batch, queue, deadline, key, weights, version,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            if (!IPAddress.TryParse(parse.GetValue(host), out var address))
                throw new UserErrorException($"--host is \"{parse.GetValue(host)}\"; it must be an IP address.");
            var options = new ServeOptions
            {
                Batch = parse.GetValue(batch),
                Queue = parse.GetValue(queue),
                Deadline = TimeSpan.FromSeconds(parse.GetValue(deadline)),
                Threads = parse.GetValue(threads) is > 0 and var n ? n : Environment.ProcessorCount,
                ApiKey = Key(parse.GetValue(key)),
                Name = parse.GetValue(name),
                Version = parse.GetValue(version),
                Weights = parse.GetValue(weights)?.FullName,
            };
            using var model = new ServedModel(parse.GetValue(checkpoint)!.FullName, options);
            var server = await InferenceServer.Start(model, address, parse.GetValue(port), cancellationToken).ConfigureAwait(false);
            await using (server.ConfigureAwait(false))
            {
                Console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                        $"{model.Name} (version {model.Loop.Version}) at {new Uri(server.Address, "v1")}; Ctrl-C stops"));
                try
                {
                    await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    Console.WriteLine("stopping");
                }
            }

            return 0;
        });
        return command;
    }

    private static string? Key(string? variable)
    {
        if (variable is null) return null;
        return Environment.GetEnvironmentVariable(variable) is { Length: > 0 } key ? key
            : throw new UserErrorException($"--api-key-env names {variable}, which is not set; set it to the key clients must send.");
    }

    private static Option<int> Whole(string name, string shown, string what, int standard, int least, int most)
    {
        var option = new Option<int>(name) { Description = what, HelpName = shown, DefaultValueFactory = _ => standard };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, CultureInfo.InvariantCulture, out var n)
                && (n < least || n > most))
            {
                result.AddError($"{name} is {n}; it must be from {least} to {most}.");
            }
        });
        return option;
    }
}
