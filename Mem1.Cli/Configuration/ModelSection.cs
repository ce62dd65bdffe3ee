// Keeps: what a checkpoint says of its shape goes before defaults and never before what the user gave.
using Mem1.Model;
using Mem1.Model.Adapters;

namespace Mem1.Cli.Configuration;

/// <summary>The shape of a new model, or where to load one from.</summary>
public sealed record ModelSection
{
    /// <summary>
    /// Checkpoint folder to start from; "built-in" is the cloned checkpoint that ships for worlds; "new" initialises and clones.
    /// </summary>
    public string From { get; init; } = "built-in";
    /// <summary>Vocabulary of the byte-level BPE trained on the corpus for a new model; the worlds bring their own words.</summary>
    public int VocabularySize { get; init; } = 2048;
    /// <summary>Width of the residual stream.</summary>
    public int HiddenSize { get; init; } = 96;
    /// <summary>Width of the SwiGLU layer.</summary>
    public int IntermediateSize { get; init; } = 128;
    /// <summary>Number of blocks.</summary>
    public int Layers { get; init; } = 2;
    /// <summary>Query heads.</summary>
    public int Heads { get; init; } = 4;
    /// <summary>Key/value heads.</summary>
    public int KeyValueHeads { get; init; } = 4;
    /// <summary>Longest context.</summary>
    public int MaxPositions { get; init; } = 1024;
    /// <summary>rope or none.</summary>
    public PositionEncoding Position { get; init; } = PositionEncoding.None;
    /// <summary>Taps of the convolutions on q, k and v; 0 is none.</summary>
    public int ConvKernel { get; init; } = 5;
    /// <summary>Taps of the convolution on the embeddings; 0 is none.</summary>
    public int EmbedConvKernel { get; init; } = 4;
    /// <summary>standard or log_n.</summary>
    public AttentionScale AttentionScale { get; init; } = AttentionScale.LogN;
    /// <summary>Whether lm_head is the embedding.</summary>
    public bool TieWordEmbeddings { get; init; } = true;
    /// <summary>Whether q, k and v projections have a bias.</summary>
    public bool QkvBias { get; init; }
    /// <summary>Whether prompts become the user's message of a chat, as the model was taught them.</summary>
    public ChatMode Chat { get; init; } = ChatMode.Auto;
    /// <summary>The system message of that chat; null takes the model's own, and empty text leaves it out.</summary>
    public string? System { get; init; }
    /// <summary>Trains a low-rank adapter instead of the whole model, if its rank is above 0.</summary>
    public LoraOptions Lora { get; init; } = new();

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        errors.AddRange(Lora.Validate().Select(e => $"model.{e}"));
        if (Chat == ChatMode.Off && System is not null) errors.Add("model.system is set but model.chat is off, so nobody would read it.");
        if (From.Length == 0) errors.Add("model.from is empty; it must be built-in, new or a checkpoint folder.");
        if (VocabularySize < 300) errors.Add($"model.vocabulary_size is {VocabularySize}; a byte-level vocabulary needs at least 300.");
        if (Layers < 1) errors.Add($"model.layers is {Layers}; it must be at least 1.");
        if (IntermediateSize < 1) errors.Add($"model.intermediate_size is {IntermediateSize}; it must be at least 1.");
        if (Heads < 1 || HiddenSize < 1 || HiddenSize % Heads != 0)
            errors.Add($"model.hidden_size ({HiddenSize}) must be a multiple of model.heads ({Heads}).");
        else if (Position == PositionEncoding.Rope && HiddenSize / Heads % 2 != 0)
            errors.Add($"model.position is rope but the head size ({HiddenSize / Heads}) is odd.");
        if (KeyValueHeads < 1 || Heads % KeyValueHeads != 0)
            errors.Add($"model.heads ({Heads}) must be a multiple of model.key_value_heads ({KeyValueHeads}).");
        if (MaxPositions < 16) errors.Add($"model.max_positions is {MaxPositions}; it must be at least 16.");
        if (ConvKernel < 0) errors.Add($"model.conv_kernel is {ConvKernel}; it must not be negative.");
        if (EmbedConvKernel < 0) errors.Add($"model.embed_conv_kernel is {EmbedConvKernel}; it must not be negative.");
        if (Position == PositionEncoding.None && ConvKernel == 0 && EmbedConvKernel == 0)
            errors.Add("model.position is none and there are no convolutions: the model could not tell the order of tokens.");
        return errors;
    }

    /// <summary>This section with the shape of a checkpoint.</summary>
    public ModelSection WithShapeOf(DecoderConfig shape) => this with
    {
        HiddenSize = shape.HiddenSize,
        IntermediateSize = shape.IntermediateSize,
        Layers = shape.Layers,
        Heads = shape.Heads,
        KeyValueHeads = shape.KeyValueHeads,
        MaxPositions = shape.MaxPositions,
        Position = shape.Position,
        ConvKernel = shape.ConvKernel,
        EmbedConvKernel = shape.EmbeddingConvKernel,
        AttentionScale = shape.AttentionScale,
        TieWordEmbeddings = shape.TiedEmbeddings,
        QkvBias = shape.QkvBias,
    };

    /// <summary>The shape of a checkpoint, with the keys that were given taken from here.</summary>
    /// <param name="shape">What the checkpoint says.</param>
    /// <param name="given">Full names of the keys that a file or the command line gave.</param>
    public DecoderConfig Over(DecoderConfig shape, IReadOnlySet<string> given)
    {
        T Pick<T>(string key, T own, T found) => given.Contains($"model.{key}") ? own : found;
        var hidden = Pick("hidden_size", HiddenSize, shape.HiddenSize);
        var heads = Pick("heads", Heads, shape.Heads);
        return shape with
        {
            HiddenSize = hidden,
            IntermediateSize = Pick("intermediate_size", IntermediateSize, shape.IntermediateSize),
            Layers = Pick("layers", Layers, shape.Layers),
            Heads = heads,
            KeyValueHeads = Pick("key_value_heads", KeyValueHeads, shape.KeyValueHeads),
            // A checkpoint may have heads of their own size; where width and heads are its own, so is that.
            HeadSize = (hidden, heads) == (shape.HiddenSize, shape.Heads) ? shape.HeadSize : hidden / heads,
            MaxPositions = Pick("max_positions", MaxPositions, shape.MaxPositions),
            Position = Pick("position", Position, shape.Position),
            ConvKernel = Pick("conv_kernel", ConvKernel, shape.ConvKernel),
            EmbeddingConvKernel = Pick("embed_conv_kernel", EmbedConvKernel, shape.EmbeddingConvKernel),
            AttentionScale = Pick("attention_scale", AttentionScale, shape.AttentionScale),
            TiedEmbeddings = Pick("tie_word_embeddings", TieWordEmbeddings, shape.TiedEmbeddings),
            QkvBias = Pick("qkv_bias", QkvBias, shape.QkvBias),
        };
    }

    /// <summary>The decoder's shape for a vocabulary.</summary>
    public DecoderConfig ToDecoder(int vocabulary) => new()
    {
        VocabularySize = vocabulary,
        HiddenSize = HiddenSize,
        IntermediateSize = IntermediateSize,
        Layers = Layers,
        Heads = Heads,
        KeyValueHeads = KeyValueHeads,
        HeadSize = HiddenSize / Heads,
        MaxPositions = MaxPositions,
        Position = Position,
        ConvKernel = ConvKernel,
        EmbeddingConvKernel = EmbedConvKernel,
        AttentionScale = AttentionScale,
        TiedEmbeddings = TieWordEmbeddings,
        QkvBias = QkvBias,
    };
}
