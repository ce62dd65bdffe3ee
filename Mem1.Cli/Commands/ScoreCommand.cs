// Keeps: nothing is sent anywhere unless --judge names an endpoint; the key comes from an environment variable and is in no output.
using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Environments.Scoring;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data score</c>: final answers against the golden answers of a task file.</summary>
internal static class ScoreCommand
{
    /// <summary>Environment variable with the judge's key.</summary>
    public const string KeyVariable = "MEM1_JUDGE_KEY";

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
    };

    public static Command Create()
    {
        var tasks = new Option<FileInfo>("--tasks") { Description = "Task file", Required = true, HelpName = "FILE.jsonl" };
        var answers = new Option<FileInfo>("--answers")
        {
            Description = "Answers: jsonl with the id of a task and answer, a text or null",
            Required = true,
            HelpName = "FILE.jsonl",
        };
        var legacy = new Option<bool>("--legacy") { Description = "Also score by the three match rules of MEM1's original code" };
        var judge = new Option<string?>("--judge")
        {
            Description = "Also ask a model behind this OpenAI-compatible endpoint, up to its version, whether answers mean the same",
            HelpName = "URL",
        };
        var model = new Option<string?>("--judge-model") { Description = "Name of the model that judges", HelpName = "MODEL" };
        var json = new Option<bool>("--json") { Description = "One JSON object on standard output" };
        var command = new Command(
            "score",
            $$"""
            Score final answers: exact match (mean number right of a task, and share of the objectives) and F1.

            A line of the answers is {"id": "t1", "answer": "first; second"}. Tasks without a line count as unanswered.

            Examples:
              ./mem1 data score --tasks two.jsonl --answers answers.jsonl --legacy
              {{KeyVariable}}=... ./mem1 data score --tasks two.jsonl --answers answers.jsonl --judge http://localhost:8000/v1 \
                --judge-model m

            The key of the endpoint, if it wants one, is read from the environment variable {{KeyVariable}}.
            """)
        {
            tasks, answers, legacy, judge, model, json,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var options = JudgeOptions(parse.GetValue(judge), parse.GetValue(model));
            var report = AnswerReport.Load(parse.GetValue(tasks)!.FullName, parse.GetValue(answers)!.FullName);
            var old = parse.GetValue(legacy) ? report.Legacy() : null;
            var judged = options is null ? null : await Judge(report, options, cancellationToken).ConfigureAwait(false);
            Console.WriteLine(parse.GetValue(json) ? Json(report, old, judged, options?.Model) : Text(report, old, judged, options?.Model));
            return 0;
        });
        return command;
    }

    private static AnswerJudgeOptions? JudgeOptions(string? address, string? model)
    {
        if (address is null)
            return model is null ? null : throw new UserErrorException("--judge-model needs --judge URL, where the model is.");
        if (string.IsNullOrWhiteSpace(model))
            throw new UserErrorException("--judge needs --judge-model MODEL, the name that the endpoint knows.");
        if (!Uri.TryCreate(address, UriKind.Absolute, out var endpoint))
            throw new UserErrorException("--judge is not a full address, such as http://localhost:8000/v1.");
        var key = Environment.GetEnvironmentVariable(KeyVariable)?.Trim();
        if (key is { Length: > 0 } && key.Any(c => c is < '!' or > '~'))
            throw new UserErrorException(
                $"The environment variable {KeyVariable} holds characters that no key has; set it to the key alone.");
        var options = new AnswerJudgeOptions { Endpoint = endpoint, Model = model, Key = string.IsNullOrEmpty(key) ? null : key };
        return options.Validate() is [var problem, ..]
            ? throw new UserErrorException($"{char.ToUpperInvariant(problem[0])}{problem[1..]}.")
            : options;
    }

    private static async Task<JudgedMeans> Judge(AnswerReport report, AnswerJudgeOptions options, CancellationToken cancellationToken)
    {
        // Redirects are refused: they would take the key elsewhere.
        using var http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = !options.Endpoint.IsLoopback })
        {
            Timeout = Timeout.InfiniteTimeSpan,
        };
        var last = "";
        var judge = new AnswerJudge(options, http, problem => Volatile.Write(ref last, problem));
        var judged = await report.JudgeAsync(
            judge, done => Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"judged {done} of {report.Objectives}")),
            cancellationToken).ConfigureAwait(false);
        if (judged.NotJudged > 0)
        {
            await Console.Error.WriteLineAsync(
                $"mem1: {judged.NotJudged} of {report.Objectives} answers got no verdict and are in no mean (the last reason: {last}).")
                .ConfigureAwait(false);
        }

        return judged;
    }

    private static string Text(AnswerReport report, LegacyMeans? legacy, JudgedMeans? judged, string? model)
    {
        var lines = new List<string>
        {
            Line($"{report.All.Tasks} tasks of {report.Objectives} objectives; {report.Unanswered} without an answer, ")
                + Line($"{report.Mismatched} with another number of answers than of objectives"),
            "",
            $"{"",-28}{"mean count",12}{"share",9}",
            Row("exact match", report.All.ExactMatch),
            Row("F1", report.All.F1),
        };
        if (report.ByObjectives.Count > 1)
        {
            foreach (var (objectives, scored) in report.ByObjectives)
            {
                lines.Add(Row(Line($"exact match, {objectives} obj. ({scored.Tasks})"), scored.ExactMatch));
                lines.Add(Row(Line($"F1, {objectives} obj. ({scored.Tasks})"), scored.F1));
            }
        }

        if (legacy is not null)
        {
            lines.Add(Row("original, training", legacy.Training));
            lines.Add(Row("original, evaluation", legacy.Evaluation));
            lines.Add(Row("original, rollout driver", legacy.Rollout));
            lines.Add(Row("original, evaluation F1", legacy.EvaluationF1));
        }

        if (judged is not null)
        {
            lines.Add(Line($"{$"judged by {model}",-28}{"",12}{judged.Match,9:0.0000}")
                + Line($"  ({judged.Judged} judged, {judged.NotJudged} without a verdict)"));
        }

        return string.Join('\n', lines);

        static string Row(string name, RuleMeans means) => Line($"{name,-28}{means.Count,12:0.0000}{means.Share,9:0.0000}");
        static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
    }

    private static string Json(AnswerReport report, LegacyMeans? legacy, JudgedMeans? judged, string? model) => JsonSerializer.Serialize(
        new
        {
            report.All.Tasks,
            report.Objectives,
            report.Unanswered,
            report.Mismatched,
            report.All.ExactMatch,
            report.All.F1,
            report.ByObjectives,
            Legacy = legacy,
            Judge = judged is null
                ? null
                : new
                {
                    Model = model,
                    judged.Judged,
                    judged.NotJudged,
                    Match = double.IsFinite(judged.Match) ? judged.Match : (double?)null,
                },
        },
        s_json);
}
