// Invariants: an episode depends only on the task, the seed and the observations; the expert writes down an answer only when the
// observation in front of it holds one (or when it errs on purpose), so that cloning it teaches reading and not guessing; it always
// answers within the turns the environment allows.

using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Qa;

/// <summary>How often the scripted player of retrieval QA errs, per turn.</summary>
public sealed record RetrievalQaExpertOptions
{
    /// <summary>Answers before every question is settled (once it knows at least one answer).</summary>
    public double AnswersEarly { get; init; } = 0.10;

    /// <summary>Takes down some other words of the observation.</summary>
    public double CopiesWrongWords { get; init; } = 0.10;

    /// <summary>Writes "unknown" though the answer is in front of it.</summary>
    public double WritesUnknown { get; init; } = 0.10;

    /// <summary>Searches with only half of the question's words.</summary>
    public double SearchesTooLittle { get; init; } = 0.10;

    /// <summary>Searches it makes for one question before it gives it up as unknown, as far as turns allow.</summary>
    public int SearchesPerQuestion { get; init; } = 2;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Probability("expert.answers_early", AnswersEarly)
        .Probability("expert.copies_wrong_words", CopiesWrongWords)
        .Probability("expert.writes_unknown", WritesUnknown)
        .Probability("expert.searches_too_little", SearchesTooLittle)
        .Require(
            CopiesWrongWords + WritesUnknown <= 1,
            $"expert.copies_wrong_words and expert.writes_unknown add up to {CopiesWrongWords + WritesUnknown}, more than 1")
        .AtLeast("expert.searches_per_question", SearchesPerQuestion, 1)
        .Problems;
}

/// <summary>
/// Plays retrieval QA question by question: searches with the question's words, takes down a golden answer if the observation holds one,
/// keeps a list "question: answer" as its memory and answers at the end. Thread-safe.
/// </summary>
public sealed class RetrievalQaExpert : IExpert
{
    private readonly RetrievalQaOptions _environment;
    private readonly RetrievalQaExpertOptions _options;
    private readonly Func<string, string?>? _pageToOpen;

    /// <summary>Makes the expert.</summary>
    /// <param name="environment">Options of the environment it will play, for the number of turns.</param>
    /// <param name="options">How it errs.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public RetrievalQaExpert(RetrievalQaOptions environment, RetrievalQaExpertOptions options)
        : this(environment, options, pageToOpen: null)
    {
    }

    /// <summary>Makes the expert of an environment whose pages can be opened.</summary>
    /// <param name="environment">Options of the environment it will play, for the number of turns.</param>
    /// <param name="options">How it errs.</param>
    /// <param name="pageToOpen">
    /// The page to open after an observation that does not hold the answer, or null for none; null if there is nothing to open at all.
    /// </param>
    internal RetrievalQaExpert(RetrievalQaOptions environment, RetrievalQaExpertOptions options, Func<string, string?>? pageToOpen)
    {
        Checks.Demand([.. environment.Validate(), .. options.Validate()], nameof(options));
        _environment = environment;
        _options = options;
        _pageToOpen = pageToOpen;
    }

    /// <inheritdoc/>
    public IExpertEpisode Begin(EnvironmentTask task, ulong seed) =>
        new Episode(task.Objectives, _environment.MaxTurns(task.Objectives.Count), _options, _pageToOpen,
            new SeededRandom(0x7161, seed));

