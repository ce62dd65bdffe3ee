// The decoder on libtorch with a key/value cache: what TorchGenerationEngine steps. Invariants:
//  * its definition is that of CpuDecoder and TorchDecoder, operation by operation;
//  * row r of every cache tensor is one sequence; slot s of a row holds its token s; what lies beyond a row's tokens is finite and unseen;
//  * the last slot of a row is never a token's: pads of a batch of unequal lengths are written there at most.
// Scores are products of strided views of the cache, [rows * key heads, tokens, head size]: nothing of it is copied to be read.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model;

/// <summary>Keys, values and convolution inputs of many sequences, and the forward pass that adds to them. Not thread-safe.</summary>
internal sealed class CachedTorchDecoder : IDisposable
{
    private const int FirstRows = 8, FirstCapacity = 128;

    private readonly DecoderConfig _config;
    private readonly Device _device;
    private readonly Tensor _scale; // [MaxPositions]
    private readonly Tensor? _cos;  // [MaxPositions, dh]
    private readonly Tensor? _sin;
    private readonly Layer[] _layers;
    private Tensor? _embeddingHistory; // [rows, k - 1, D]
    private Dictionary<string, Tensor> _weights = [];
    private int _rows, _capacity;

    public CachedTorchDecoder(DecoderConfig config, ModelWeights weights, Device device)
    {
        (_config, _device) = (config, device);
        _layers = [.. Enumerable.Range(0, config.Layers).Select(_ => new Layer())];
        Load(weights);
        using DisposeScope scope = NewDisposeScope();
        _scale = tensor(TorchDecoder.ScaleTable(config), dtype: ScalarType.Float32, device: device).DetachFromDisposeScope();
        if (config.Position == PositionEncoding.Rope)
        {
            (float[] cos, float[] sin) = TorchDecoder.RopeTables(config);
            long[] shape = [config.MaxPositions, config.HeadSize];
            _cos = tensor(cos, dtype: ScalarType.Float32, device: device).view(shape).DetachFromDisposeScope();
            _sin = tensor(sin, dtype: ScalarType.Float32, device: device).view(shape).DetachFromDisposeScope();
        }
    }

