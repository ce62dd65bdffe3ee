// Keeps: an example has the very layout of a sampled episode: tokens of what was shown are context, tokens of what the model wrote are
// generated, each text encoded once and nothing cut; what does not fit is left out whole and counted.
using System.Text.Json;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Model.Tokenizers;

namespace Mem1.Learner;

/// <summary>What was read of the data.</summary>
/// <param name="Examples">As trajectories, without log-probs.</param>
/// <param name="TooLong">Lines left out because a turn of theirs exceeds the limit.</param>
public sealed record SftData(IReadOnlyList<Trajectory> Examples, int TooLong);

/// <summary>Reads chats and trajectories for supervised fine-tuning.</summary>
/// <param name="tokenizer">The model's.</param>
/// <param name="maxContextTokens">Longest prompt + context + answer.</param>
/// <param name="discardedEnd">
/// The tag up to which a response is dropped from the next turn's context (<see cref="IEnvironmentFactory.DiscardedEnd"/>); null keeps all.
/// </param>
public sealed class SftExamples(ITokenizer tokenizer, int maxContextTokens, string? discardedEnd = null)
{
    private const string Expected = "\"messages\" (a chat) or \"prompt\" and \"turns\" (an episode) are expected";

    /// <summary>Reads JSON Lines files; a line is a chat {"messages": [...]} or an episode of trajectories.jsonl.</summary>
    /// <param name="files">Paths.</param>
    /// <exception cref="DataFormatException">Names the file, the line and the field at fault.</exception>
    public SftData Read(IEnumerable<string> files)
    {
        var examples = new List<Trajectory>();
        var tooLong = 0;
        foreach (var file in files)
        {
            foreach (var (line, document) in Lines(file))
            {
                using (document)
                {
                    var example = Parse(document.RootElement, file, line);
                    if (example.PeakTokens <= maxContextTokens) examples.Add(example);
                    else tooLong++;
                }
            }
        }

        return new SftData(examples, tooLong);
    }

