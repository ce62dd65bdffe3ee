// Keeps: one stream to the learner, opened again with back-off and jitter for as long as this lives; whatever it asks has a deadline; while
// the learner is away the last state is shown and said to be of before, and nothing is made up; commands and their token go on as they
// came.
using System.Text.Json;
using System.Text.Json.Nodes;
using Grpc.Core;
using Mem1.Protocol.V1;
using Client = Mem1.Protocol.V1.ObserverService.ObserverServiceClient;

namespace Mem1.Dashboard;

/// <summary>Answers from a learner in another process.</summary>
/// <param name="client">Of the learner.</param>
/// <param name="name">The learner's address, for sentences.</param>
/// <param name="time">Clock.</param>
/// <param name="jitter">Numbers from 0 to 1; used by one thread.</param>
internal sealed class RemoteBackend(Client client, string name, TimeProvider time, Func<double> jitter) : IDashboardBackend
{
    // A quiet learner says every four seconds that it is there.
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(12);

    private static readonly TimeSpan s_firstWait = TimeSpan.FromMilliseconds(250), s_longestWait = TimeSpan.FromSeconds(5);

    // Of a GET; an answer of the largest run takes a second.
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(10);

    // The learner answers a command that waits for an update after half a minute.
    private static readonly TimeSpan s_commandDeadline = TimeSpan.FromSeconds(60);

    // What a page asks for first; answered from before while the learner is away, and as of an empty run before it was ever there.
    private static readonly Dictionary<string, string> s_empty = new(StringComparer.Ordinal)
    {
        ["/api/metrics"] = """{"updates":[],"series":{}}""",
        ["/api/events"] = "[]",
        ["/api/trajectories"] = "[]",
        ["/api/actors"] = """{"total":0,"actors":[]}""",
        ["/api/episodes"] = """{"total":0,"episodes":[]}""",
        ["/api/quarantined"] = "[]",
    };

    private readonly Lock _lock = new();
    private readonly Dictionary<string, ApiAnswer> _last = new(StringComparer.Ordinal);
    private JsonObject? _state; // as the learner said it last
    private string _instance = "";
    private DateTimeOffset? _awaySince = time.GetUtcNow();
    private string _why = "it has not answered yet";

    /// <inheritdoc/>
    public EventHub Hub { get; } = new();

    /// <inheritdoc/>
    public string? NotReady
    {
        get
        {
            lock (_lock) return _awaySince is null ? null : Sentence();
        }
    }

    /// <inheritdoc/>
    public string Hello()
    {
        lock (_lock) return new JsonObject { ["instance"] = _instance, ["state"] = State() }.ToJsonString(Json.Options);
    }

