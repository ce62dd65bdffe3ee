// Invariants: what a request draws depends on its context, seed, options and the weights alone - not on the batch, the thread count, or
// whether its cache was built token by token or at once (DecoderCore), nor on what is kept of a carried episode or of a prompt. Every token
// carries the version of the weights that made its logits. Memory is bounded: a request's cache has room for min(context + limit,
// MaxPositions) tokens (carried: for what is visible at once), rounded up a little, and goes back to a bounded pool when it leaves, or is
// parked, bounded too; what is kept of prompts has a bound of its own. A prompt is read once however many requests of a step begin with it.
using Mem1.Model.Decoding;

namespace Mem1.Model.Generation;

/// <summary>Continuous batching on the CPU with a key/value cache, in managed code.</summary>
public sealed class CpuGenerationEngine : IGenerationEngine
{
    /// <summary>
    /// Bytes of keys and values kept of prompts unless asked otherwise: thousands of prompts of a small model, some twenty of 500 tokens of
    /// one of half a billion parameters.
    /// </summary>
    public const long StandardPromptBytes = 256L << 20;

    private readonly DecoderConfig _config;
    private readonly DecoderCore _core;
    private readonly int? _endOfText;
    private readonly StopMatcher _stops;
    private readonly WorkerPool _pool;
    private readonly Part[] _parts;
    private readonly List<Sequence> _active = [];
    private readonly CachePool _caches;
    private readonly ParkedCaches _parked;
    private readonly PromptCache _prompts;
    private PackedWeights _weights;
    private bool _disposed;

    /// <summary>Packs the weights and starts the worker threads.</summary>
    /// <param name="config">Shape of the model.</param>
    /// <param name="weights">Tensors that fit it.</param>
    /// <param name="policyVersion">Their version.</param>
    /// <param name="tokenizer">For stop strings and the end-of-text token.</param>
    /// <param name="threads">Threads that decode, the caller's included; results do not depend on it.</param>
    /// <param name="promptBytes">Most bytes kept of shared prompts; 0 keeps nothing. Results do not depend on it.</param>
    /// <exception cref="Checkpoints.CheckpointException">The weights do not fit; every misfit is listed.</exception>
    public CpuGenerationEngine(
        DecoderConfig config, ModelWeights weights, long policyVersion, ITokenizer tokenizer, int threads = 1,
        long promptBytes = StandardPromptBytes)
        : this(config, weights, policyVersion, tokenizer, threads, Simd.Best, promptBytes)
    {
    }

