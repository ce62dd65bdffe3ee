using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>
/// Qwen's chat markup for one user message: what the template of Qwen2 and Qwen2.5 renders with add_generation_prompt and no tools.
/// </summary>
/// <param name="System">The system message the template falls back to; null when it has none.</param>
internal sealed record ChatTemplate(string? System)
{
    private const string Open = "<|im_start|>", Close = "<|im_end|>";

    /// <summary>The fall-backs of the family's templates: Qwen2.5, Qwen2.</summary>
    private static readonly string[] KnownSystems =
        ["You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "You are a helpful assistant."];

    public static ChatTemplate Recognise(string source, string file)
    {
        if (!source.Contains(Open, StringComparison.Ordinal))
            throw new CheckpointException($"{file}: its chat_template is not Qwen's (<|im_start|> markup), the only one supported.");
        return new ChatTemplate(KnownSystems.FirstOrDefault(system => source.Contains(system, StringComparison.Ordinal)));
    }

    public string Render(string user)
    {
        string system = System is null ? "" : $"{Open}system\n{System}{Close}\n";
        return $"{system}{Open}user\n{user}{Close}\n{Open}assistant\n";
    }
}
