// What the segments layout is measured against: the same decoder over one stitched sequence q, y0, x1, y1, ... under a mask of [S, S].
// Keeps: parameters, positions and visibility are those of the segments layout, so log-probs agree to rounding; only cost differs.
using Mem1.Learner;
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Cli.Bench;

/// <summary>A trajectory as one sequence. S tokens, N of them generated.</summary>
/// <param name="Tokens">[S]: the prompt, then each turn's kept context and what it generated.</param>
/// <param name="Positions">[S]: they restart after the prompt in every turn.</param>
/// <param name="Turns">[S]: the turn a token belongs to, -1 for the prompt.</param>
/// <param name="Predictions">[N]: which token of the sequence predicts a generated one.</param>
/// <param name="Targets">[N]: ids of the generated tokens.</param>
internal sealed record StitchedSequence(long[] Tokens, long[] Positions, long[] Turns, long[] Predictions, long[] Targets)
{
    public static StitchedSequence Of(Trajectory trajectory)
    {
        var prompt = trajectory.Prompt;
        List<long> tokens = [], positions = [], turns = [], predictions = [], targets = [];
        void Append(int[] ids, int from, int turn)
        {
            for (var i = 0; i < ids.Length; i++)
            {
                tokens.Add(ids[i]);
                positions.Add(from + i);
                turns.Add(turn);
            }
        }

        Append(prompt, 0, -1);
        for (var j = 0; j < trajectory.Turns.Count; j++)
        {
            var turn = trajectory.Turns[j];
            Append(turn.Context, prompt.Length, j);
            for (var i = 0; i < turn.Generated.Length; i++)
            {
                // A turn without context is predicted by the end of the prompt.
                predictions.Add(i == 0 && turn.Context.Length == 0 ? prompt.Length - 1 : tokens.Count + i - 1);
                targets.Add(turn.Generated[i]);
            }

            Append(turn.Generated, prompt.Length + turn.Context.Length, j);
        }

        return new StitchedSequence([.. tokens], [.. positions], [.. turns], [.. predictions], [.. targets]);
    }
}

/// <summary>The forward pass of <see cref="TorchDecoder"/> for plain Qwen2 models, over a stitched sequence.</summary>
internal sealed class DenseStitchedPass : IDisposable
{
    private readonly TorchDecoder _model;
    private readonly Tensor _cos; // [MaxPositions, dh]
    private readonly Tensor _sin;

    /// <summary>Shares the model's parameters; the model stays the caller's.</summary>
    public DenseStitchedPass(TorchDecoder model)
    {
        var c = model.Config;
        var plain = c.Position == PositionEncoding.Rope && c.AttentionScale == AttentionScale.Standard;
        if (!plain || c.ConvKernel > 0 || c.EmbeddingConvKernel > 0)
            throw new ArgumentException("The dense pass computes plain Qwen2 models only.", nameof(model));
        _model = model;
        using var scope = NewDisposeScope();
        var half = c.HeadSize / 2;
        var angles = new float[c.MaxPositions * c.HeadSize];
        for (var p = 0; p < c.MaxPositions; p++)
            for (var i = 0; i < c.HeadSize; i++)
                angles[(p * c.HeadSize) + i] = (float)(p * Math.Pow(c.RopeTheta, -2.0 * (i % half) / c.HeadSize));
        var device = model.Parameters.Values.device;
        var table = torch.tensor(angles, dtype: ScalarType.Float32, device: device).view(c.MaxPositions, c.HeadSize);
        _cos = table.cos().DetachFromDisposeScope();
        _sin = table.sin().DetachFromDisposeScope();
    }

