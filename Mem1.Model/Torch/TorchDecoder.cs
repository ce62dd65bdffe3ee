// The decoder of the gradient pass. Keeps:
//  * its definition is that of CpuDecoder, operation by operation (the parity gauge measures how well);
//  * trunk and rows travel as one flat [M, D] through every pointwise operation; only attention and the convolutions tell them apart;
//  * the largest mask is [R, 1, 1, L, P + L], or [R, 1, 1, L, P + 2 L] with links: linear in the number of turns;
//  * what backward does not need is freed as soon as it is used (a scope per block, and one around the scores): held until the end of a
//    step, such tensors were half of its memory;
//  * in bfloat16 the products are rounded, nothing else: parameters, their gradients, the residual stream, norms, softmax and convolutions
//    stay float32. In float32 not one operation is added.
using System.Diagnostics;
using Mem1.Model.Adapters;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model;

/// <summary>
/// Qwen2-family decoder with value head on libtorch, over <see cref="TurnBatch"/>es. Not thread-safe. Tensors it returns belong to the
/// caller's dispose scope.
/// </summary>
public sealed class TorchDecoder : IDisposable
{
    private readonly Device _device;
    private readonly Tensor? _ropeCos; // [MaxPositions, dh]
    private readonly Tensor? _ropeSin;
    private readonly Tensor _scale;    // [MaxPositions]: what the logits of a query at that position are multiplied with

    /// <summary>Takes the weights to a device.</summary>
    /// <param name="config">The shape.</param>
    /// <param name="weights">Copied; trained in float32 whatever the precision.</param>
    /// <param name="device">Where everything lives.</param>
    /// <param name="precision">Of the matrix products.</param>
    /// <param name="adapter">Trained instead of the weights; null trains these.</param>
    public TorchDecoder(
        DecoderConfig config, ModelWeights weights, Device device, ComputePrecision precision = ComputePrecision.Float32,
        LoraAdapter? adapter = null)
    {
        Config = config;
        Precision = precision;
        _device = device;
        Parameters = new FlatParameters(weights, device, adapter);
        using var scope = NewDisposeScope();
        _scale = torch.tensor(ScaleTable(config), dtype: ScalarType.Float32, device: device).DetachFromDisposeScope();
        if (config.Position == PositionEncoding.Rope)
        {
            var (cos, sin) = RopeTables(config);
            long[] shape = [config.MaxPositions, config.HeadSize];
            _ropeCos = torch.tensor(cos, dtype: ScalarType.Float32, device: device).view(shape).DetachFromDisposeScope();
            _ropeSin = torch.tensor(sin, dtype: ScalarType.Float32, device: device).view(shape).DetachFromDisposeScope();
        }
    }

    /// <summary>The shape.</summary>
    public DecoderConfig Config { get; }

    /// <summary>Of the matrix products.</summary>
    public ComputePrecision Precision { get; }

    /// <summary>The parameters and their gradients.</summary>
    public FlatParameters Parameters { get; }

    /// <summary>Time spent so far on masks, positions and token ids of passes: what the device waits for before it can compute.</summary>
    public TimeSpan Preparing { get; private set; }

    /// <summary>Whether the checkpoint carries a value head.</summary>
    public bool HasValueHead => Parameters.Find("value_head.fc1.weight") is not null;