    private sealed class Episode(
        IReadOnlyList<Objective> objectives, int maxTurns, RetrievalQaExpertOptions options, Func<string, string?>? pageToOpen,
        SeededRandom random) : IExpertEpisode
    {
        private const string Unknown = "unknown";

        // Longest run of words it copies by mistake; golden answers are rarely longer.
        private const int MostWrongWords = 3;

        private static readonly HashSet<string> s_questionWords =
            ["who", "whom", "whose", "what", "which", "when", "where", "why", "how", "did", "does", "do", "has", "have", "had", "were"];

        private readonly List<string> _answers = [];
        private int _turn;
        private int _searches;
        private string? _page;

        public string Respond(string? observation)
        {
            if (observation is not null && _answers.Count < objectives.Count)
                Read(observation);

            bool solved = _answers.Count == objectives.Count;
            bool lastTurn = _turn == maxTurns - 1;
            bool early = _answers.Count > 0 && random.Chance(options.AnswersEarly);
            _turn++;
            // Words stand behind a blank as they do in the observation: without it a byte-level tokenizer cuts them otherwise, and what is to
            // be copied could not be copied token by token.
            if (solved || lastTurn || early)
                return $"{Memory()}{AgentText.AnswerStart} {FinalAnswer()}{AgentText.AnswerEnd}";
            return _page is not null
                ? $"{Memory()}{AgentText.OpenStart} {_page}{AgentText.OpenEnd}"
                : $"{Memory()}{AgentText.SearchStart} {Query()}{AgentText.SearchEnd}";
        }

        private void Read(string observation)
        {
            Objective objective = objectives[_answers.Count];
            bool opened = _page is not null;
            _page = null;
            // Without the tags: normalising would glue them to the words beside them.
            string text = observation.Replace(AgentText.InformationStart, " ", StringComparison.Ordinal)
                .Replace(AgentText.InformationEnd, " ", StringComparison.Ordinal);
            string[] words = text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            double error = random.NextDouble();
            string found = $" {AnswerNormalizer.Normalize(text)} ";
            string? golden = objective.GoldenAnswers.FirstOrDefault(
                g => AnswerNormalizer.Normalize(g) is { Length: > 0 } n && found.Contains($" {n} ", StringComparison.Ordinal));
            // One turn must remain for the answer and one for each question not yet tried.
            int spare = maxTurns - 1 - _turn - (objectives.Count - _answers.Count - 1);
            if (golden is null && !opened && spare > 0 && pageToOpen?.Invoke(observation) is { } page)
            {
                _page = page;
                return;
            }
            if (error < options.CopiesWrongWords && words.Length > 0)
            {
                int start = random.Next(words.Length);
                _answers.Add(Plain(string.Join(' ', words.Skip(start).Take(1 + random.Next(MostWrongWords)))));
            }
            else if (error < options.CopiesWrongWords + options.WritesUnknown)
            {
                _answers.Add(Unknown);
            }
            else if (golden is not null)
            {
                _answers.Add(Plain(golden));
            }
            else
            {
                if (_searches < options.SearchesPerQuestion && spare > 0)
                    return;
                _answers.Add(Unknown);
            }
            _searches = 0;
        }

        private string Memory()
        {
            var text = new StringBuilder(AgentText.ThinkStart);
            for (int k = 0; k < _answers.Count; k++)
                text.Append($"{Plain(objectives[k].Question)}: {_answers[k]}\n");
            text.Append(_answers.Count < objectives.Count
                ? $"Next: {Plain(objectives[_answers.Count].Question)}"
                : "Everything is settled.");
            return text.Append(AgentText.ThinkEnd).ToString();
        }

        private string FinalAnswer() =>
            string.Join("; ", Enumerable.Range(0, objectives.Count).Select(k => k < _answers.Count ? _answers[k] : Unknown));

        /// <summary>The telling words of the open question; on a further attempt those that look like names.</summary>
        private string Query()
        {
            string question = Plain(objectives[_answers.Count].Question);
            string[] all = [.. question.Split(' ').Select(w => w.Trim('?', ',', '.', '"', '(', ')', ':')).Where(w => w.Length > 0)];
            string[] telling = [.. all.Where(IsTelling)];
            string[] words = telling.Length > 0 ? telling : all;
            if (_searches++ > 0 && words.Where(w => char.IsUpper(w[0]) || char.IsDigit(w[0])).ToArray() is { Length: > 0 } names)
                words = names;
            if (random.Chance(options.SearchesTooLittle))
            {
                random.Shuffle<string>(words);
                words = words[..((words.Length + 1) / 2)];
            }
            return words.Length > 0 ? string.Join(' ', words) : question;
        }

        private static bool IsTelling(string word) =>
            word.ToLowerInvariant() is var lower && !FtsQuery.IsStopWord(lower) && !s_questionWords.Contains(lower);

        /// <summary>Text that can stand in a memory or an answer: one line, no tags, no separator.</summary>
        private static string Plain(string text) => AgentText.Neutralize(
            string.Join(' ', text.Replace(AnswerScorer.Separator, ',').Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)));
    }
}