    /// <summary>Final hidden states of the positions that predict generated tokens, [N, D].</summary>
    public Tensor Predictions(StitchedSequence sequence)
    {
        using var scope = NewDisposeScope();
        var c = _model.Config;
        var p = _model.Parameters;
        var device = p.Values.device;
        Tensor Long(long[] values) => torch.tensor(values, dtype: ScalarType.Int64, device: device);
        long length = sequence.Tokens.Length;

        var turn = Long(sequence.Turns);
        var order = torch.arange(length, dtype: ScalarType.Int64, device: device);
        var visible = order.unsqueeze(0).le(order.unsqueeze(1))
            .logical_and(turn.unsqueeze(0).eq(turn.unsqueeze(1)).logical_or(turn.unsqueeze(0).lt(0)));
        var bias = torch.zeros([length, length], dtype: ScalarType.Float32, device: device)
            .masked_fill(visible.logical_not(), float.NegativeInfinity);
        var positions = Long(sequence.Positions);
        Tensor cos = _cos.index_select(0, positions), sin = _sin.index_select(0, positions);

        var x = p["model.embed_tokens.weight"].index_select(0, Long(sequence.Tokens));
        for (var layer = 0; layer < c.Layers; layer++)
        {
            var next = Block(x, $"model.layers.{layer}.", cos, sin, bias);
            x.Dispose();
            x = next;
        }

        return Norm(x, p["model.norm.weight"]).index_select(0, Long(sequence.Predictions)).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cos.Dispose();
        _sin.Dispose();
    }

    /// <summary>x [S, D]; as in <see cref="TorchDecoder"/>, what backward does not need is freed with the block or sooner.</summary>
    private Tensor Block(Tensor x, string name, Tensor cos, Tensor sin, Tensor bias)
    {
        using var scope = NewDisposeScope();
        var p = _model.Parameters;
        long length = x.size(0), heads = _model.Config.Heads, dh = _model.Config.HeadSize;
        var h = Norm(x, p[name + "input_layernorm.weight"]);
        var mixed = Attend(h, name + "self_attn.", cos, sin, bias).transpose(0, 1).reshape(length, heads * dh);
        x = x + nn.functional.linear(mixed, p[name + "self_attn.o_proj.weight"]);
        h = Norm(x, p[name + "post_attention_layernorm.weight"]);
        var gate = nn.functional.silu(nn.functional.linear(h, p[name + "mlp.gate_proj.weight"]));
        var up = nn.functional.linear(h, p[name + "mlp.up_proj.weight"]);
        return (x + nn.functional.linear(gate * up, p[name + "mlp.down_proj.weight"])).MoveToOuterDisposeScope();
    }

    /// <summary>[S, D] to [H, S, dh].</summary>
    private Tensor Attend(Tensor h, string name, Tensor cos, Tensor sin, Tensor bias)
    {
        using var scope = NewDisposeScope();
        var p = _model.Parameters;
        var c = _model.Config;
        long length = h.size(0), heads = c.Heads, kv = c.KeyValueHeads, dh = c.HeadSize, group = heads / kv;
        Tensor Heads(string part, long count) => nn.functional.linear(
            h, p[$"{name}{part}_proj.weight"], p.Find($"{name}{part}_proj.bias")).view(length, count, dh).transpose(0, 1);
        var q = (Rotate(Heads("q", heads), cos, sin) * (1 / Math.Sqrt(dh))).reshape(kv, group * length, dh);
        var k = Rotate(Heads("k", kv), cos, sin);
        Tensor weights;
        using (var scores = torch.matmul(q, k.transpose(-1, -2)))
        using (var masked = scores.view(kv, group, length, length) + bias)
            weights = nn.functional.softmax(masked, -1).view(kv, group * length, length);
        return torch.matmul(weights, Heads("v", kv)).view(heads, length, dh).MoveToOuterDisposeScope();
    }

    private Tensor Norm(Tensor x, Tensor weight) =>
        x * torch.rsqrt(x.square().mean([-1L], keepdim: true) + _model.Config.NormEpsilon) * weight;

    /// <summary>Rotary embedding in Qwen2's half-split form; x [heads, S, dh], tables [S, dh].</summary>
    private static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        var half = x.size(-1) / 2;
        return (x * cos) + (torch.cat([-x.narrow(-1, half, half), x.narrow(-1, 0, half)], -1) * sin);
    }
}
