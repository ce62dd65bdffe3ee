// The loop nest of DecoderCore, written once over the vector operations; see DecoderCore.cs for the invariants.
namespace Mem1.Model.Decoding;

internal sealed unsafe class DecoderCore<TOps, TVec> : DecoderCore
    where TOps : struct, ILanes<TVec>
    where TVec : unmanaged
{
    /// <summary>First size of the rotary table; it doubles when a sequence outgrows it.</summary>
    private const int FirstPositions = 256;

    private readonly Lock _growth = new();
    private volatile RotaryTable? _rotary;
    private volatile float[] _scales = [];

    public DecoderCore(DecoderConfig config)
        : base(config, TOps.Width)
    {
    }

    public override void Run(PackedWeights weights, ReadOnlySpan<SequenceStep> steps, Workspace workspace, ILogitsSink sink)
    {
        Span<Piece> pieces = stackalloc Piece[Workspace.Rows];
        int step = 0, done = 0;
        while (step < steps.Length)
        {
            // Fill one chunk with whole steps where they fit, with parts of a long one where not.
            int rows = 0, count = 0;
            while (step < steps.Length && rows < Workspace.Rows)
            {
                SequenceStep current = steps[step];
                int take = Math.Min(current.Count - done, Workspace.Rows - rows);
                pieces[count++] = new Piece(step, rows, take, done);
                rows += take;
                done += take;
                if (done == current.Count)
                {
                    step++;
                    done = 0;
                }
            }
            Chunk(weights, steps, pieces[..count], rows, workspace, sink);
        }
        GC.KeepAlive(weights);
        GC.KeepAlive(workspace);
    }

    private void Chunk(
        PackedWeights weights, ReadOnlySpan<SequenceStep> steps, ReadOnlySpan<Piece> pieces, int rows, Workspace ws, ILogitsSink sink)
    {
        DecoderShape shape = Shape;
        int longest = 0, last = 0;
        foreach (Piece piece in pieces)
        {
            longest = Math.Max(longest, steps[piece.Step].Cache.Length + piece.Count);
            last = Math.Max(last, steps[piece.Step].Cache.Computed + piece.Count);
        }
        EnsurePositions(last);
        float* scores = ws.Scores(longest);

        Embed(weights, steps, pieces, ws);
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            PackedWeights.Layer w = weights.Layers[layer];
            Norm(ws.Hidden, rows, w.AttentionNorm.Data, ws.Normed);
            Gemm<TOps, TVec>.Multiply(ws.Normed, shape.HiddenStride, rows, w.Qkv, ws.Qkv, shape.QkvStride, w.Qkv.Bias, 0);
            foreach (Piece piece in pieces)
                Attend(steps[piece.Step].Cache, piece, layer, w, ws, scores);
            Gemm<TOps, TVec>.Multiply(
                ws.Attended, shape.AttentionStride, rows, w.Output, ws.Hidden, shape.HiddenStride, ws.Hidden, shape.HiddenStride);

            Norm(ws.Hidden, rows, w.FeedForwardNorm.Data, ws.Normed);
            int inner = 2 * shape.InnerStride;
            Gemm<TOps, TVec>.Multiply(ws.Normed, shape.HiddenStride, rows, w.GateUp, ws.Inner, inner, w.GateUp.Bias, 0);
            for (int row = 0; row < rows; row++)
            {
                float* gate = ws.Inner + (long)row * inner;
                VectorMath<TOps, TVec>.SiluTimes(gate, gate + shape.InnerStride, shape.InnerStride);
            }
            Gemm<TOps, TVec>.Multiply(ws.Inner, inner, rows, w.Down, ws.Hidden, shape.HiddenStride, ws.Hidden, shape.HiddenStride);
        }
        foreach (Piece piece in pieces)
            steps[piece.Step].Cache.Length += piece.Count;
        Emit(weights, steps, pieces, ws, sink);
    }

    private void Embed(PackedWeights weights, ReadOnlySpan<SequenceStep> steps, ReadOnlySpan<Piece> pieces, Workspace ws)
    {
        int hidden = Shape.Config.HiddenSize, stride = Shape.HiddenStride;
        foreach (Piece piece in pieces)
        {
            SequenceStep step = steps[piece.Step];
            float* rows = ws.Hidden + (long)piece.Row * stride;
            for (int i = 0; i < piece.Count; i++)
            {
                int token = step.Tokens[step.Start + piece.Offset + i];
                var target = new Span<float>(rows + (long)i * stride, stride);
                weights.Embedding.AsSpan((int)((long)token * hidden), hidden).CopyTo(target);
                target[hidden..].Clear();
            }
            if (weights.EmbeddingConv is { } conv)
            {
                VectorMath<TOps, TVec>.Convolve(
                    rows, piece.Count, stride, step.Cache.EmbeddingHistory, conv.Data, Shape.EmbeddingConvKernel, ws.Spare);
            }
        }
    }

    private void Norm(float* x, int rows, float* weight, float* target)
    {
        int size = Shape.Config.HiddenSize, stride = Shape.HiddenStride;
        float epsilon = (float)Shape.Config.NormEpsilon;
        for (int row = 0; row < rows; row++)
            VectorMath<TOps, TVec>.RmsNorm(x + (long)row * stride, weight, size, stride, epsilon, target + (long)row * stride);
    }

    private void Attend(SequenceCache cache, Piece piece, int layer, PackedWeights.Layer w, Workspace ws, float* scores)
    {
        DecoderShape shape = Shape;
        float* qkv = ws.Qkv + (long)piece.Row * shape.QkvStride;
        if (w.Conv is { } conv)
        {
            VectorMath<TOps, TVec>.Convolve(
                qkv, piece.Count, shape.QkvStride, cache.QkvHistory(layer), conv.Data, shape.ConvKernel, ws.Spare);
        }

        int size = shape.HeadSize, heads = shape.Config.Heads, group = heads / shape.KeyValueHeads, lanes = TOps.Width;
        RotaryTable? rotary = _rotary;
        float[] scales = _scales;
        for (int i = 0; i < piece.Count; i++)
        {
            float* row = qkv + (long)i * shape.QkvStride;
            int slot = cache.Length + i;
            if (rotary is not null)
            {
                // Positions run on over what was evicted; slots, and with them the number of visible tokens, do not.
                for (int head = 0; head < heads + shape.KeyValueHeads; head++)
                    Rotate(row + head * size, rotary, slot + cache.Evicted);
            }
            float scale = scales[slot];
            for (int j = 0; j < shape.Queries; j++)
                row[j] *= scale;
            for (int head = 0; head < shape.KeyValueHeads; head++)
            {
                float* key = row + shape.Queries + head * size;
                float* target = cache.Keys(layer, head) + (long)(slot / lanes) * lanes * size + slot % lanes;
                for (int d = 0; d < size; d++)
                    target[d * lanes] = key[d];
                VectorMath<TOps, TVec>.Copy(
                    row + shape.Queries + shape.Keys + head * size, cache.Values(layer, head) + (long)slot * shape.ValueStride, size);
            }
        }
        for (int head = 0; head < heads; head++)
        {
            float* keys = cache.Keys(layer, head / group);
            float* values = cache.Values(layer, head / group);
            for (int i = 0; i < piece.Count; i++)
            {
                Attention<TOps, TVec>.Head(qkv + (long)i * shape.QkvStride + head * size, size, keys, values, shape.ValueStride,
                    cache.Length + i + 1, scores, ws.HeadOut);
                VectorMath<TOps, TVec>.Copy(ws.HeadOut, ws.Attended + (long)(piece.Row + i) * shape.AttentionStride + head * size, size);
            }
        }
    }

    /// <summary>(x, y) -> (x cos - y sin, y cos + x sin) with x the first half of the head and y the second.</summary>
    private static void Rotate(float* head, RotaryTable table, int position)
    {
        int half = table.Half;
        ReadOnlySpan<float> cos = table.Cos.AsSpan(position * half, half);
        ReadOnlySpan<float> sin = table.Sin.AsSpan(position * half, half);
        for (int i = 0; i < half; i++)
        {
            float x = head[i], y = head[i + half];
            head[i] = x * cos[i] - y * sin[i];
            head[i + half] = y * cos[i] + x * sin[i];
        }
    }

    private void Emit(
        PackedWeights weights, ReadOnlySpan<SequenceStep> steps, ReadOnlySpan<Piece> pieces, Workspace ws, ILogitsSink sink)
    {
        DecoderShape shape = Shape;
        int wanted = 0;
        Span<(int Step, int Token)> origin = stackalloc (int, int)[Workspace.Rows];
        foreach (Piece piece in pieces)
        {
            SequenceStep step = steps[piece.Step];
            for (int i = 0; i < piece.Count; i++)
            {
                int token = piece.Offset + i;
                if (step.Wanted == WantedLogits.None || (step.Wanted == WantedLogits.Last && token != step.Count - 1))
                    continue;
                VectorMath<TOps, TVec>.RmsNorm(ws.Hidden + (long)(piece.Row + i) * shape.HiddenStride, weights.FinalNorm.Data,
                    shape.Config.HiddenSize, shape.HiddenStride, (float)shape.Config.NormEpsilon,
                    ws.Normed + (long)wanted * shape.HiddenStride);
                origin[wanted++] = (piece.Step, token);
            }
        }
        if (wanted == 0)
            return;
        Gemm<TOps, TVec>.Multiply(
            ws.Normed, shape.HiddenStride, wanted, weights.Head, ws.Logits, shape.VocabularyStride, weights.Head.Bias, 0);
        for (int i = 0; i < wanted; i++)
            sink.Accept(origin[i].Step, origin[i].Token, ws.Logits + (long)i * shape.VocabularyStride);
    }

    private void EnsurePositions(int positions)
    {
        if (_scales.Length >= positions)
            return;
        lock (_growth)
        {
            if (_scales.Length >= positions)
                return;
            int size = Math.Max(Math.Max(positions, FirstPositions), _scales.Length * 2);
            if (Shape.Config.Position == PositionEncoding.Rope)
                _rotary = RotaryTable.Create(size, Shape.HeadSize, Shape.Config.RopeTheta);
            var scales = new float[size];
            for (int p = 0; p < size; p++)
                scales[p] = (float)AttentionScaling.Factor(Shape.Config, p + 1);
            // Last, because its length is what the check above reads.
            _scales = scales;
        }
    }

    /// <summary>Rows [Row, Row + Count) of a chunk are tokens [Offset, Offset + Count) of a step.</summary>
    private readonly record struct Piece(int Step, int Row, int Count, int Offset);
}