    /// <summary>The objects of a JSON Lines file with their line numbers; blank lines are skipped.</summary>
    /// <exception cref="DataFormatException">The file cannot be read, or a line is not JSON.</exception>
    public static IEnumerable<(long Line, JsonDocument Document)> Lines(string file)
    {
        long number = 0;
        StreamReader reader;
        try
        {
            reader = new StreamReader(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataFormatException(file, $"the file cannot be read ({e.GetType().Name})", inner: e);
        }

        using (reader)
        {
            while (reader.ReadLine() is { } text)
            {
                number++;
                if (string.IsNullOrWhiteSpace(text)) continue;
                JsonDocument document;
                try
                {
                    document = JsonDocument.Parse(text);
                }
                catch (JsonException e)
                {
                    throw new DataFormatException(file, $"not valid JSON at byte {(e.BytePositionInLine ?? 0) + 1} of the line", number, inner: e);
                }

                yield return (number, document);
            }
        }
    }

    /// <summary>One line as an example.</summary>
    internal Trajectory Parse(JsonElement root, string file, long line)
    {
        try
        {
            return ParseKnown(root, file, line);
        }
        catch (ArgumentException e)
        {
            // A tokenizer of whole words met one that it does not know.
            throw new DataFormatException(file, e.Message.Split(" (Parameter", 2)[0].TrimEnd('.'), line, inner: e);
        }
    }

    private Trajectory ParseKnown(JsonElement root, string file, long line)
    {
        if (root.ValueKind != JsonValueKind.Object) throw new DataFormatException(file, $"a JSON object is expected; {Expected}", line);
        if (root.TryGetProperty("messages", out var messages)) return Chat(messages, file, line);
        if (root.TryGetProperty("turns", out _) || root.TryGetProperty("q", out _)) return Episode(TrajectoryText.Parse(root, file, line), line);
        throw new DataFormatException(file, Expected, line);
    }

    /// <summary>The episode in the tokens a sampler would have served and drawn.</summary>
    internal Trajectory Episode(TrajectoryText text, long line)
    {
        // A sampled episode's prompt has its markup already; that of another program may be the user's words alone.
        var prompt = ByteLevelBpeTokenizer.HoldsChatMarkup(text.Prompt) ? tokenizer.Encode(text.Prompt) : tokenizer.EncodePrompt(text.Prompt);
        var turns = new List<Turn>();
        int[] context = [];
        foreach (var turn in text.Turns)
        {
            var state = turn.InternalState.Length == 0 ? [] : tokenizer.Encode(turn.InternalState);
            int[] generated = turn.Action.Length == 0 ? state : [.. state, .. tokenizer.Encode(turn.Action)];
            var seen = turn.Information.Length == 0 ? [] : tokenizer.Encode(turn.Information);
            turns.Add(new Turn(context, generated, state.Length, [], [], seen));
            context = [.. generated[ResponseParts.Discarded(tokenizer, generated, discardedEnd)..], .. seen];
        }

        return Example(line, text.TaskId, prompt, turns);
    }

    private Trajectory Chat(JsonElement messages, string file, long line)
    {
        if (messages.ValueKind != JsonValueKind.Array) throw new DataFormatException(file, "a list of messages is expected", line, "messages");
        var chat = new List<ChatMessage>();
        foreach (var message in messages.EnumerateArray())
        {
            var where = $"messages[{chat.Count}]";
            string Text(string field)
            {
                try
                {
                    if (message.ValueKind == JsonValueKind.Object && message.TryGetProperty(field, out var value)
                        && value.ValueKind == JsonValueKind.String)
                        return value.GetString()!;
                }
                catch (InvalidOperationException e)
                {
                    throw new DataFormatException(file, "the text is not valid Unicode", line, $"{where}.{field}", e);
                }

                throw new DataFormatException(file, "a text is expected", line, $"{where}.{field}");
            }

            var read = new ChatMessage(Text("role"), Text("content"));
            if (read.Role is not ("system" or "user" or "assistant"))
                throw new DataFormatException(file, "the role must be system, user or assistant", line, $"{where}.role");
            if (read.Role == "system" && chat.Count > 0)
                throw new DataFormatException(file, "the system's message must be the first", line, $"{where}.role");
            if (read.Role == "assistant" && !(chat.Count > 0 && chat[^1].Role == "user"))
                throw new DataFormatException(file, "the assistant must answer a user's message", line, $"{where}.role");
            chat.Add(read);
        }

        if (chat.All(m => m.Role != "assistant"))
            throw new DataFormatException(file, "the chat has no message of the assistant to learn", line, "messages");
        var pairs = tokenizer is ByteLevelBpeTokenizer { HasChatTemplate: true } bytes ? bytes.EncodeChat(chat) : Plain(chat);
        var turns = new List<Turn>();
        int[] context = [];
        for (var j = 0; j < pairs.Count; j++)
        {
            if (pairs[j].Answer.Length == 0)
                throw new DataFormatException(file, $"answer {j + 1} of the assistant is empty", line, "messages");
            int[] next = j + 1 < pairs.Count ? pairs[j + 1].Served : [];
            turns.Add(new Turn(context, pairs[j].Answer, 0, [], [], next));
            context = [.. context, .. pairs[j].Answer, .. next];
        }

        if (pairs[0].Served.Length == 0) throw new DataFormatException(file, "nothing comes before the first answer", line, "messages");
        return Example(line, "", pairs[0].Served, turns);
    }

    /// <summary>Without chat markup messages follow each other as they are, and an answer ends with the end of a text.</summary>
    private List<(int[] Served, int[] Answer)> Plain(List<ChatMessage> chat)
    {
        var pairs = new List<(int[], int[])>();
        var served = new List<int>();
        foreach (var message in chat)
        {
            var tokens = tokenizer.Encode(message.Content);
            if (message.Role != "assistant")
            {
                served.AddRange(tokens);
                continue;
            }

            pairs.Add(([.. served], tokenizer.EndOfText is { } end ? [.. tokens, end] : tokens));
            served.Clear();
        }

        return pairs;
    }

    private static Trajectory Example(long line, string task, int[] prompt, List<Turn> turns) => new(
        $"line {line}", task, prompt, turns, Reward: 0, EpisodeEnd.Answered, [], [], "", Evaluation: false);
}
