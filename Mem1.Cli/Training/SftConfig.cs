// Keeps: a training is described by this record alone; sft.json in a run folder is this record written out.
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Training;

/// <summary>Everything a supervised fine-tuning depends on.</summary>
internal sealed record SftConfig
{
    /// <summary>The file in a run folder.</summary>
    public const string FileName = "sft.json";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    };

    /// <summary>Name of the run's folder.</summary>
    public string Name { get; init; } = "sft";
    /// <summary>Checkpoint folder to start from, or built-in.</summary>
    public string Model { get; init; } = "built-in";
    /// <summary>JSON Lines files of chats or episodes.</summary>
    public IReadOnlyList<string> Data { get; init; } = [];
    /// <summary>Seed of the order of the data and of a new adapter.</summary>
    public ulong Seed { get; init; } = 1;
    /// <summary>cpu or cuda.</summary>
    public string Device { get; init; } = "cpu";
    /// <summary>Of the matrix products.</summary>
    public ComputePrecision Precision { get; init; } = ComputePrecision.Float32;
    /// <summary>How examples become gradient steps.</summary>
    public SftOptions Training { get; init; } = new();
    /// <summary>Trains an adapter instead of the whole model, if its rank is above 0.</summary>
    public LoraOptions Lora { get; init; } = new();
    /// <summary>Whether chats and prompts are put into chat markup.</summary>
    public ChatMode Chat { get; init; } = ChatMode.Auto;
    /// <summary>The system message of that chat; null takes the model's own.</summary>
    public string? System { get; init; }
    /// <summary>The tag up to which a response is dropped from the next turn's context; null keeps all of it.</summary>
    public string? DiscardedEnd { get; init; }
    /// <summary>Longest prompt + context + answer; 0 takes the model's limit.</summary>
    public int MaxTokens { get; init; }
    /// <summary>Steps between checkpoints; 0 takes a tenth of the training.</summary>
    public int SaveEvery { get; init; }
    /// <summary>How the finished model is stored; null stores it as it came.</summary>
    public StoredDtype? Dtype { get; init; }

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        List<string> errors = [.. Training.Validate(), .. Lora.Validate()];
        if (Data.Count == 0) errors.Add("there is no data to learn from (--data FILE.jsonl).");
        if (Device is not ("cpu" or "cuda")) errors.Add($"the device is \"{Device}\"; it must be cpu or cuda.");
        if (MaxTokens < 0) errors.Add($"max_tokens is {MaxTokens}; it must not be negative.");
        if (SaveEvery < 0) errors.Add($"save_every is {SaveEvery}; it must not be negative.");
        if (Chat == ChatMode.Off && System is not null) errors.Add("a system message is given but chat is off, so nobody would read it.");
        return errors;
    }

    /// <summary>The record as text.</summary>
    public string ToText() => JsonSerializer.Serialize(this, Json) + "\n";

    /// <summary>Reads the record of a run.</summary>
    public static SftConfig Load(string folder)
    {
        var path = Path.Combine(folder, FileName);
        try
        {
            return JsonSerializer.Deserialize<SftConfig>(File.ReadAllText(path), Json) ?? throw new JsonException("it is null");
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new UserErrorException($"{path} cannot be read ({e.Message.Split('\n')[0]}).", e);
        }
    }
}