    /// <summary>
    /// Final hidden states of all rows, flattened: [R * L, D]; index with <see cref="TurnBatch.FlatIndex"/>. Pads hold rubbish.
    /// </summary>
    /// <exception cref="ArgumentException">A turn is longer than MaxPositions.</exception>
    public Tensor Forward(TurnBatch batch)
    {
        using var scope = NewDisposeScope();
        var g = GeometryOf(batch);
        var x = Embed(g);
        for (var layer = 0; layer < Config.Layers; layer++)
        {
            var next = Block(x, layer, g);
            x.Dispose();
            x = next;
        }

        return FinalNorm(x).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// As <see cref="Forward"/>, but what backward needs of a block is computed again when it is needed: memory holds the input of every
    /// block and the inside of one, for one more forward pass (gradient checkpointing, Chen et al., arXiv 1604.06174).
    /// </summary>
    /// <exception cref="ArgumentException">A turn is longer than MaxPositions.</exception>
    public CheckpointedForward ForwardCheckpointed(TurnBatch batch)
    {
        using var scope = NewDisposeScope();
        var g = GeometryOf(batch);
        var stages = new List<Func<Tensor, Tensor>>();
        for (var layer = 0; layer < Config.Layers; layer++)
        {
            var index = layer;
            stages.Add(index < Config.Layers - 1 ? x => Block(x, index, g) : x => FinalNorm(Block(x, index, g)));
        }

        return new CheckpointedForward(() => Embed(g), stages, [.. g.Tensors.Select(t => t.DetachFromDisposeScope())]);
    }

    /// <summary>Logits of hidden states: [N, D] to [N, V].</summary>
    public Tensor Logits(Tensor hidden) =>
        Widened(Linear(hidden, Parameters[Config.TiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"]));

    /// <summary>
    /// Values of hidden states: [N, D] to [N]. The trunk is detached: a critic of a small model that pulls at shared features unlearns the
    /// policy (tiny-model measurements), so it reads them only.
    /// </summary>
    public Tensor Values(Tensor hidden)
    {
        var h = nn.functional.linear(hidden.detach(), Parameters["value_head.fc1.weight"], Parameters["value_head.fc1.bias"]);
        return nn.functional.linear(nn.functional.relu(h), Parameters["value_head.fc2.weight"], Parameters["value_head.fc2.bias"]).squeeze(-1);
    }

    /// <summary>The largest position plus one (where positions count) or the largest number of visible tokens of a row.</summary>
    private int LongestReach(TurnBatch batch, int row, int length)
    {
        if (batch.Links is null) return batch.Start(row) + length;
        var visible = Enumerable.Range(0, length).Max(i => batch.Visible(row, i));
        return Config.Position == PositionEncoding.Rope ? Math.Max(visible, batch.Start(row) + length) : visible;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Parameters.Dispose();
        _scale.Dispose();
        _ropeCos?.Dispose();
        _ropeSin?.Dispose();
    }

    private Geometry GeometryOf(TurnBatch batch)
    {
        var longest = batch.Rows.Select((row, r) => LongestReach(batch, r, row.Length)).Max();
        if (longest > Config.MaxPositions)
        {
            throw new ArgumentException(
                $"A turn of {longest} tokens exceeds max_position_embeddings ({Config.MaxPositions}).", nameof(batch));
        }

        var began = Stopwatch.GetTimestamp();
        var geometry = new Geometry(batch, _device, _scale, _ropeCos, _ropeSin, Config);
        Preparing += Stopwatch.GetElapsedTime(began);
        return geometry;
    }

    /// <summary>Token embeddings with their convolution, [M, D].</summary>
    private Tensor Embed(Geometry g)
    {
        var x = Parameters["model.embed_tokens.weight"].index_select(0, g.Tokens);
        return Config.EmbeddingConvKernel > 0
            ? Convolve(x, Parameters["model.embed_conv.weight"], Config.EmbeddingConvKernel, g)
            : x;
    }

    private Tensor FinalNorm(Tensor x) => RmsNorm(x, Parameters["model.norm.weight"]);

    /// <summary>A product in the precision of the products; the result has it too.</summary>
    private Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null) =>
        nn.functional.linear(Narrowed(x), Narrowed(weight), bias is null ? null : Narrowed(bias));

    private Tensor Narrowed(Tensor x) => Precision == ComputePrecision.Bf16 ? x.to(ScalarType.BFloat16) : x;

    private Tensor Widened(Tensor x) => Precision == ComputePrecision.Bf16 ? x.to(ScalarType.Float32) : x;

    /// <summary>One decoder block, [M, D] to [M, D]; the last one gives rows only, [R * L, D].</summary>
    private Tensor Block(Tensor x, int layer, Geometry g)
    {
        using var scope = NewDisposeScope();
        var name = $"model.layers.{layer}.";
        var last = layer == Config.Layers - 1;
        var attended = Attend(RmsNorm(x, Parameters[name + "input_layernorm.weight"]), name + "self_attn.", g, rowsOnly: last);
        // In the last block nobody reads the trunk's output any more: only its keys and values mattered.
        if (last) x = x.narrow(0, g.TrunkTokens, g.RowTokens);
        x = x + Linear(attended, Parameters[name + "self_attn.o_proj.weight"]);
        var h = RmsNorm(x, Parameters[name + "post_attention_layernorm.weight"]);
        var gate = nn.functional.silu(Linear(h, Parameters[name + "mlp.gate_proj.weight"]));
        var up = Linear(h, Parameters[name + "mlp.up_proj.weight"]);
        return (x + Linear(gate * up, Parameters[name + "mlp.down_proj.weight"])).MoveToOuterDisposeScope();
    }

    private Tensor Attend(Tensor h, string name, Geometry g, bool rowsOnly)
    {
        long heads = Config.Heads, kv = Config.KeyValueHeads, dh = Config.HeadSize;
        var weight = torch.cat([Parameters[name + "q_proj.weight"], Parameters[name + "k_proj.weight"], Parameters[name + "v_proj.weight"]]);
        var bias = Config.QkvBias
            ? torch.cat([Parameters[name + "q_proj.bias"], Parameters[name + "k_proj.bias"], Parameters[name + "v_proj.bias"]])
            : null;
        var qkv = Linear(h, weight, bias); // [M, (H + 2 Hkv) dh]
        if (Config.ConvKernel > 0)
        {
            var taps = torch.cat([Parameters[name + "q_conv.weight"], Parameters[name + "k_conv.weight"], Parameters[name + "v_conv.weight"]]);
            qkv = Narrowed(Convolve(Widened(qkv), taps, Config.ConvKernel, g));
        }

        // [B, W, heads, dh] -> [B, heads, W, dh]
        Tensor Heads(Tensor flat, long batch, long width, long first, long count) =>
            flat.view(batch, width, heads + (2 * kv), dh).narrow(2, first, count).transpose(1, 2);

        var trunk = qkv.narrow(0, 0, g.TrunkTokens);
        var rows = qkv.narrow(0, g.TrunkTokens, g.RowTokens);
        var trunkK = Narrowed(g.Rotate(Heads(trunk, g.T, g.P, heads, kv), g.TrunkRope));
        // A copy of a few rows: as a view it would keep all of qkv alive until backward.
        var trunkV = Heads(trunk, g.T, g.P, heads + kv, kv).contiguous();
        var rowQ = Narrowed(g.Rotate(Heads(rows, g.R, g.L, 0, heads), g.RowRope) * g.RowScale);
        var rowK = Narrowed(g.Rotate(Heads(rows, g.R, g.L, heads, kv), g.RowRope));
        var rowV = Heads(rows, g.R, g.L, heads + kv, kv);

        // Copying a trunk's keys and values into each of its rows is as fast as splitting the scores in two (measured), and simpler.
        // So it is with the previous row's, where rows go on from each other.
        Tensor[] Sources(Tensor ofTrunk, Tensor ofRow) => g.PreviousRow is { } previous
            ? [ofTrunk.index_select(0, g.TrunkOfRow), ofRow.index_select(0, previous), ofRow]
            : [ofTrunk.index_select(0, g.TrunkOfRow), ofRow];

        var keys = torch.cat(Sources(trunkK, rowK), 2);   // [R, Hkv, P + L or P + 2 L, dh]
        var values = torch.cat(Sources(trunkV, rowV), 2);
        var rowOut = Softmax(rowQ, keys, values, g.RowBias, g.R, g.L);
        if (rowsOnly) return rowOut;

        var trunkQ = Narrowed(g.Rotate(Heads(trunk, g.T, g.P, 0, heads), g.TrunkRope) * g.TrunkScale);
        return torch.cat([Softmax(trunkQ, trunkK, trunkV, g.TrunkBias, g.T, g.P), rowOut]);
    }

    /// <summary>q [B, H, W, dh], k and v [B, Hkv, S, dh], bias [B or 1, 1, 1, W, S] -> [B * W, H dh].</summary>
    private Tensor Softmax(Tensor q, Tensor k, Tensor v, Tensor bias, long batch, long width)
    {
        using var scope = NewDisposeScope();
        long heads = Config.Heads, kv = Config.KeyValueHeads, dh = Config.HeadSize, group = heads / kv, source = k.size(2);
        // Query heads of one group share a key head: they become extra rows of the same product instead of copies of the keys.
        var scores = torch.matmul(q.reshape(batch, kv, group * width, dh), k.transpose(-1, -2)).view(batch, kv, group, width, source);
        var weights = Narrowed(nn.functional.softmax(scores + bias, -1)).view(batch, kv, group * width, source);
        return torch.matmul(weights, v).view(batch, heads, width, dh).transpose(1, 2).reshape(batch * width, heads * dh)
            .MoveToOuterDisposeScope();
    }

    /// <summary>Causal depthwise convolution of flat [M, C] with taps [C, k]; a row continues its trunk, or what its link says.</summary>
    private static Tensor Convolve(Tensor flat, Tensor taps, int kernel, Geometry g)
    {
        var channels = flat.size(1);
        var before = kernel - 1;
        var zeros = torch.zeros([g.T, before, channels], dtype: flat.dtype, device: flat.device);
        var trunk = torch.cat([zeros, flat.narrow(0, 0, g.TrunkTokens).view(g.T, g.P, channels)], 1);     // [T, k-1+P, C]
        Tensor tails;
        if (g.PreviousRow is not null)
        {
            var origin = torch.zeros([1, channels], dtype: flat.dtype, device: flat.device); // what comes before a sequence
            tails = torch.cat([origin, flat]).index_select(0, g.TailIndex(before)).view(g.R, before, channels);
        }
        else
        {
            // In the padded trunk, position p sits at p + k - 1: the last k-1 of a trunk of length n are at n .. n + k - 2.
            tails = trunk.gather(1, g.TailIndex(before).unsqueeze(-1).expand(-1, -1, channels)).index_select(0, g.TrunkOfRow);
        }

        var rows = torch.cat([tails, flat.narrow(0, g.TrunkTokens, g.RowTokens).view(g.R, g.L, channels)], 1);
        var weight = taps.unsqueeze(1);
        Tensor Run(Tensor padded) =>
            nn.functional.conv1d(padded.transpose(1, 2), weight, groups: channels).transpose(1, 2).reshape(-1, channels);
        return torch.cat([Run(trunk), Run(rows)]);
    }

    private Tensor RmsNorm(Tensor x, Tensor weight) =>
        x * torch.rsqrt(x.square().mean([-1L], keepdim: true) + Config.NormEpsilon) * weight;

    internal static float[] ScaleTable(DecoderConfig config)
    {
        var table = new float[config.MaxPositions];
        for (var p = 0; p < table.Length; p++)
        {
            // ln 64 is where the scale equals the standard one: the size of context the built-in model mostly sees.
            var factor = config.AttentionScale == AttentionScale.LogN ? Math.Log(p + 1) / Math.Log(64) : 1.0;
            table[p] = (float)(factor / Math.Sqrt(config.HeadSize));
        }

        return table;
    }

    internal static (float[] Cos, float[] Sin) RopeTables(DecoderConfig config)
    {
        int half = config.HeadSize / 2;
        var cos = new float[config.MaxPositions * config.HeadSize];
        var sin = new float[cos.Length];
        for (var p = 0; p < config.MaxPositions; p++)
        {
            for (var i = 0; i < half; i++)
            {
                var angle = p * Math.Pow(config.RopeTheta, -2.0 * i / config.HeadSize);
                var at = (p * config.HeadSize) + i;
                cos[at] = cos[at + half] = (float)Math.Cos(angle);
                sin[at] = sin[at + half] = (float)Math.Sin(angle);
            }
        }

        return (cos, sin);
    }

    /// <summary>What a batch's shape fixes for every layer: token ids, masks, positions.</summary>
    private sealed class Geometry
    {
        private readonly Dictionary<int, Tensor> _tails = [];

        public Geometry(TurnBatch batch, Device device, Tensor scale, Tensor? cos, Tensor? sin, DecoderConfig config)
        {
            (T, P, R, L) = (batch.Trunks.Count, batch.TrunkWidth, batch.Rows.Count, batch.RowWidth);
            long[] trunkLengths = [.. batch.Trunks.Select(t => (long)t.Length)];

            var tokens = new long[TrunkTokens + RowTokens];
            for (var t = 0; t < T; t++) batch.Trunks[t].Select(i => (long)i).ToArray().CopyTo(tokens, t * P);
            for (var r = 0; r < R; r++) batch.Rows[r].Select(i => (long)i).ToArray().CopyTo(tokens, TrunkTokens + (r * L));
            Tokens = torch.tensor(tokens, dtype: ScalarType.Int64, device: device);
            TrunkOfRow = torch.tensor(batch.TrunkOfRow.Select(i => (long)i).ToArray(), dtype: ScalarType.Int64, device: device);

            // Keys of a row, in order: its trunk's [P], with links those of the row it goes on from [L], its own [L].
            var previous = batch.Links is null ? 0 : L;
            var source = P + previous + L;
            var rowPositions = new long[RowTokens];
            var rowVisible = new long[RowTokens];
            var rowBias = new float[R * L * source];
            for (var r = 0; r < R; r++)
            {
                var start = batch.Start(r);
                var before = batch.Links is { } links && links[r].Previous >= 0 ? batch.Rows[links[r].Previous].Length : 0;
                for (var i = 0; i < L; i++)
                {
                    // Nobody sees a pad; it sees something, so that no softmax is over nothing.
                    var real = i < batch.Rows[r].Length;
                    var view = batch.Links is not null && !real
                        ? new TokenView(0, TokenView.Nothing, 0)
                        : batch.View(r, Math.Min(i, batch.Rows[r].Length - 1));
                    rowPositions[(r * L) + i] = Math.Min(start + i, config.MaxPositions - 1); // beyond it only pads
                    rowVisible[(r * L) + i] = batch.Links is null ? rowPositions[(r * L) + i] : real ? batch.Visible(r, i) - 1 : 0;
                    var line = rowBias.AsSpan(checked((int)(((r * L) + i) * source)), (int)source);
                    line[view.Trunk..(int)P].Fill(float.NegativeInfinity);
                    var seen = line.Slice((int)P, (int)previous);
                    seen[..(int)Math.Min(view.Previous, previous)].Fill(float.NegativeInfinity);
                    if (view.Previous < previous) seen[before..].Fill(float.NegativeInfinity);
                    line.Slice((int)(P + previous), view.Own).Fill(float.NegativeInfinity);
                    line[(int)(P + previous + i + 1)..].Fill(float.NegativeInfinity);
                }
            }

            // Pads at the end of a trunk are seen by nobody but later pads, so the trunk's own mask is plain causal.
            var trunkBias = new float[P * P];
            for (var i = 0; i < P; i++) trunkBias.AsSpan((int)((i * P) + i + 1), (int)(P - i - 1)).Fill(float.NegativeInfinity);
            RowBias = torch.tensor(rowBias, dtype: ScalarType.Float32, device: device).view(R, 1, 1, L, source);
            TrunkBias = torch.tensor(trunkBias, dtype: ScalarType.Float32, device: device).view(1, 1, 1, P, P);

            // Made here and not on first use: a tensor made within a block would end with the block.
            foreach (var before in new[] { config.ConvKernel - 1, config.EmbeddingConvKernel - 1 }.Where(b => b >= 0).Distinct())
            {
                var at = batch.Links is null
                    ? trunkLengths.SelectMany(n => Enumerable.Range(0, before).Select(i => n + i)).ToArray()
                    : Enumerable.Range(0, (int)R).SelectMany(r => LinkedTail(batch, r, before)).ToArray();
                _tails.Add(before, torch.tensor(at, dtype: ScalarType.Int64, device: device).view(batch.Links is null ? T : R, before));
            }

            if (batch.Links is { } all)
            {
                long[] from = [.. all.Select(l => (long)Math.Max(l.Previous, 0))]; // a row without one masks it whole
                PreviousRow = torch.tensor(from, dtype: ScalarType.Int64, device: device);
                foreach (var (before, tail) in _tails.ToArray()) _tails[before] = tail.view(-1);
            }

            var positions = torch.tensor(rowPositions, dtype: ScalarType.Int64, device: device);
            var visible = batch.Links is null ? positions : torch.tensor(rowVisible, dtype: ScalarType.Int64, device: device);
            RowScale = scale.index_select(0, visible).view(R, 1, L, 1);
            TrunkScale = scale.narrow(0, 0, P).view(1, 1, P, 1);
            if (cos is not null && sin is not null)
            {
                RowRope = (cos.index_select(0, positions).view(R, 1, L, -1), sin.index_select(0, positions).view(R, 1, L, -1));
                TrunkRope = (cos.narrow(0, 0, P).view(1, 1, P, -1), sin.narrow(0, 0, P).view(1, 1, P, -1));
            }
        }

        public long T { get; }
        public long P { get; }
        public long R { get; }
        public long L { get; }
        public long TrunkTokens => T * P;
        public long RowTokens => R * L;
        public Tensor Tokens { get; }      // [T P + R L]
        public Tensor TrunkOfRow { get; }  // [R]
        public Tensor? PreviousRow { get; } // [R]; null without links
        public Tensor RowBias { get; }     // [R, 1, 1, L, P + L or P + 2 L], 0 or -inf
        public Tensor TrunkBias { get; }   // [1, 1, 1, P, P]
        public Tensor RowScale { get; }    // [R, 1, L, 1]
        public Tensor TrunkScale { get; }  // [1, 1, P, 1]
        public (Tensor Cos, Tensor Sin)? RowRope { get; }
        public (Tensor Cos, Tensor Sin)? TrunkRope { get; }

        /// <summary>All of the above that this object made, to be kept beyond the scope they were made in.</summary>
        public IEnumerable<Tensor> Tensors
        {
            get
            {
                Tensor?[] made =
                [
                    Tokens, TrunkOfRow, PreviousRow, RowBias, TrunkBias, RowScale, TrunkScale,
                    RowRope?.Cos, RowRope?.Sin, TrunkRope?.Cos, TrunkRope?.Sin, .. _tails.Values,
                ];
                return made.OfType<Tensor>();
            }
        }

        /// <summary>
        /// [T, before]: where the last <paramref name="before"/> tokens of each trunk lie in the left-padded trunk; with links
        /// [R * before]: where the tokens before each row lie in the flat order with one row of zeros in front.
        /// </summary>
        public Tensor TailIndex(int before) => _tails[before];

        private IEnumerable<long> LinkedTail(TurnBatch batch, int row, int before)
        {
            var link = batch.Links![row];
            var trunk = batch.TrunkOfRow[row];
            long length = link.Previous < 0 ? 0 : batch.Rows[link.Previous].Length;
            for (var i = -before; i < 0; i++)
            {
                var (inRow, inTrunk) = (length + i, link.TrunkBefore + length - link.PreviousFrom + i);
                yield return inRow >= link.PreviousFrom ? 1 + TrunkTokens + (link.Previous * L) + inRow
                    : inTrunk >= 0 ? 1 + (trunk * P) + inTrunk
                    : 0;
            }
        }

        /// <summary>Rotary embedding in Qwen2's half-split form, or the input when there is none.</summary>
        public Tensor Rotate(Tensor x, (Tensor Cos, Tensor Sin)? rope)
        {
            if (rope is not { } tables) return x;
            var half = x.size(-1) / 2;
            var rotated = torch.cat([-x.narrow(-1, half, half), x.narrow(-1, 0, half)], -1);
            return (x * tables.Cos) + (rotated * tables.Sin);
        }
    }
}
