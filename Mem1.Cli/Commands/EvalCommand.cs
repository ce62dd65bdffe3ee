using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Mem1.Cli.Evaluation;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 eval</c>: agents with different memories on the same tasks, with the same model.</summary>
internal static class EvalCommand
{
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(5);

    public static Command Create()
    {
        var standard = new EvaluationOptions { Out = "evaluation" };
        var model = new Option<string>("--model")
        {
            Description = "built-in, a checkpoint's folder, or a run's folder or name (its newest checkpoint and its environment)",
            HelpName = "MODEL",
            DefaultValueFactory = _ => standard.Model,
        };
        var endpoint = new Option<string?>("--endpoint")
        {
            Description = "Ask a server with OpenAI's API instead; --model then gives tokenizer and shape",
            HelpName = "URL",
        };
        var endpointModel = new Option<string?>("--endpoint-model") { Description = "Name of the model there", HelpName = "NAME" };
        var api = new Option<EndpointApi>("--endpoint-api")
        {
            Description = "tokens (completions of token ids: vLLM, mem1 serve), completions (of text) or chat",
            HelpName = "API",
        };
        var key = new Option<string?>("--api-key-env") { Description = "Environment variable with the endpoint's key", HelpName = "NAME" };
        var concurrency = Whole("--concurrency", "N", "Requests to the endpoint at once", 8, 1, 1024);
        var rate = new Option<double>("--rate") { Description = "Requests to the endpoint a second; 0 is no limit", HelpName = "N" };
        var deadline = Whole("--deadline", "SECONDS", "How long one request may take", 120, 1, 86_400);
        var retries = Whole("--retries", "N", "Further attempts of a request that failed", 4, 0, 100);
        var tasks = new Option<FileInfo?>("--tasks") { Description = "Questions or composed tasks", HelpName = "FILE.jsonl" };
        var corpus = new Option<FileInfo?>("--corpus") { Description = "Passages to search", HelpName = "FILE.jsonl" };
        var env = new Option<FileInfo?>("--env") { Description = "An environment of your own", HelpName = "ASSEMBLY.dll" };
        var set = new Option<string[]>("--set")
        {
            Description = "One setting of the environment or the limits, as key=value; may repeat",
            HelpName = "KEY=VALUE",
        };
        var objectives = new Option<string>("--objectives")
        {
            Description = "Numbers of objectives",
            HelpName = "N,N,...",
            DefaultValueFactory = _ => "1,2,4,8,16",
        };
        var agents = new Option<string>("--agents")
        {
            Description = "mem1, full, truncate:TOKENS, window:TURNS, summary:TURNS, retrieve:TURNS",
            HelpName = "AGENT,...",
            DefaultValueFactory = _ => "mem1,full",
        };
        var episodes = Whole("--episodes", "N", "Episodes of each agent and number of objectives", standard.Episodes, 1, 1_000_000);
        var seed = new Option<ulong>("--seed") { Description = "Of tasks and draws", HelpName = "S", DefaultValueFactory = _ => standard.Seed };
        var temperature = new Option<double>("--temperature") { Description = "0 is greedy, and repeatable", HelpName = "T" };
        var context = new Option<int?>("--context") { Description = "Longest context in tokens; the model's own if not given", HelpName = "TOKENS" };
        var patience = Whole("--environment-deadline", "SECONDS", "How long one call of the environment may take", 30, 1, 86_400);
        var again = Whole("--environment-retries", "N", "Further attempts of such a call that failed; then its episode counts as wrong", 3, 0, 100);
        var retryFailed = new Option<bool>("--retry-failed") { Description = "With --resume: play episodes again that the environment ended" };
        var output = new Option<DirectoryInfo>("--out") { Description = "Folder of the results", HelpName = "DIR", Required = true };
        var resume = new Option<bool>("--resume") { Description = "Go on with the results there: finished episodes are not played again" };
        var legacy = new Option<bool>("--legacy") { Description = "Add the figures by the original implementation's definitions" };
        var threads = Whole("--threads", "N", "Threads that decode; 0 takes one per processor", 0, 0, 1024);
        var batch = Whole("--batch", "N", "Episodes played at once", standard.Batch, 1, 4096);
        var json = new Option<bool>("--json") { Description = "The report as one JSON object instead of the table" };
        var command = new Command(
            "eval",
            """
            Evaluate a model as agents with different memories: same tasks, same limits, same parsing; what differs is what they see.

            Examples:
              ./mem1 eval --out evaluations/first
              ./mem1 eval --model runs/default --agents mem1,full,window:2,retrieve:3 --objectives 1,2,4,8,16 --episodes 64 --out e
              ./mem1 eval --model runs/docs --corpus C.jsonl --tasks T.jsonl --objectives 2 --legacy --out e
              ./mem1 eval --model FOLDER --endpoint http://localhost:8001/v1 --endpoint-model NAME --corpus C.jsonl --tasks T.jsonl --out e
              ./mem1 eval --out evaluations/first --resume

            DIR holds results.jsonl (a line per episode, with every turn), report.md, report.json and two plots (docs/evaluation.md).
            """)
        {
            model, endpoint, endpointModel, api, key, concurrency, rate, deadline, retries, tasks, corpus, env, set, objectives, agents, episodes,
            seed, temperature, context, patience, again, output, resume, retryFailed, legacy, threads, batch, json,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var server = Endpoint(parse.GetValue(endpoint), parse.GetValue(endpointModel));
            var options = new EvaluationOptions
            {
                Model = parse.GetValue(model)!,
                Endpoint = server is null ? null : server with
                {
                    Api = parse.GetValue(api),
                    Key = Key(parse.GetValue(key)),
                    Concurrency = parse.GetValue(concurrency),
                    Rate = Above(parse.GetValue(rate), "--rate"),
                    Deadline = TimeSpan.FromSeconds(parse.GetValue(deadline)),
                    Retries = parse.GetValue(retries),
                },
                Corpus = parse.GetValue(corpus)?.FullName,
                Tasks = parse.GetValue(tasks)?.FullName,
                Assembly = parse.GetValue(env)?.FullName,
                Settings = parse.GetValue(set) ?? [],
                Objectives = Numbers(parse.GetValue(objectives)!),
                Agents = ContextPolicies.Parse(parse.GetValue(agents)!),
                Episodes = parse.GetValue(episodes),
                Seed = parse.GetValue(seed),
                Temperature = Temperature(parse.GetValue(temperature)),
                Context = parse.GetValue(context) is not { } c || c >= 2 ? parse.GetValue(context)
                    : throw new UserErrorException($"--context is {c}; it must be at least 2."),
                Out = parse.GetValue(output)!.FullName,
                Resume = parse.GetValue(resume),
                RetryFailed = parse.GetValue(retryFailed),
                Patience = EnvironmentPatience.Standard with
                {
                    Deadline = TimeSpan.FromSeconds(parse.GetValue(patience)),
                    Retries = parse.GetValue(again),
                },
                Legacy = parse.GetValue(legacy),
                Threads = parse.GetValue(threads) is > 0 and var n ? n : Environment.ProcessorCount,
                Batch = parse.GetValue(batch),
            };
            if (options.RetryFailed && !options.Resume)
                throw new UserErrorException("--retry-failed is for results that are there already; it needs --resume.");
            var watch = Stopwatch.StartNew();
            var last = TimeSpan.Zero;
            var gate = new Lock();
            void Progress(int done, int all)
            {
                lock (gate)
                {
                    if (done < all && watch.Elapsed - last < s_between) return;
                    last = watch.Elapsed;
                    Console.Error.WriteLine(string.Create(
                        CultureInfo.InvariantCulture, $"{done} of {all} episodes, {watch.Elapsed.TotalSeconds:0} s"));
                }
            }

            try
            {
                var report = await EvaluationRun.RunAsync(options, Progress, Console.Error.WriteLine, cancellationToken).ConfigureAwait(false);
                if (parse.GetValue(json)) Console.WriteLine(ReportFiles.Json(report, indented: false));
                else
                {
                    ReportFiles.Print(report, Console.Out);
                    Console.WriteLine($"intervals, successful episodes and plots: {Path.Combine(options.Out, "report.md")}");
                }
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                await Console.Error.WriteLineAsync($"stopped; go on with the same command and --resume ({options.Out})").ConfigureAwait(false);
            }

            return 0;
        });
        return command;
    }

    private static EndpointOptions? Endpoint(string? address, string? name)
    {
        if (address is null)
            return name is null ? null : throw new UserErrorException("--endpoint-model needs --endpoint URL, where the model is.");
        if (string.IsNullOrWhiteSpace(name))
            throw new UserErrorException("--endpoint needs --endpoint-model NAME, the name that the endpoint knows.");
        return Uri.TryCreate(address, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https"
            ? new EndpointOptions { Address = uri, Model = name }
            : throw new UserErrorException($"--endpoint is \"{address}\"; it must be a full address, such as http://localhost:8001/v1.");
    }

    private static string? Key(string? variable)
    {
        if (variable is null) return null;
        var key = Environment.GetEnvironmentVariable(variable)?.Trim();
        return key is { Length: > 0 } && key.All(c => c is >= '!' and <= '~') ? key
            : throw new UserErrorException($"--api-key-env names {variable}, which holds no key; set it to the endpoint's key.");
    }

    private static int[] Numbers(string list)
    {
        var numbers = list.Split(',', StringSplitOptions.TrimEntries)
            .Select(t => int.TryParse(t, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n > 0 ? n
                : throw new UserErrorException($"--objectives has \"{t}\"; whole numbers above 0 with commas between are expected."));
        return [.. numbers.Distinct().Order()];
    }

    private static double Above(double value, string name) => value >= 0 && double.IsFinite(value) ? value
        : throw new UserErrorException(string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; it must be 0 or more."));

    private static double Temperature(double value) => value is 0 or (>= 0.001 and <= 10) ? value
        : throw new UserErrorException(string.Create(
            CultureInfo.InvariantCulture, $"--temperature is {value}; it must be 0, for the most likely token, or from 0.001 to 10."));

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