    /// <summary>Follows the learner until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var failures = 0;
        while (!cancellationToken.IsCancellationRequested)
        {
            using var quiet = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            try
            {
                quiet.CancelAfter(s_silence);
                using var call = client.Follow(new FollowRequest(), cancellationToken: quiet.Token);
                while (await call.ResponseStream.MoveNext(quiet.Token).ConfigureAwait(false))
                {
                    quiet.CancelAfter(s_silence);
                    failures = 0;
                    Take(call.ResponseStream.Current);
                }

                Away("it has ended the stream");
            }
            catch (Exception e) when (e is RpcException or OperationCanceledException or JsonException or InvalidOperationException)
            {
                if (cancellationToken.IsCancellationRequested) return;
                Away(quiet.IsCancellationRequested ? $"it has said nothing for {s_silence.TotalSeconds:0} s" : Reason(e));
            }

            var wait = Math.Min(s_longestWait.TotalSeconds, s_firstWait.TotalSeconds * Math.Pow(2, Math.Min(failures++, 10)));
            await Task.Delay(TimeSpan.FromSeconds(wait * (0.5 + (jitter() / 2))), time, cancellationToken)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <inheritdoc/>
    public async Task<ApiAnswer> GetAsync(ApiRequest request, CancellationToken cancellationToken)
    {
        if (NotReady is null)
        {
            try
            {
                var query = string.Join('&', request.Query.Select(q => $"{Uri.EscapeDataString(q.Key)}={Uri.EscapeDataString(q.Value)}"));
                var reply = await client.GetAsync(
                    new ObserverRequest { Path = request.Path, Query = query }, deadline: Deadline(s_deadline),
                    cancellationToken: cancellationToken);
                var answer = Of(reply);
                if (query.Length == 0 && answer.Status == 200 && (s_empty.ContainsKey(request.Path) || request.Path == "/api/run"))
                {
                    lock (_lock) _last[request.Path] = answer;
                }

                return answer;
            }
            catch (RpcException e) when (!cancellationToken.IsCancellationRequested)
            {
                if (e.StatusCode is StatusCode.InvalidArgument) return ApiAnswer.Missing(e.Status.Detail);
                // The stream will tell whether the learner is away; this answer is from before either way.
            }
        }

        lock (_lock) return FromBefore(request);
    }

    /// <inheritdoc/>
    // Whether it is the right one only the learner knows.
    public ApiAnswer? Refusal(string? token, string from) =>
        token is null ? ApiAnswer.Of(new { Outcome = "denied", Text = CommandDesk.NeedsToken }, 401) : null;

    /// <inheritdoc/>
    public async Task<ApiAnswer> CommandAsync(string body, string? token, string from, CancellationToken cancellationToken)
    {
        var command = new ObserverCommand { Body = body, From = from };
        if (token is not null) command.Token = token;
        try
        {
            return Of(await client.CommandAsync(command, deadline: Deadline(s_commandDeadline), cancellationToken: cancellationToken));
        }
        catch (RpcException e) when (!cancellationToken.IsCancellationRequested)
        {
            return ApiAnswer.Of(
                new
                {
                    Outcome = "failed",
                    Text = $"The learner at {name} did not answer ({Reason(e)}); whether it heard the command, its audit log says.",
                },
                502);
        }
    }

    private DateTime Deadline(TimeSpan after) => (time.GetUtcNow() + after).UtcDateTime;

    private void Take(ObserverEvent e)
    {
        if (e.Name.Length == 0) return;
        if (e.Name is not ("hello" or "state"))
        {
            Hub.Publish(e.Name, e.Data);
            return;
        }

        var data = JsonNode.Parse(e.Data) as JsonObject ?? throw new JsonException("A state must be an object.");
        var was = false;
        string state;
        lock (_lock)
        {
            if (e.Name == "hello")
            {
                _instance = data["instance"]?.GetValue<string>() ?? "";
                data = data["state"]?.DeepClone() as JsonObject ?? throw new JsonException("A greeting must hold the state.");
            }

            _state = data;
            (was, _awaySince, _why) = (_awaySince is not null, null, "");
            state = State().ToJsonString(Json.Options);
        }

        Hub.Publish("state", state);
        if (was) Hub.Publish("restart", "{}"); // whatever happened meanwhile was not told
    }

    private void Away(string why)
    {
        string state;
        lock (_lock)
        {
            _awaySince ??= time.GetUtcNow();
            _why = why;
            state = State().ToJsonString(Json.Options);
        }

        Hub.Publish("state", state);
    }

    /// <summary>The last state, and since when it is no longer true. Under the lock.</summary>
    private JsonObject State()
    {
        var state = _state?.DeepClone() as JsonObject ?? new JsonObject
        {
            ["source"] = "live",
            ["phase"] = "",
            ["share"] = 0,
            ["detail"] = "",
            ["phase_since"] = time.GetUtcNow().ToString("O"),
            ["update"] = 0,
            ["dropped"] = new JsonObject { ["browser"] = 0, ["telemetry"] = 0, ["history"] = 0 },
        };
        if (_awaySince is { } since)
        {
            state["unreachable_since"] = since.ToString("O");
            state["unreachable_why"] = Sentence();
        }

        return state;
    }

    private ApiAnswer FromBefore(ApiRequest request)
    {
        if (request.Path == "/api/state") return ApiAnswer.Text(State().ToJsonString(Json.Options), ApiAnswer.JsonType);
        if (request.Path == "/api/advisories")
        {
            return ApiAnswer.Of(new[]
            {
                new Advisory(
                    EventLevel.Error, "learner_unreachable", "The learner is not reachable; what is shown is from before.", Sentence()),
            });
        }

        if (_last.TryGetValue(request.Path, out var before)) return before;
        if (s_empty.TryGetValue(request.Path, out var empty)) return ApiAnswer.Text(empty, ApiAnswer.JsonType);
        return request.Path == "/api/run"
            ? ApiAnswer.Of(new
            {
                Name = name,
                Source = RunSource.Live,
                Folder = "",
                Config = "",
                Evaluation = (object?)null,
                Instance = _instance,
                Commands = Array.Empty<string>(),
            })
            : ApiAnswer.Of(new { Error = Sentence() }, 503);
    }

    private string Sentence() => _awaySince is { } since
        ? $"The learner at {name} has not been reachable since {since:HH:mm:ss} UTC ({_why})."
        : $"The learner at {name} did not answer in time.";

    private static ApiAnswer Of(ObserverReply reply) => new(reply.Status, reply.ContentType, reply.Body.Memory);

    private static string Reason(Exception e) => e switch
    {
        RpcException { StatusCode: StatusCode.Unimplemented } => "it runs without a dashboard (--no-dashboard), or is of another release",
        RpcException rpc => $"{rpc.StatusCode}: {rpc.Status.Detail.ReplaceLineEndings(" ").TrimEnd('.')}",
        _ => e.Message,
    };
}