    internal CpuGenerationEngine(
        DecoderConfig config, ModelWeights weights, long policyVersion, ITokenizer tokenizer, int threads, SimdLevel level,
        long promptBytes = StandardPromptBytes)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentOutOfRangeException.ThrowIfNegative(promptBytes);
        _config = config;
        _core = DecoderCore.Create(config, level);
        _weights = new PackedWeights(_core.Shape, weights);
        PolicyVersion = policyVersion;
        _endOfText = tokenizer.EndOfText;
        _stops = new StopMatcher(tokenizer);
        _pool = new WorkerPool(threads);
        _caches = new CachePool(_core.Shape);
        _parked = new ParkedCaches(_caches);
        _prompts = new PromptCache(_core.Shape, promptBytes);
        _parts = [.. Enumerable.Range(0, threads).Select(_ => new Part(this))];
    }

    /// <inheritdoc/>
    public long PolicyVersion { get; private set; }

    /// <inheritdoc/>
    public int Active => _active.Count;

    /// <inheritdoc/>
    public long GeneratedTokens { get; private set; }

    /// <inheritdoc/>
    public long PrefillTokens { get; private set; }

    /// <inheritdoc/>
    public long ReusedTokens { get; private set; }

    /// <summary>What is kept of prompts.</summary>
    internal PromptCache Prompts => _prompts;

    /// <inheritdoc/>
    public void Submit(GenerationRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        ObjectDisposedException.ThrowIf(_disposed, this);
        var room = new CarriedRoom(request.Context.Length, 0);
        if (request.Carry is null)
            TokenChecks.Require(_config, request.Context);
        else
            room = CarriedRoom.Of(_config, request);
        int limit = ActiveRequest.Room(_config, request, room.Taken);
        ActiveRequest.Require(request, _active.Exists(s => s.Request.Id == request.Id));
        int total = request.Context.Length + limit;
        // The last token drawn is never fed back.
        int capacity = request.Carry is null ? total - 1 : Math.Max(room.Largest, room.Visible + limit - 1);
        _active.Add(new Sequence(request, total, _parked.Take(request, capacity) ?? _caches.Rent(capacity), _prompts.Enabled));
    }

    /// <inheritdoc/>
    public void Release(long episode) => _parked.Release(episode);

    /// <inheritdoc/>
    public void Cancel(long id)
    {
        int index = _active.FindIndex(s => s.Request.Id == id);
        if (index < 0)
            return;
        _caches.Return(_active[index].Cache);
        _active.RemoveAt(index);
    }

    /// <inheritdoc/>
    /// <exception cref="ArithmeticException">The weights give logits that are not finite.</exception>
    public IReadOnlyList<GenerationResult> Step()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_active.Count == 0)
            return [];
        PlacePrompts();
        foreach (Sequence sequence in _active)
            PrefillTokens += sequence.Pending == 1 && sequence.Generated.Count > 0 ? 0 : sequence.Pending;
        int parts = Divide(_active);
        _pool.Run(parts, part => _parts[part].Run());
        GeneratedTokens += _active.Count;

        List<GenerationResult>? finished = null;
        int kept = 0;
        for (int i = 0; i < _active.Count; i++)
        {
            Sequence sequence = _active[i];
            sequence.Report();
            if (sequence.Finish is null)
            {
                _active[kept++] = sequence;
                continue;
            }
            (finished ??= []).Add(sequence.Result());
            if (sequence.Request.Carry is null)
                _caches.Return(sequence.Cache);
            else
                _parked.Put(sequence.Request.Carry, sequence.Tokens, sequence.Cache);
        }
        _active.RemoveRange(kept, _active.Count - kept);
        return finished ?? (IReadOnlyList<GenerationResult>)[];
    }

    /// <inheritdoc/>
    /// <exception cref="Checkpoints.CheckpointException">The weights do not fit; the old ones stay in place.</exception>
    public void SwapWeights(ModelWeights weights, long policyVersion)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var packed = new PackedWeights(_core.Shape, weights);
        _weights.Dispose();
        _weights = packed;
        PolicyVersion = policyVersion;
        foreach (Sequence sequence in _active)
            sequence.Cache.Clear();
        _parked.Clear();
        _prompts.Clear();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _pool.Dispose();
        foreach (Sequence sequence in _active)
            sequence.Cache.Dispose();
        _parked.Clear();
        _prompts.Dispose();
        _caches.Dispose();
        foreach (Part part in _parts)
            part.Dispose();
        _weights.Dispose();
    }

    /// <summary>
    /// Gives every sequence that has nothing computed its prompt: copied where it is kept, otherwise read once for all that share it.
    /// </summary>
    private void PlacePrompts()
    {
        List<Sequence>? readers = null, waiting = null;
        foreach (Sequence sequence in _active)
        {
            if (sequence.Prompt == 0 || sequence.Cache.Computed > 0)
                continue;
            if (_prompts.TryCopy(sequence.PromptTokens, sequence.Cache))
                ReusedTokens += sequence.Prompt;
            else if (readers?.Exists(r => r.PromptTokens.SequenceEqual(sequence.PromptTokens)) == true)
                (waiting ??= []).Add(sequence);
            else
                (readers ??= []).Add(sequence);
        }
        if (readers is null)
            return;
        int parts = Divide(readers);
        _pool.Run(parts, part => _parts[part].ReadPrompts());
        foreach (Sequence reader in readers)
        {
            PrefillTokens += reader.Prompt;
            _prompts.Put(reader.PromptTokens, reader.Cache);
        }
        foreach (Sequence sequence in waiting ?? [])
        {
            // From the one that read it, not from what is kept: that may be too small for it.
            readers.Find(r => r.PromptTokens.SequenceEqual(sequence.PromptTokens))!.Cache.CopyTo(sequence.Cache);
            ReusedTokens += sequence.Prompt;
        }
    }

    /// <summary>Deals whole sequences to the threads, the heaviest first, each to the thread with the least to do.</summary>
    private int Divide(List<Sequence> sequences)
    {
        foreach (Part part in _parts)
            part.Sequences.Clear();
        int parts = Math.Min(_parts.Length, sequences.Count);
        if (parts == 1)
        {
            _parts[0].Sequences.AddRange(sequences);
            return 1;
        }
        Span<long> load = stackalloc long[parts];
        foreach (Sequence sequence in sequences.OrderByDescending(s => s.Pending))
        {
            int least = 0;
            for (int i = 1; i < parts; i++)
                least = load[i] < load[least] ? i : least;
            load[least] += sequence.Pending;
            _parts[least].Sequences.Add(sequence);
        }
        return parts;
    }

    /// <summary>One thread's share of a step.</summary>
    private sealed unsafe class Part(CpuGenerationEngine engine) : ILogitsSink, IDisposable
    {
        private readonly Workspace _workspace = new(engine._core.Shape);
        private readonly Sampler _sampler = new(engine._config.VocabularySize);
        private SequenceStep[] _steps = [];

        public List<Sequence> Sequences { get; } = [];

        /// <summary>Reads the prompts of its sequences, which have nothing computed, and draws nothing.</summary>
        public void ReadPrompts()
        {
            MakeRoom();
            for (int i = 0; i < Sequences.Count; i++)
                _steps[i] = new SequenceStep(Sequences[i].Cache, Sequences[i].Tokens, 0, Sequences[i].Prompt, WantedLogits.None);
            engine._core.Run(engine._weights, _steps.AsSpan(0, Sequences.Count), _workspace, this);
        }

        public void Run()
        {
            MakeRoom();
            for (int i = 0; i < Sequences.Count; i++)
            {
                Sequence s = Sequences[i];
                if (s.Request.Carry is { } carry)
                    BeginTurns(s, carry);
                _steps[i] = new SequenceStep(s.Cache, s.Tokens, s.Cache.Computed, s.Pending);
            }
            engine._core.Run(engine._weights, _steps.AsSpan(0, Sequences.Count), _workspace, this);
        }

        private void MakeRoom()
        {
            if (_steps.Length < Sequences.Count)
                _steps = new SequenceStep[Math.Max(Sequences.Count, 2 * _steps.Length)];
        }

        /// <summary>Begins every turn whose first token is about to be computed; mostly none, one in a turn's second step.</summary>
        private void BeginTurns(Sequence s, CarriedEpisode carry)
        {
            SequenceCache cache = s.Cache;
            int start = carry.Prompt;
            for (int turn = 0; turn <= carry.Turns.Count && start < s.Length; turn++)
            {
                if (turn == cache.TurnsBegun)
                {
                    if (cache.Computed < start)
                    {
                        var step = new SequenceStep(cache, s.Tokens, cache.Computed, start - cache.Computed, WantedLogits.None);
                        engine._core.Run(engine._weights, [step], _workspace, this);
                    }
                    if (turn == 0)
                        cache.BeginFirstTurn();
                    else
                        cache.BeginTurn(carry.Prompt, carry.Turns[turn - 1].Length - carry.Turns[turn - 1].Discarded);
                }
                start += turn < carry.Turns.Count ? carry.Turns[turn].Length : 0;
            }
        }

        public void Accept(int step, int token, float* logits) => Sequences[step].Draw(
            new ReadOnlySpan<float>(logits, engine._config.VocabularySize), _sampler, engine.PolicyVersion, engine._endOfText, engine._stops);

        public void Dispose() => _workspace.Dispose();
    }

    /// <summary>A request in flight and its cache.</summary>
    private sealed class Sequence : ActiveRequest
    {
        public Sequence(GenerationRequest request, int total, SequenceCache cache, bool keepsPrompts)
            : base(request, total)
        {
            Cache = cache;
            // Carried episodes keep more than their prompt, in a place of their own.
            Prompt = keepsPrompts && request.Carry is null ? Math.Max(request.SharedPrompt - 1, 0) : 0;
        }

        public SequenceCache Cache { get; }

        /// <summary>
        /// Tokens of the prompt that are shared: all but the last, after which the first turn draws and which is therefore always computed.
        /// </summary>
        public int Prompt { get; }

        public ReadOnlySpan<int> PromptTokens => Tokens.AsSpan(0, Prompt);

        /// <summary>Tokens not in the cache yet.</summary>
        public int Pending => Length - Cache.Computed;
    }
}
