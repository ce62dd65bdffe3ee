// Invariants: every token carries the version of the weights that made its logits, and is drawn on the CPU by the sampler that the managed
// engine uses, from the request's own stream. Sequences whose tokens are computed come first among the rows, so that a step is one pass over
// them with one token each and one or more over the new ones. Products of libtorch depend on the batch in their last bits, and so do
// log-probs here; the managed engine's do not.
using Mem1.Model.Checkpoints;
using Mem1.Model.Decoding;
using Mem1.Model.Generation;
using TorchSharp;

namespace Mem1.Model;

/// <summary>
/// Continuous batching on libtorch with a key/value cache, for GPUs; on a CPU <see cref="CpuGenerationEngine"/> is faster. Its cache is one
/// block: as many rows as there were requests at once, each as long as the longest was. Prompts are read anew each turn; carried
/// episodes are refused.
/// </summary>
public sealed class TorchGenerationEngine : IGenerationEngine
{
    /// <summary>
    /// Tokens of one sequence that are read at once, and of all sequences of one pass, pads included: scores of 512 tokens over a
    /// context of 32,768 are 64 MiB a head, and a pass of 4096 tokens keeps a GPU busy.
    /// </summary>
    private const int LongestPiece = 512, LargestPass = 4096;

    private readonly DecoderConfig _config;
    private readonly CachedTorchDecoder _decoder;
    private readonly List<Sequence> _active = [];
    private readonly Sampler _sampler;
    private readonly StopMatcher _stops;
    private readonly int? _endOfText;
    private bool _disposed;

    /// <summary>Takes the weights to the device.</summary>
    /// <param name="config">Shape of the model.</param>
    /// <param name="weights">Tensors that fit it.</param>
    /// <param name="policyVersion">Their version.</param>
    /// <param name="tokenizer">For stop strings and the end-of-text token.</param>
    /// <param name="device">Where the model and the caches live.</param>
    /// <exception cref="CheckpointException">The weights do not fit; every misfit is listed.</exception>
    public TorchGenerationEngine(DecoderConfig config, ModelWeights weights, long policyVersion, ITokenizer tokenizer, torch.Device device)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(tokenizer);
        WeightLayout.Require(config, weights, "the weight set");
        _config = config;
        _decoder = new CachedTorchDecoder(config, weights, device);
        PolicyVersion = policyVersion;
        _sampler = new Sampler(config.VocabularySize);
        _stops = new StopMatcher(tokenizer);
        _endOfText = tokenizer.EndOfText;
    }

    /// <inheritdoc/>
    public long PolicyVersion { get; private set; }

    /// <inheritdoc/>
    public int Active => _active.Count;

    /// <inheritdoc/>
    public long GeneratedTokens { get; private set; }

    /// <inheritdoc/>
    public long PrefillTokens { get; private set; }

    /// <summary>Sequences whose tokens but the newest are computed: the first rows.</summary>
    private int Running => _active.TakeWhile(s => s.Computed > 0).Count();

    /// <inheritdoc/>
    public void Submit(GenerationRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (request.Carry is not null)
            throw new ArgumentException("this engine cannot carry an episode's memory on; let the context be read anew.", nameof(request));
        TokenChecks.Require(_config, request.Context);
        int limit = ActiveRequest.Room(_config, request, request.Context.Length);
        ActiveRequest.Require(request, _active.Exists(s => s.Request.Id == request.Id));
        _active.Add(new Sequence(request, request.Context.Length + limit));
    }

    /// <inheritdoc/>
    public void Cancel(long id)
    {
        int index = _active.FindIndex(s => s.Request.Id == id);
        if (index >= 0)
            Remove(index);
    }

    /// <inheritdoc/>
    /// <exception cref="ArithmeticException">The weights give logits that are not finite.</exception>
    public IReadOnlyList<GenerationResult> Step()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_active.Count == 0)
            return [];
        // Room for what is computed in this step; it grows as sequences do.
        _decoder.Reserve(_active.Count, _active.Max(s => s.Length));
        int running = Running;
        if (running > 0)
            Extend(0, running);
        if (running < _active.Count)
        {
            _decoder.Begin(running, _active.Count - running);
            PrefillTokens += _active.Skip(running).Sum(s => (long)s.Length);
        }
        for (int from = running; from < _active.Count;)
        {
            // A long context by itself until what is left of it is short; then as many as fit one pass.
            for (; _active[from].Pending > LongestPiece; _active[from].Computed += LongestPiece)
            {
                Sequence row = _active[from];
                _decoder.Extend(from, [new ArraySegment<int>(row.Tokens, row.Computed, LongestPiece)], [row.Computed]);
            }
            int count = 1, longest = _active[from].Pending;
            while (from + count < _active.Count && _active[from + count].Pending <= LongestPiece)
            {
                longest = Math.Max(longest, _active[from + count].Pending);
                if ((count + 1) * longest > LargestPass)
                    break;
                count++;
            }
            Extend(from, count);
            from += count;
        }
        GeneratedTokens += _active.Count;

        foreach (Sequence sequence in _active)
            sequence.Report();
        GenerationResult[] finished = [.. _active.Where(s => s.Finish is not null).Select(s => s.Result())];
        for (int i = _active.Count - 1; i >= 0 && finished.Length > 0; i--)
        {
            if (_active[i].Finish is not null)
                Remove(i);
        }
        return finished;
    }

    /// <inheritdoc/>
    /// <exception cref="CheckpointException">The weights do not fit; the old ones stay in place.</exception>
    public void SwapWeights(ModelWeights weights, long policyVersion)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        WeightLayout.Require(_config, weights, "the weight set");
        _decoder.Load(weights);
        PolicyVersion = policyVersion;
        foreach (Sequence sequence in _active)
            sequence.Computed = 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _decoder.Dispose();
    }

    /// <summary>Computes all that is pending of consecutive rows and draws a token for each.</summary>
    private void Extend(int first, int count)
    {
        List<Sequence> rows = _active.GetRange(first, count);
        float[] logits = _decoder.Extend(
            first, [.. rows.Select(s => new ArraySegment<int>(s.Tokens, s.Computed, s.Pending))], [.. rows.Select(s => s.Computed)]);
        for (int i = 0; i < count; i++)
        {
            rows[i].Computed = rows[i].Length;
            rows[i].Draw(
                logits.AsSpan(i * _config.VocabularySize, _config.VocabularySize), _sampler, PolicyVersion, _endOfText, _stops);
        }
    }

    /// <summary>Takes a sequence out; the last of those that are computed goes into its row, and those not begun have nothing to move.</summary>
    private void Remove(int index)
    {
        int running = Running;
        if (index >= running)
        {
            _active.RemoveAt(index);
            return;
        }
        int last = running - 1;
        if (index != last)
        {
            _decoder.Move(last, index);
            _active[index] = _active[last];
        }
        _active.RemoveAt(last);
    }

    private sealed class Sequence(GenerationRequest request, int total) : ActiveRequest(request, total)
    {
        /// <summary>Tokens in the cache.</summary>
        public int Computed { get; set; }

        public int Pending => Length - Computed;
    }
}
