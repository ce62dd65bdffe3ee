// Invariant: what is rendered is what the template of Qwen2 and Qwen2.5 renders without tools: every message in its own markup, a system
// message always first, the assistant's turn left open where it is to write.
using System.Text;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>One message of a chat.</summary>
/// <param name="Role">system, user or assistant.</param>
/// <param name="Content">Its text.</param>
public sealed record ChatMessage(string Role, string Content);

/// <summary>Qwen's chat markup.</summary>
/// <param name="System">The system message where a chat has none of its own; null leaves it out.</param>
internal sealed record ChatTemplate(string? System)
{
    public const string Open = "<|im_start|>", Close = "<|im_end|>";

    /// <summary>The fall-backs of the family's templates: Qwen2.5, Qwen2.</summary>
    private static readonly string[] KnownSystems =
        ["You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "You are a helpful assistant."];

    public static ChatTemplate Recognise(string source, string file)
    {
        if (!source.Contains(Open, StringComparison.Ordinal))
            throw new CheckpointException($"{file}: its chat_template is not Qwen's (<|im_start|> markup), the only one supported.");
        return new ChatTemplate(KnownSystems.FirstOrDefault(system => source.Contains(system, StringComparison.Ordinal)));
    }

    /// <summary>A prompt of one user message, up to where the assistant writes.</summary>
    public string Render(string user) => $"{Render([new ChatMessage("user", user)], first: true)}{Assistant}";

    /// <summary>What stands before the assistant's words.</summary>
    public const string Assistant = $"{Open}assistant\n";

    /// <summary>Messages as they stand in a chat. Where they begin it and none is the system's, the template's own comes first.</summary>
    public string Render(IReadOnlyList<ChatMessage> messages, bool first)
    {
        var text = new StringBuilder();
        if (first && System is not null && messages is not [{ Role: "system" }, ..])
            text.Append($"{Open}system\n{System}{Close}\n");
        foreach (ChatMessage message in messages)
            text.Append($"{Open}{message.Role}\n{message.Content}{Close}\n");
        return text.ToString();
    }
}
