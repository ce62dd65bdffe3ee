namespace Mem1.Model;

/// <summary>
/// Text to token ids and back. Tokens are the record and text is a view of them: nothing that was sampled is ever
/// decoded and encoded again on its way to training. Thread-safe.
/// </summary>
public interface ITokenizer
{
    /// <summary>Number of ids; every id is in [0, VocabularySize).</summary>
    int VocabularySize { get; }

    /// <summary>Id of the token that ends a text, or null when the tokenizer has none.</summary>
    int? EndOfText { get; }

    /// <summary>Encodes text, special tokens in it included.</summary>
    int[] Encode(string text);

    /// <summary>Encodes a user prompt within the model's chat template, up to where the assistant begins to write.</summary>
    int[] EncodePrompt(string userPrompt);

    /// <summary>The text of some tokens. Bytes that do not form UTF-8 become U+FFFD.</summary>
    string Decode(ReadOnlySpan<int> tokens);

    /// <summary>Writes tokenizer.json (and tokenizer_config.json) in the Hugging Face layout into a folder.</summary>
    void Save(string folder);
}
