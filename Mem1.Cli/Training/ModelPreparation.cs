// Keeps: whatever a checkpoint brings, training begins with a value head, with the adapter that the config asks for or none, and with
// prompts in the form the config asks for.
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Training;

/// <summary>Makes a loaded or new model ready for training.</summary>
internal static class ModelPreparation
{
    // "LORA": the random stream of a new adapter.
    private const ulong Adapter = 0x4C4F5241;

    /// <summary>The model with a value head, and with the adapter and the prompts of the config.</summary>
    /// <param name="model">As it was loaded or made.</param>
    /// <param name="options">Validated.</param>
    /// <param name="seed">Of what is new.</param>
    /// <exception cref="UserErrorException">The config asks for what the model cannot have.</exception>
    public static Checkpoint Complete(Checkpoint model, ModelSection options, ulong seed)
    {
        var complete = WithAdapter(model, options.Lora, seed);
        return complete with
        {
            Weights = ValueHead.Ensure(complete.Weights, model.Config.HiddenSize, seed),
            Tokenizer = model.Tokenizer is null ? null : WithChat(model.Tokenizer, options),
        };
    }

    /// <summary>The tokenizer with prompts in the form the config asks for.</summary>
    public static ITokenizer WithChat(ITokenizer tokenizer, ModelSection options)
    {
        if (tokenizer is not ByteLevelBpeTokenizer bytes)
        {
            return options.Chat == ChatMode.On || options.System is not null
                ? throw new UserErrorException("model.chat and model.system need a tokenizer with chat markup; this one is of whole words.")
                : tokenizer;
        }

        if (options.System is not null && options.Chat == ChatMode.Auto && !bytes.HasChatTemplate)
            throw new UserErrorException("model.system is set, but the model's tokenizer has no chat template; set model.chat to on.");
        return options.Chat == ChatMode.Auto && options.System is null ? bytes : bytes.WithChat(options.Chat != ChatMode.Off, options.System);
    }

    private static Checkpoint WithAdapter(Checkpoint model, LoraOptions options, ulong seed)
    {
        if (options.Rank == 0) return model.Merged();
        if (model.Adapter is null) return model with { Adapter = LoraAdapter.Create(model.Config, options, Seeds.Mix(seed, Adapter)) };
        if (model.Adapter.Options.SameAs(options)) return model;
        throw new UserErrorException(
            $"the checkpoint has an adapter of rank {model.Adapter.Options.Rank}, alpha {model.Adapter.Options.Alpha}, for "
            + $"{string.Join(", ", model.Adapter.Options.TargetModules)}: make model.lora the same, or merge it first (mem1 model merge).");
    }
}
