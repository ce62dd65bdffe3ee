// Stand-ins for the parts a rollout worker is given: a tokenizer whose ids are readable, an engine that types what a script says, and an
// environment that counts its steps. The script reads nothing but the context, as a policy does.
using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Mem1.Environments;
using Mem1.Model;

namespace Mem1.Actors.Tests;

/// <summary>One id per ASCII character, and one per piece of <see cref="Pieces"/> (longest match first).</summary>
internal sealed class PieceTokenizer : ITokenizer
{
    // "k><" and ">!" span tag borders on purpose: a cut must fall behind the whole token.
    public static readonly string[] Pieces =
    [
        "<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>", "step ",
        "</thin", "k><", "h>!",
    ];

    private const int First = 128;

    public int VocabularySize => First + Pieces.Length + 1;

    public int? EndOfText => First + Pieces.Length;

    public int[] Encode(string text)
    {
        var tokens = new List<int>();
        for (var at = 0; at < text.Length;)
        {
            var piece = -1;
            for (var i = 0; i < Pieces.Length; i++)
            {
                if (string.CompareOrdinal(text, at, Pieces[i], 0, Pieces[i].Length) == 0 &&
                    (piece < 0 || Pieces[i].Length > Pieces[piece].Length))
                {
                    piece = i;
                }
            }
            tokens.Add(piece < 0 ? text[at] : First + piece);
            at += piece < 0 ? 1 : Pieces[piece].Length;
        }
        return [.. tokens];
    }

    public int[] EncodePrompt(string userPrompt) => Encode($"[{userPrompt}]");

    public string Decode(ReadOnlySpan<int> tokens)
    {
        var text = new StringBuilder();
        foreach (var token in tokens)
        {
            if (token >= First + Pieces.Length)
                text.Append("<|end|>");
            else if (token >= First)
                text.Append(Pieces[token - First]);
            else
                text.Append((char)token);
        }
        return text.ToString();
    }

    public void Save(string folder) => throw new NotSupportedException("Nothing here is ever saved.");
}

/// <summary>Types the script's tokens, one per step, with log-probs that are a function of seed and place.</summary>
internal sealed class ScriptedEngine(long version, Func<string, int[]> script, ScriptedEngine.Hooks hooks) : IGenerationEngine
{
    internal sealed class Hooks
    {
        private int _step;

        /// <summary>Called before every step with its number over all engines; may throw or wait.</summary>
        public Action<int>? BeforeStep { get; set; }

        public int MadeEngines;
        public int DisposedEngines;
        public int Step() => Interlocked.Increment(ref _step);
    }

    private static readonly PieceTokenizer Tokenizer = new();
    private readonly Dictionary<long, Open> _open = [];
    private readonly Hooks _hooks = Made(hooks);

    public long PolicyVersion { get; private set; } = version;

    public int Active => _open.Count;

    public long GeneratedTokens { get; private set; }

    public static float LogProb(ulong seed, int place) => -1f / (1 + ((seed + (ulong)place) % 1000));

    public void Submit(GenerationRequest request)
    {
        if (request.Context.Length == 0)
            throw new ArgumentException("The context is empty.");
        _open.Add(request.Id, new Open(request, script(Tokenizer.Decode(request.Context))));
    }

    public void Cancel(long id) => _open.Remove(id);

    public IReadOnlyList<GenerationResult> Step()
    {
        _hooks.BeforeStep?.Invoke(_hooks.Step());
        var finished = new List<GenerationResult>();
        foreach (var (id, open) in _open)
        {
            var place = open.Tokens.Count;
            open.Tokens.Add(open.Script[place]);
            open.LogProbs.Add(LogProb(open.Request.Seed, place));
            open.Versions.Add(PolicyVersion);
            GeneratedTokens++;
            FinishReason? finish =
                open.Script[place] == Tokenizer.EndOfText ? FinishReason.EndOfText :
                place + 1 == open.Script.Length ? FinishReason.Stop :
                place + 1 == open.Request.Sampling.MaxNewTokens ? FinishReason.Length : null;
            if (finish is { } reason)
                finished.Add(new GenerationResult(id, [.. open.Tokens], [.. open.LogProbs], [.. open.Versions], reason));
        }
        foreach (var result in finished)
            _open.Remove(result.Id);
        return finished;
    }

