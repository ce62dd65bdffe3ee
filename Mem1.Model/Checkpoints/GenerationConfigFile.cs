using System.Text.Json;
using System.Text.Json.Nodes;

namespace Mem1.Model.Checkpoints;

/// <summary>generation_config.json: where other software looks up which token ends a text.</summary>
internal static class GenerationConfigFile
{
    public const string FileName = "generation_config.json";

    /// <summary>Writes the file for a model made here; a loaded one brings its own.</summary>
    public static void Write(string folder, int endOfText)
    {
        var json = new JsonObject { ["_from_model_config"] = true, ["eos_token_id"] = endOfText };
        AtomicFile.WriteText(
            Path.Combine(folder, FileName), json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
    }
}