    /// <summary>Replaces the weights, which must fit. What is cached is the caller's to forget.</summary>
    public void Load(ModelWeights weights)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor Of(string name) =>
            tensor(weights.Tensors[name].Data, dtype: ScalarType.Float32, device: _device).view([.. weights.Tensors[name].Shape]);
        Tensor Joined(string layer, string what) =>
            cat([.. new[] { "q", "k", "v" }.Select(part => Of($"{layer}self_attn.{part}_{what}"))]);
        var loaded = new Dictionary<string, Tensor>(StringComparer.Ordinal)
        {
            ["embed"] = Of("model.embed_tokens.weight"),
            ["norm"] = Of("model.norm.weight"),
        };
        if (!_config.TiedEmbeddings)
            loaded["head"] = Of("lm_head.weight");
        if (_config.EmbeddingConvKernel > 0)
            loaded["embed_conv"] = Of("model.embed_conv.weight");
        for (int i = 0; i < _config.Layers; i++)
        {
            string name = $"model.layers.{i}.";
            loaded[$"{i}.qkv"] = Joined(name, "proj.weight");
            if (_config.QkvBias)
                loaded[$"{i}.bias"] = Joined(name, "proj.bias");
            if (_config.ConvKernel > 0)
                loaded[$"{i}.conv"] = Joined(name, "conv.weight");
            loaded[$"{i}.out"] = Of(name + "self_attn.o_proj.weight");
            loaded[$"{i}.norm1"] = Of(name + "input_layernorm.weight");
            loaded[$"{i}.norm2"] = Of(name + "post_attention_layernorm.weight");
            loaded[$"{i}.gate_up"] = cat([Of(name + "mlp.gate_proj.weight"), Of(name + "mlp.up_proj.weight")]);
            loaded[$"{i}.down"] = Of(name + "mlp.down_proj.weight");
        }
        foreach (Tensor old in _weights.Values)
            old.Dispose();
        foreach (Tensor fresh in loaded.Values)
            fresh.DetachFromDisposeScope();
        _weights = loaded;
    }

    /// <summary>Makes room for so many sequences of so many tokens.</summary>
    public void Reserve(int rows, int tokens)
    {
        // One slot more than tokens, for pads. Doubling keeps the number of growths small.
        if (rows <= _rows && tokens < _capacity)
            return;
        int newRows = Math.Max(_rows, FirstRows), newCapacity = Math.Max(_capacity, FirstCapacity);
        while (newRows < rows)
            newRows *= 2;
        while (newCapacity <= tokens)
            newCapacity *= 2;
        using IDisposable guard = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor Grown(Tensor? old, params long[] shape)
        {
            Tensor grown = zeros(shape, dtype: ScalarType.Float32, device: _device);
            if (old is not null)
            {
                grown.narrow(0, 0, old.size(0)).narrow(1, 0, old.size(1)).copy_(old);
                old.Dispose();
            }
            return grown.DetachFromDisposeScope();
        }
        long heads = _config.KeyValueHeads;
        foreach (Layer layer in _layers)
        {
            layer.Keys = Grown(layer.Keys, newRows * heads, newCapacity, _config.HeadSize);
            layer.Values = Grown(layer.Values, newRows * heads, newCapacity, _config.HeadSize);
            if (_config.ConvKernel > 1)
                layer.History = Grown(layer.History, newRows, _config.ConvKernel - 1, (_config.Heads + 2 * heads) * _config.HeadSize);
        }
        if (_config.EmbeddingConvKernel > 1)
            _embeddingHistory = Grown(_embeddingHistory, newRows, _config.EmbeddingConvKernel - 1, _config.HiddenSize);
        (_rows, _capacity) = (newRows, newCapacity);
    }

    /// <summary>Puts one sequence in the place of another.</summary>
    public void Move(int from, int to)
    {
        using IDisposable guard = no_grad();
        using DisposeScope scope = NewDisposeScope();
        foreach ((Tensor cached, long each) in Cached())
            cached.narrow(0, to * each, each).copy_(cached.narrow(0, from * each, each));
    }

    /// <summary>Rows from <paramref name="first"/> on begin anew.</summary>
    public void Begin(int first, int count)
    {
        using IDisposable guard = no_grad();
        using DisposeScope scope = NewDisposeScope();
        // Keys and values need no clearing: nothing reads beyond a row's tokens.
        foreach (Tensor? history in _layers.Select(l => l.History).Append(_embeddingHistory))
            history?.narrow(0, first, count).zero_();
    }

    /// <summary>Adds tokens to consecutive rows.</summary>
    /// <param name="first">The first row.</param>
    /// <param name="added">For each row its new tokens, at least one.</param>
    /// <param name="computed">For each row how many it has.</param>
    /// <returns>Logits after each row's last token, [rows, vocabulary], row-major.</returns>
    public float[] Extend(int first, IReadOnlyList<ArraySegment<int>> added, IReadOnlyList<int> computed)
    {
        using IDisposable guard = no_grad();
        using DisposeScope scope = NewDisposeScope();
        var g = new Geometry(this, first, added, computed);
        Tensor x = _weights["embed"].index_select(0, g.Tokens);
        if (_config.EmbeddingConvKernel > 0)
            x = Convolve(x, _weights["embed_conv"], _embeddingHistory, g);
        for (int layer = 0; layer < _config.Layers; layer++)
        {
            Tensor next = Block(x, layer, g);
            x.Dispose();
            x = next;
        }
        Tensor last = RmsNorm(x.index_select(0, g.Last), _weights["norm"]);
        Tensor logits = nn.functional.linear(last, _weights[_config.TiedEmbeddings ? "embed" : "head"]);
        return logits.cpu().data<float>().ToArray();
    }

    public void Dispose()
    {
        foreach (Tensor weight in _weights.Values)
            weight.Dispose();
        foreach ((Tensor cached, _) in Cached())
            cached.Dispose();
        _scale.Dispose();
        _cos?.Dispose();
        _sin?.Dispose();
    }

    /// <summary>Everything that is kept of sequences, and how many consecutive lines of it one has.</summary>
    private IEnumerable<(Tensor Cached, long Each)> Cached()
    {
        foreach (Layer layer in _layers)
        {
            if (layer.Keys is not null)
                yield return (layer.Keys, _config.KeyValueHeads);
            if (layer.Values is not null)
                yield return (layer.Values, _config.KeyValueHeads);
            if (layer.History is not null)
                yield return (layer.History, 1);
        }
        if (_embeddingHistory is not null)
            yield return (_embeddingHistory, 1);
    }

    private Tensor Block(Tensor x, int layer, Geometry g)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor h = RmsNorm(x, _weights[$"{layer}.norm1"]);
        x = x + nn.functional.linear(Attend(h, layer, g), _weights[$"{layer}.out"]);
        h = nn.functional.linear(RmsNorm(x, _weights[$"{layer}.norm2"]), _weights[$"{layer}.gate_up"]);
        long inner = _config.IntermediateSize;
        h = nn.functional.silu(h.narrow(1, 0, inner)) * h.narrow(1, inner, inner);
        return (x + nn.functional.linear(h, _weights[$"{layer}.down"])).MoveToOuterDisposeScope();
    }

    /// <summary>[rows * L, D] to [rows * L, H dh].</summary>
    private Tensor Attend(Tensor h, int layer, Geometry g)
    {
        long heads = _config.Heads, kv = _config.KeyValueHeads, dh = _config.HeadSize, group = heads / kv, rows = g.Rows, length = g.Length;
        Tensor qkv = nn.functional.linear(h, _weights[$"{layer}.qkv"], _config.QkvBias ? _weights[$"{layer}.bias"] : null);
        if (_config.ConvKernel > 0)
            qkv = Convolve(qkv, _weights[$"{layer}.conv"], _layers[layer].History, g);
        Tensor all = qkv.view(rows, length, heads + (2 * kv), dh).transpose(1, 2); // [rows, H + 2 Hkv, L, dh]
        // Queries and keys turn together: fewer operations, and on a GPU it is their number that costs.
        Tensor turned = g.Rotate(all.narrow(1, 0, heads + kv));
        Tensor q = (turned.narrow(1, 0, heads) * g.Scale).reshape(rows * kv, group * length, dh);
        long lines = g.First * kv;
        Tensor keys = _layers[layer].Keys!.narrow(0, lines, rows * kv), values = _layers[layer].Values!.narrow(0, lines, rows * kv);
        keys.scatter_(1, g.Slots, turned.narrow(1, heads, kv).reshape(rows * kv, length, dh));
        values.scatter_(1, g.Slots, all.narrow(1, heads + kv, kv).reshape(rows * kv, length, dh));

        Tensor scores = q.bmm(keys.narrow(1, 0, g.Seen).transpose(1, 2)).view(rows, kv, group, length, g.Seen).masked_fill_(
            g.Hidden, float.NegativeInfinity);
        Tensor weights = nn.functional.softmax(scores, -1).view(rows * kv, group * length, g.Seen);
        return weights.bmm(values.narrow(1, 0, g.Seen)).view(rows, heads, length, dh).transpose(1, 2).reshape(rows * length, heads * dh);
    }

    /// <summary>Causal depthwise convolution of [rows * L, C] with taps [C, k]; a row goes on from its history, which moves on with it.</summary>
    private static Tensor Convolve(Tensor flat, Tensor taps, Tensor? history, Geometry g)
    {
        long channels = flat.size(1);
        Tensor padded = flat.view(g.Rows, g.Length, channels);
        if (history is not null)
        {
            Tensor own = history.narrow(0, g.First, g.Rows);
            padded = cat([own, padded], 1);
            // In the padded row, new token i sits at k - 1 + i: after n new tokens the last k - 1 are at n .. n + k - 2.
            Tensor tail = arange(own.size(1), dtype: ScalarType.Int64, device: flat.device).view(1, -1) + g.Added.view(-1, 1);
            own.copy_(padded.gather(1, tail.unsqueeze(-1).expand(-1, -1, channels)));
        }
        return nn.functional.conv1d(padded.transpose(1, 2), taps.unsqueeze(1), groups: channels).transpose(1, 2).reshape(-1, channels);
    }

    private Tensor RmsNorm(Tensor x, Tensor weight) =>
        x * rsqrt(x.square().mean([-1L], keepdim: true) + _config.NormEpsilon) * weight;

    private sealed class Layer
    {
        public Tensor? Keys { get; set; }    // [rows * Hkv, capacity, dh]
        public Tensor? Values { get; set; }
        public Tensor? History { get; set; } // [rows, k - 1, (H + 2 Hkv) dh]: unconvolved q, k, v
    }

    /// <summary>What the lengths of a step fix for every layer.</summary>
    private sealed class Geometry
    {
        private readonly Tensor? _cos; // [rows, 1, L, dh]
        private readonly Tensor? _sin;

        public Geometry(CachedTorchDecoder decoder, int first, IReadOnlyList<ArraySegment<int>> added, IReadOnlyList<int> computed)
        {
            DecoderConfig config = decoder._config;
            (First, Rows, Length) = (first, added.Count, added.Max(a => a.Count));
            long[] tokens = new long[Rows * Length], positions = new long[Rows * Length], slots = new long[Rows * Length];
            long[] last = new long[Rows], lengths = new long[Rows];
            for (int r = 0; r < Rows; r++)
            {
                ArraySegment<int> row = added[r];
                for (int i = 0; i < Length; i++)
                {
                    long at = (r * Length) + i;
                    tokens[at] = i < row.Count ? row[i] : 0;
                    positions[at] = Math.Min(computed[r] + i, config.MaxPositions - 1);
                    slots[at] = i < row.Count ? computed[r] + i : decoder._capacity - 1;
                }
                Seen = Math.Max(Seen, computed[r] + row.Count);
                (last[r], lengths[r]) = ((r * Length) + row.Count - 1, row.Count);
            }
            Device device = decoder._device;
            Tensor Ids(long[] ids) => tensor(ids, dtype: ScalarType.Int64, device: device);
            (Tokens, Last, Added) = (Ids(tokens), Ids(last), Ids(lengths));
            Tensor at0 = Ids(positions);
            long heads = config.KeyValueHeads, dh = config.HeadSize;
            Slots = Ids(slots).view(Rows, 1, Length, 1).expand(Rows, heads, Length, dh).reshape(Rows * heads, Length, dh);
            Hidden = arange(Seen, dtype: ScalarType.Int64, device: device).view(1, 1, 1, 1, Seen) > at0.view(Rows, 1, 1, Length, 1);
            Scale = decoder._scale.index_select(0, at0).view(Rows, 1, Length, 1);
            if (decoder._cos is { } cos && decoder._sin is { } sin)
                (_cos, _sin) = (cos.index_select(0, at0).view(Rows, 1, Length, dh), sin.index_select(0, at0).view(Rows, 1, Length, dh));
        }

        public long First { get; }
        public long Rows { get; }
        public long Length { get; }  // of the longest row
        public long Seen { get; }    // slots that any row reads
        public Tensor Tokens { get; } // [rows * L]
        public Tensor Last { get; }   // [rows]: where each row's last token lies among them
        public Tensor Added { get; }  // [rows]: new tokens
        public Tensor Slots { get; }  // [rows * Hkv, L, dh]
        public Tensor Hidden { get; } // [rows, 1, 1, L, seen]: true where a token does not look
        public Tensor Scale { get; }  // [rows, 1, L, 1]

        /// <summary>Rotary embedding in Qwen2's half-split form, or the input when there is none.</summary>
        public Tensor Rotate(Tensor x)
        {
            if (_cos is null || _sin is null)
                return x;
            long half = x.size(-1) / 2;
            Tensor swapped = cat([-x.narrow(-1, half, half), x.narrow(-1, 0, half)], -1);
            return (x * _cos) + (swapped * _sin);
        }
    }
}