    public void SwapWeights(ModelWeights weights, long policyVersion) => PolicyVersion = policyVersion;

    public void Dispose() => Interlocked.Increment(ref _hooks.DisposedEngines);

    private static Hooks Made(Hooks hooks)
    {
        Interlocked.Increment(ref hooks.MadeEngines);
        return hooks;
    }

    private sealed record Open(GenerationRequest Request, int[] Script)
    {
        public List<int> Tokens { get; } = [];
        public List<float> LogProbs { get; } = [];
        public List<long> Versions { get; } = [];
    }
}

/// <summary>An environment that observes "step k" after k searches; "turns=k" in the question says when the script answers.</summary>
internal sealed partial class CountingEnvironments : IEnvironmentFactory
{
    public int MaxTurns { get; set; } = 16;

    /// <summary>Made longer by this many characters of padding.</summary>
    public int Padding { get; set; }

    /// <summary>Called before every step with the question and its number of calls so far; may throw or wait.</summary>
    public Func<string, int, CancellationToken, Task>? BeforeStep { get; set; }

    /// <summary>Called before every creation; may throw.</summary>
    public Action<EnvironmentTask>? BeforeCreate { get; set; }

    public int Made;
    public int Disposed;

    public ConcurrentQueue<(string Question, string Response, bool Truncated)> Responses { get; } = new();

    public string Name => "counting";

    public IReadOnlyList<string> StopStrings { get; } = ["</search>", "</answer>"];

    public string InternalStateEnd { get; set; } = "</think>";

    public string? DiscardedEnd { get; set; }

    public string ObservationEnd => "</information>";

    public IEnvironment Create(EnvironmentTask task, ulong seed)
    {
        BeforeCreate?.Invoke(task);
        Interlocked.Increment(ref Made);
        return new Episode(this, task.Objectives[0].Question);
    }

    /// <summary>What the script types on a context.</summary>
    public static string Respond(string context)
    {
        var turns = int.Parse(Turns().Match(context).Groups[1].Value, CultureInfo.InvariantCulture);
        var steps = Steps().Matches(context);
        var step = steps.Count == 0 ? 0 : int.Parse(steps[^1].Groups[1].Value, CultureInfo.InvariantCulture);
        return step + 1 >= turns
            ? $"<think>done {step}</think><answer>a{step}</answer>"
            : $"<think>at {step}</think><search>q{step}</search>";
    }

    [GeneratedRegex(@"turns=(\d+)")]
    private static partial Regex Turns();

    [GeneratedRegex(@"<information>step (\d+)")]
    private static partial Regex Steps();

    private sealed class Episode(CountingEnvironments owner, string question) : IEnvironment
    {
        private int _calls;
        private int _steps;
        private bool _ended;
        private int _inside;

        public string Prompt => question;

        public int MaxTurns => owner.MaxTurns;

        public async ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
        {
            Assert.Equal(1, Interlocked.Increment(ref _inside));
            try
            {
                if (owner.BeforeStep is { } before)
                    await before(question, _calls++, cancellationToken);
                if (_ended)
                    throw new InvalidOperationException("The episode has already ended.");
                owner.Responses.Enqueue((question, response, truncated));
                if (truncated)
                    return Abort(EpisodeEnd.Length);
                if (response.EndsWith("</answer>", StringComparison.Ordinal))
                    return End(EpisodeEnd.Answered, 1, response);
                if (!response.EndsWith("</search>", StringComparison.Ordinal))
                    return Abort(EpisodeEnd.InvalidFormat);
                var observation = $"<information>step {++_steps}{new string('.', owner.Padding)}</information>";
                return new TurnResult(observation, EpisodeEnd.None, null);
            }
            finally
            {
                Interlocked.Decrement(ref _inside);
            }
        }

        public TurnResult Abort(EpisodeEnd reason) => End(reason, 0, "");

        public ValueTask DisposeAsync()
        {
            Assert.Equal(0, Volatile.Read(ref _inside));
            Interlocked.Increment(ref owner.Disposed);
            return ValueTask.CompletedTask;
        }

        private TurnResult End(EpisodeEnd reason, double reward, string answer)
        {
            _ended = true;
            return new TurnResult("", reason, new EpisodeScore(reward, [reward], [reward], answer));
        }
    }
}
