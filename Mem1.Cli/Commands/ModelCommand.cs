using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Training;
using Mem1.Model;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 model</c>: looks at checkpoints, converts them and merges adapters into them.</summary>
internal static class ModelCommand
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
    };

    public static Command Create() => new(
        "model",
        """
        Look at checkpoints, convert them, merge adapters.

        Examples:
          ./mem1 model info runs/default/checkpoints/step-100
          ./mem1 model convert Qwen2.5-7B --dtype bfloat16 --shard-size 2GB --out Qwen2.5-7B-shards
          ./mem1 model merge --base Qwen2.5-7B --adapter runs/lora/checkpoints/step-100/adapter --out merged
        """)
    {
        Info(), Convert(), Merge(),
    };

    /// <summary>A folder, or the checkpoint that ships with the program.</summary>
    internal static string FolderOf(string model) => model == "built-in" ? BuiltIn.Folder : model;

    /// <summary>The option of how weights are stored; without it as they were.</summary>
    internal static Option<string?> Dtype()
    {
        var option = new Option<string?>("--dtype") { Description = "float32, bfloat16 or float16; otherwise as the weights were stored", HelpName = "DTYPE" };
        option.AcceptOnlyFromAmong([.. Enum.GetValues<StoredDtype>().Select(ModelConfigFile.NameOf)]);
        return option;
    }

    /// <summary>What <see cref="Dtype"/> says.</summary>
    internal static StoredDtype DtypeOf(string? name, StoredDtype otherwise) =>
        name is null ? otherwise : Enum.GetValues<StoredDtype>().First(d => ModelConfigFile.NameOf(d) == name);

    private static Command Info()
    {
        var folder = new Argument<string>("folder") { Description = "A checkpoint folder, or built-in", HelpName = "FOLDER" };
        var json = new Option<bool>("--json") { Description = "One JSON object on standard output" };
        var command = new Command(
            "info",
            """
            Load a checkpoint, check that its tensors fit its configuration, and say what it is.

            Examples:
              ./mem1 model info built-in
              ./mem1 model info Qwen2.5-0.5B --json | jq .parameters
            """)
        {
            folder, json,
        };
        command.SetAction(parse =>
        {
            var path = FolderOf(parse.GetValue(folder)!);
            var model = Checkpoint.Load(path);
            long Count(bool head) => model.Weights.Tensors
                .Where(t => t.Key.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal) == head).Sum(t => t.Value.Data.LongLength);
            var report = new
            {
                Folder = path,
                Parameters = Count(head: false),
                ValueHeadParameters = Count(head: true),
                Dtype = ModelConfigFile.NameOf(model.Origin.Dtype),
                model.Config,
                Tokenizer = model.Tokenizer switch
                {
                    null => null,
                    ByteLevelBpeTokenizer => "byte-level BPE",
                    _ => "words",
                },
                TokenizerVocabulary = model.Tokenizer?.VocabularySize,
                ChatTemplate = model.Tokenizer is ByteLevelBpeTokenizer { HasChatTemplate: true },
                Adapter = model.Adapter?.Options,
                AdapterParameters = model.Adapter?.Tensors.Tensors.Values.Sum(t => t.Data.LongLength),
            };
            Console.WriteLine(parse.GetValue(json)
                ? JsonSerializer.Serialize(report, Json)
                : Described(model, report.Parameters, report.ValueHeadParameters, path));
            return 0;
        });
        return command;
    }

    private static string Described(Checkpoint model, long parameters, long head, string path)
    {
        var c = model.Config;
        var text = new StringWriter(CultureInfo.InvariantCulture);
        text.WriteLine(path);
        text.WriteLine($"  parameters   {parameters:N0} ({ModelConfigFile.NameOf(model.Origin.Dtype)} on disk){(head > 0 ? $", value head {head:N0}" : "")}");
        text.WriteLine($"  layers       {c.Layers} of width {c.HiddenSize}, SwiGLU {c.IntermediateSize}");
        text.WriteLine($"  attention    {c.Heads} heads of {c.HeadSize}, {c.KeyValueHeads} for keys and values{(c.QkvBias ? ", biased" : "")}");
        text.WriteLine($"  positions    {c.Position.ToString().ToLowerInvariant()}, up to {c.MaxPositions:N0}");
        text.WriteLine($"  vocabulary   {c.VocabularySize:N0}, embeddings {(c.TiedEmbeddings ? "tied" : "not tied")}");
        text.WriteLine(model.Tokenizer is null
            ? "  tokenizer    none"
            : $"  tokenizer    {model.Tokenizer.VocabularySize:N0} {(model.Tokenizer is ByteLevelBpeTokenizer b ? $"byte-level BPE{(b.HasChatTemplate ? ", chat template" : "")}" : "words")}");
        if (model.Adapter is { } a)
            text.WriteLine($"  adapter      rank {a.Options.Rank}, alpha {a.Options.Alpha}: {string.Join(", ", a.Options.TargetModules)}");
        return text.ToString().TrimEnd();
    }

    private static Command Convert()
    {
        var folder = new Argument<string>("folder") { Description = "A checkpoint folder, or built-in", HelpName = "FOLDER" };
        var (dtype, size, output) = (Dtype(), ShardSize(), Output());
        var command = new Command(
            "convert",
            """
            Write a checkpoint anew in another dtype or with shards of another size. An adapter in it is merged.

            Examples:
              ./mem1 model convert Qwen2.5-0.5B --dtype float32 --out Qwen2.5-0.5B-f32
              ./mem1 model convert runs/default/checkpoints/step-100 --dtype bfloat16 --out released
            """)
        {
            folder, dtype, size, output,
        };
        command.SetAction(parse =>
        {
            var model = Checkpoint.Load(FolderOf(parse.GetValue(folder)!));
            return Write(
                model.Merged(), parse.GetValue(output)!, parse.GetValue(dtype), parse.GetValue(size)!, FolderOf(parse.GetValue(folder)!));
        });
        return command;
    }

    private static Command Merge()
    {
        var source = new Option<string>("--base") { Description = "Checkpoint folder the adapter was trained on, or built-in", Required = true, HelpName = "FOLDER" };
        var adapter = new Option<DirectoryInfo>("--adapter") { Description = "PEFT folder: adapter_config.json and adapter_model.safetensors", Required = true, HelpName = "FOLDER" };
        var (dtype, size, output) = (Dtype(), ShardSize(), Output());
        var command = new Command(
            "merge",
            """
            Merge a LoRA adapter into the model it was trained on.

            Examples:
              ./mem1 model merge --base Qwen2.5-0.5B --adapter runs/lora/checkpoints/step-100/adapter --out merged
            """)
        {
            source, adapter, dtype, size, output,
        };
        command.SetAction(parse =>
        {
            var from = FolderOf(parse.GetValue(source)!);
            var model = Checkpoint.Load(from) with { Adapter = null };
            var merged = model with { Adapter = PeftFolder.Load(parse.GetValue(adapter)!.FullName, model.Config) };
            return Write(merged.Merged(), parse.GetValue(output)!, parse.GetValue(dtype), parse.GetValue(size)!, from);
        });
        return command;
    }

    private static int Write(Checkpoint model, DirectoryInfo output, string? dtype, string size, string from)
    {
        if (Path.GetFullPath(output.FullName) == Path.GetFullPath(from))
            throw new UserErrorException("--out is the folder that is read; choose another.");
        if (output.Exists && output.EnumerateFileSystemInfos().Any() && !File.Exists(Path.Combine(output.FullName, ModelConfigFile.FileName)))
            throw new UserErrorException($"{output} is not empty and no checkpoint, so it is not replaced; choose another folder.");
        var stored = DtypeOf(dtype, model.Origin.Dtype);
        model.Save(output.FullName, stored, Bytes(size));
        Console.WriteLine($"{model.Weights.Tensors.Values.Sum(t => t.Data.LongLength):N0} parameters in {ModelConfigFile.NameOf(stored)} -> {output}");
        return 0;
    }

    private static Option<DirectoryInfo> Output() => new("--out") { Description = "Folder to write", Required = true, HelpName = "FOLDER" };

    private static Option<string> ShardSize()
    {
        var option = new Option<string>("--shard-size")
        {
            Description = "Largest file of weights",
            HelpName = "SIZE",
            DefaultValueFactory = _ => $"{Checkpoint.DefaultShardBytes / 1_000_000_000}GB",
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && Bytes(result.Tokens[0].Value) < 1)
                result.AddError($"--shard-size is \"{result.Tokens[0].Value}\"; it must be a size as 500MB or 5GB.");
        });
        return option;
    }

    /// <summary>Bytes of a size such as 500MB; 0 for what is none.</summary>
    private static long Bytes(string size)
    {
        foreach (var (unit, bytes) in new[] { ("GB", 1_000_000_000L), ("MB", 1_000_000L), ("KB", 1000L) })
        {
            if (size.EndsWith(unit, StringComparison.OrdinalIgnoreCase)
                && double.TryParse(size[..^2], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number < 1e6)
                return (long)(number * bytes);
        }

        return 0;
    }
}
