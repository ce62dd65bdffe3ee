// Keeps: nothing here changes what is computed beyond rounding, only in how much memory and time.
namespace Mem1.Learner;

/// <summary>How the gradient pass trades time for memory.</summary>
public sealed record ComputeOptions
{
    /// <summary>
    /// Vocabulary from which log-probs are computed in chunks unless <see cref="VocabularyChunkTokens"/> says otherwise: below it all
    /// log-probs of a micro-batch are smaller than its activations, and one piece is faster.
    /// </summary>
    public const int ChunkedVocabulary = 8192;

    // 2^24 log-probs are 64 MiB in float32; a product of fewer than 64 rows reads the head's weights for too little work.
    private const int ChunkElements = 1 << 24, FewestChunkTokens = 64;

    /// <summary>Compute the inside of every block again in backward instead of keeping it.</summary>
    public bool GradientCheckpointing { get; init; }

    /// <summary>
    /// Generated tokens whose log-probs over the vocabulary exist at once; 0 chooses: everything at once for a vocabulary below
    /// <see cref="ChunkedVocabulary"/>, else chunks of 64 MiB.
    /// </summary>
    public int VocabularyChunkTokens { get; init; }

    /// <summary>How many tokens of a pass go over the vocabulary at once.</summary>
    /// <param name="vocabulary">Size of the vocabulary.</param>
    public int ChunkOf(int vocabulary) =>
        VocabularyChunkTokens > 0 ? VocabularyChunkTokens
        : vocabulary < ChunkedVocabulary ? int.MaxValue
        : Math.Max(FewestChunkTokens, ChunkElements / vocabulary);
}
