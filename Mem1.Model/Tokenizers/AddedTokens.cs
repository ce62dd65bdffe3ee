// Invariant: added tokens are found in raw text before anything else happens to it, leftmost first and the longest of those that start
// there, as the reference tokenizers do.
using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>A token that is matched as a whole piece of text.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Text">The text it stands for.</param>
/// <param name="IsSpecial">Marks structure rather than words, in the file's terms.</param>
internal sealed record AddedToken(int Id, string Text, bool IsSpecial);

/// <summary>The added tokens of a tokenizer, and the search for them.</summary>
internal sealed class AddedTokens
{
    private readonly FrozenDictionary<char, AddedToken[]> _byFirst;

    public AddedTokens(IEnumerable<AddedToken> tokens)
    {
        All = [.. tokens.OrderBy(t => t.Id)];
        _byFirst = All.GroupBy(t => t.Text[0])
            .ToFrozenDictionary(g => g.Key, g => g.OrderByDescending(t => t.Text.Length).ToArray());
    }

    public IReadOnlyList<AddedToken> All { get; }

    /// <summary>Calls back for each piece in order: plain text (token null) or an added token.</summary>
    public void Split(string text, Action<Range, AddedToken?> piece)
    {
        int plain = 0;
        for (int at = 0; at < text.Length;)
        {
            AddedToken? found = Match(text, at);
            if (found is null)
            {
                at++;
                continue;
            }
            if (at > plain)
                piece(plain..at, null);
            piece(at..(at + found.Text.Length), found);
            at += found.Text.Length;
            plain = at;
        }
        if (plain < text.Length)
            piece(plain..text.Length, null);
    }

    public JsonArray ToJson()
    {
        var array = new JsonArray();
        foreach (AddedToken token in All)
        {
            array.Add(new JsonObject
            {
                ["id"] = token.Id,
                ["content"] = token.Text,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = token.IsSpecial,
            });
        }
        return array;
    }

    public static AddedTokens FromJson(JsonElement root, string file)
    {
        var tokens = new List<AddedToken>();
        if (!root.TryGetProperty("added_tokens", out JsonElement list) || list.ValueKind == JsonValueKind.Null)
            return new AddedTokens(tokens);
        foreach (JsonElement entry in list.EnumerateArray())
        {
            string text = entry.GetProperty("content").GetString() ?? "";
            if (text.Length == 0)
                throw new CheckpointException($"{file} has an added token without text.");
            foreach (string option in new[] { "single_word", "lstrip", "rstrip" })
            {
                if (entry.TryGetProperty(option, out JsonElement value) && value.ValueKind == JsonValueKind.True)
                {
                    throw new CheckpointException(
                        $"{file}: added token \"{SafetensorsHeader.Shown(text)}\" uses {option}, which is not supported.");
                }
            }
            bool special = entry.TryGetProperty("special", out JsonElement flag) && flag.ValueKind == JsonValueKind.True;
            tokens.Add(new AddedToken(entry.GetProperty("id").GetInt32(), text, special));
        }
        if (tokens.DistinctBy(t => t.Text).Count() != tokens.Count || tokens.DistinctBy(t => t.Id).Count() != tokens.Count)
            throw new CheckpointException($"{file} has an added token twice.");
        return new AddedTokens(tokens);
    }

    private AddedToken? Match(string text, int at)
    {
        if (!_byFirst.TryGetValue(text[at], out AddedToken[]? candidates))
            return null;
        foreach (AddedToken token in candidates)
        {
            if (string.CompareOrdinal(text, at, token.Text, 0, token.Text.Length) == 0)
                return token;
        }
        return null;
    }
}
