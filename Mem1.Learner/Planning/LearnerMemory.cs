// How much memory one pass of the learner takes, in bytes. Keeps: the numbers are counted from what TorchDecoder, PolicyPass and PpoLoss
// keep, tensor by tensor; who changes what these keep changes this file (a test compares a run's peak with the plan).
//
// Per block, with M = T P + R L tokens, O = M (in the last block the rows' R L), Q = H dh, K = Hkv dh, C = Q + 2 K, S = P + L (+ L where
// rows go on from each other), b = bytes of a product's operand (4, in bf16 2), backward needs:
//   residual stream and the normalised input before and after the norm's weight, twice      (M + O) (8 + b) D
//   queries, keys and values of every row, its attention weights, what it attended           b (R L Q + 2 R S K + O Q), (4 or 6) R L H S
//   the same of the trunks, not in the last block                                            b T P (Q + 2 K), (4 or 6) T H P^2
//   gate, its activation, up and their product                                              4 b O F
//   the convolutions' padded input                                                          4 (M + (k - 1) (T + R)) C
//   q, k and v's weights as one matrix, and in bf16 all matrices narrowed                    b C D, 2 (Q D + 3 D F)
using Mem1.Model;

namespace Mem1.Learner.Planning;

/// <summary>The size of one forward and backward pass.</summary>
/// <param name="Trunks">Prompts, T.</param>
/// <param name="TrunkWidth">Tokens of a padded prompt, P.</param>
/// <param name="Rows">Turns, R.</param>
/// <param name="RowWidth">Tokens of a padded turn, L.</param>
/// <param name="Predictions">Generated tokens, N.</param>
/// <param name="Linked">Whether turns read the turn before as it was computed there (single-copy layouts).</param>
public readonly record struct PassSize(long Trunks, long TrunkWidth, long Rows, long RowWidth, long Predictions, bool Linked)
{
    /// <summary>The size of a pass.</summary>
    public static PassSize Of(LayoutBatch pass) => new(
        pass.Batch.Trunks.Count, pass.Batch.TrunkWidth, pass.Batch.Rows.Count, pass.Batch.RowWidth, pass.Targets.Length,
        pass.Batch.Links is not null);

    internal long Tokens => (Trunks * TrunkWidth) + (Rows * RowWidth);

    internal long Sources => TrunkWidth + ((Linked ? 2 : 1) * RowWidth);
}

/// <summary>Bytes that passes of a decoder take beside its parameters. All of them are tensors.</summary>
/// <param name="shape">Of the decoder.</param>
/// <param name="compute">What is recomputed rather than kept.</param>
/// <param name="precision">Of the matrix products.</param>
public sealed class LearnerMemory(DecoderConfig shape, ComputeOptions compute, ComputePrecision precision)
{
    private const long Float = sizeof(float);

    // Of [N, V], that are alive together when backward begins: logits, log-probs, probabilities and their product; then the gradients of
    // the last three of them.
    private const long HeadForward = 4, HeadBackward = 3;

    private long Operand => precision == ComputePrecision.Bf16 ? 2 : Float;

    private long Queries => (long)shape.Heads * shape.HeadSize;

    private long Keys => (long)shape.KeyValueHeads * shape.HeadSize;

    /// <summary>Most bytes of one forward and backward pass.</summary>
    public long Step(PassSize p)
    {
        long d = shape.HiddenSize, rows = p.Rows * p.RowWidth;
        var blocks = Enumerable.Range(0, shape.Layers).Select(layer => Block(p, last: layer == shape.Layers - 1)).ToList();
        var inputs = (shape.Layers - 1) * p.Tokens * d * Float;
        // Final norm (its input, before and after its weight), what is selected of it, and the value head's hidden layer before and after relu.
        var ends = ((3 * rows * d) + (4 * p.Predictions * d)) * Float;
        var tokens = Math.Min(p.Predictions, compute.ChunkOf(shape.VocabularySize));
        var head = tokens * shape.VocabularySize * Float;
        // Gradients inside the attention of one block: those of scores before and after softmax, and of what q, k and v went through.
        // What the rest of a block frees on the way back is as large as its gradients (both measured with the allocator's peak).
        var insideBlock = Float * ((3 * rows * shape.Heads * p.Sources) + (4 * rows * d));
        if (shape.Position == PositionEncoding.None && shape.ConvKernel == 0) insideBlock /= 2;
        var kept = Geometry(p) + EmbeddingConvolution(p) + ends;
        var chunked = tokens < p.Predictions;
        if (compute.GradientCheckpointing)
        {
            var whileHead = (HeadForward + HeadBackward) * head;
            var whileBlock = blocks.Max() + insideBlock + (chunked ? 0 : HeadForward * head);
            return kept + inputs + Math.Max(whileHead, whileBlock);
        }

        return kept + blocks.Sum() + Math.Max((HeadForward + HeadBackward) * head, insideBlock + (chunked ? 0 : HeadForward * head));
    }

    /// <summary>Most bytes of one pass without gradient.</summary>
    public long Score(PassSize p)
    {
        long d = shape.HiddenSize;
        var tokens = Math.Min(p.Predictions, compute.ChunkOf(shape.VocabularySize));
        // Whatever a block computes lives until its end: beside what backward would need, squares, qkv and the block's output.
        var inside = Block(p, last: shape.Layers == 1) + (p.Tokens * ((4 * d * Float) + ((Queries + (2 * Keys)) * Operand)))
            + (2 * p.Rows * p.RowWidth * shape.Heads * p.Sources * Float);
        if (shape.Position == PositionEncoding.Rope) inside += p.Tokens * (Queries + Keys) * Float;
        if (shape.ConvKernel > 0) inside += 3 * p.Tokens * (Queries + (2 * Keys)) * Float; // its output, transposed, and joined again
        return Geometry(p) + (p.Tokens * d * Float) + Math.Max(inside, 2 * tokens * shape.VocabularySize * Float);
    }

    /// <summary>What backward needs of one block.</summary>
    private long Block(PassSize p, bool last)
    {
        long d = shape.HiddenSize, f = shape.IntermediateSize, q = Queries, k = Keys, c = q + (2 * k);
        var rows = p.Rows * p.RowWidth;
        var outputs = last ? rows : p.Tokens;
        var weightBytes = precision == ComputePrecision.Bf16 ? Float + Operand : Float; // softmax stays float32
        var bytes = (p.Tokens + outputs) * d * ((2 * Float) + Operand);
        bytes += Operand * ((rows * q) + (2 * p.Rows * p.Sources * k) + (outputs * q));
        bytes += weightBytes * rows * shape.Heads * p.Sources;
        if (!last)
        {
            bytes += Operand * p.Trunks * p.TrunkWidth * (q + (2 * k));
            bytes += weightBytes * p.Trunks * shape.Heads * p.TrunkWidth * p.TrunkWidth;
        }

        bytes += 4 * Operand * outputs * f;
        if (shape.ConvKernel > 0) bytes += Float * (p.Tokens + ((shape.ConvKernel - 1) * (p.Trunks + p.Rows))) * c;
        bytes += Operand * c * d;
        if (precision == ComputePrecision.Bf16) bytes += Operand * ((q * d) + (3 * d * f));
        return bytes;
    }

    private long EmbeddingConvolution(PassSize p) => shape.EmbeddingConvKernel == 0
        ? 0
        : Float * (p.Tokens + ((shape.EmbeddingConvKernel - 1) * (p.Trunks + p.Rows))) * shape.HiddenSize;

    /// <summary>Masks, and token ids and positions of 8 bytes.</summary>
    private static long Geometry(PassSize p) =>
        (Float * ((p.Rows * p.RowWidth * p.Sources) + (p.TrunkWidth * p.TrunkWidth))) + (sizeof(long) * 3 * p.Tokens);
}
