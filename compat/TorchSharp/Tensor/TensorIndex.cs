// Indexing as in PyTorch: integers, ranges, None, Ellipsis and tensors, mixed.
//
// Invariant: basic indices (all but tensors) give views; once a tensor is among them the result is a copy, and assignment goes through
// index_put_ on the view that the basic indices leave.
using TorchSharp.Interop;

namespace TorchSharp;

public static partial class torch
{
    public readonly struct TensorIndex
    {
        public static readonly TensorIndex Ellipsis = new(IndexKind.Ellipsis);
        public static readonly TensorIndex None = new(IndexKind.None);
        public static readonly TensorIndex Null = new(IndexKind.None);
        public static readonly TensorIndex Colon = new(IndexKind.Slice);

        internal readonly IndexKind Kind;
        internal readonly long? Start;
        internal readonly long? Stop;
        internal readonly long? Step;
        internal readonly Tensor? Indices;

        private TensorIndex(IndexKind kind, long? start = null, long? stop = null, long? step = null, Tensor? indices = null)
        {
            Kind = kind;
            Start = start;
            Stop = stop;
            Step = step;
            Indices = indices;
        }

        public static implicit operator TensorIndex(long value) => Single(value);

        public static implicit operator TensorIndex((int? start, int? stop) range) => Slice(range);

        public static implicit operator TensorIndex(Range range) => Slice(range);

        public static implicit operator TensorIndex(System.Index index) => Single(Signed(index));

        public static TensorIndex Bool(bool value) => new(IndexKind.Bool, value ? 1 : 0);

        public static TensorIndex Single(long? index) => new(IndexKind.Single, index);

        public static TensorIndex Slice(long? start = null, long? stop = null, long? step = null) =>
            new(IndexKind.Slice, start, stop, step);

        public static TensorIndex Slice((int? start, int? stop) range) => Slice(range.start, range.stop);

        public static TensorIndex Slice(Range range)
        {
            long? stop = range.End.IsFromEnd && range.End.Value == 0 ? null : Signed(range.End);
            return Slice(Signed(range.Start), stop);
        }

        public static TensorIndex Tensor(Tensor tensor) => new(IndexKind.Tensor, indices: tensor);

        private static long Signed(System.Index index) => index.IsFromEnd ? -index.Value : index.Value;
    }

    internal enum IndexKind
    {
        None,
        Ellipsis,
        Slice,
        Single,
        Bool,
        Tensor,
    }

    public partial class Tensor
    {
        public Tensor this[params TensorIndex[] indices]
        {
            get => index(indices);
            set => index_put_(value, indices);
        }

        public Tensor this[params Tensor[] indices]
        {
            get => index(indices);
            set => index_put_(value, indices);
        }

        public Tensor this[long i1]
        {
            get => select(0, i1);
            set => index_put_(value, new TensorIndex[] { TensorIndex.Single(i1) });
        }

        public Tensor this[long i1, long i2]
        {
            get => index(new TensorIndex[] { i1, i2 });
            set => index_put_(value, new TensorIndex[] { i1, i2 });
        }

        public Tensor this[long i1, long i2, long i3]
        {
            get => index(new TensorIndex[] { i1, i2, i3 });
            set => index_put_(value, new TensorIndex[] { i1, i2, i3 });
        }

        public Tensor this[long i1, long i2, long i3, long i4]
        {
            get => index(new TensorIndex[] { i1, i2, i3, i4 });
            set => index_put_(value, new TensorIndex[] { i1, i2, i3, i4 });
        }

        public Tensor index(params TensorIndex[] indices)
        {
            Tensor view = Basic(indices, out Tensor?[]? tensors);
            if (tensors is null) return view;
            using (view)
            {
                Tensor taken = Ops.index.Call(view, Arg.Optional(tensors));
                DisposeMade(tensors, indices);
                return taken;
            }
        }

        public Tensor index(params Tensor[] indices) => Ops.index.Call(this, Arg.Optional(indices));

        public Tensor index_put_(Tensor value, params TensorIndex[] indices) => index_put_(value, indices, false);

        public Tensor index_put_(Tensor value, TensorIndex[] indices, bool accumulate = false)
        {
            using Tensor view = Basic(indices, out Tensor?[]? tensors);
            if (tensors is not null)
            {
                Ops.index_put_.Mutate(view, view, Arg.Optional(tensors), value, accumulate);
                DisposeMade(tensors, indices);
            }
            else if (accumulate)
            {
                view.add_(value);
            }
            else
            {
                CopyDroppingLeadingOnes(view, value);
            }
            return this;
        }

        public Tensor index_put_(Tensor value, params Tensor[] indices) => index_put_(value, indices, false);

        public Tensor index_put_(Tensor value, Tensor[] indices, bool accumulate = false) =>
            Ops.index_put_.Mutate(this, this, Arg.Optional(indices), value, accumulate);

        public Tensor index_put_(Scalar value, params TensorIndex[] indices)
        {
            using Tensor v = ScalarTensor(value);
            return index_put_(v, indices, false);
        }

        public Tensor index_put_(Scalar value, params Tensor[] indices)
        {
            using Tensor v = ScalarTensor(value);
            return index_put_(v, indices, false);
        }

        private Tensor ScalarTensor(Scalar value) => full(Array.Empty<long>(), value, dtype, device);

        // PyTorch lets a value of shape [1, 1, n] be assigned to a view of shape [n].
        private static void CopyDroppingLeadingOnes(Tensor view, Tensor value)
        {
            long[] shape = value.shape;
            int extra = 0;
            while (shape.Length - extra > view.dim() && shape[extra] == 1) extra++;
            if (extra == 0)
            {
                view.copy_(value);
                return;
            }
            using Tensor trimmed = value.reshape(shape[extra..]);
            view.copy_(trimmed);
        }

        // The one-element masks that Bool indices became.
        private static void DisposeMade(Tensor?[] tensors, TensorIndex[] indices)
        {
            foreach (Tensor? t in tensors)
            {
                if (t is not null && !indices.Any(i => ReferenceEquals(i.Indices, t))) t.Dispose();
            }
        }

        // Applies everything but tensors; `tensors` is null when there are none, else one entry per dimension of the result.
        private Tensor Basic(TensorIndex[] indices, out Tensor?[]? tensors)
        {
            int consumed = indices.Sum(Consumes);
            int dims = (int)dim();
            if (consumed > dims) throw new ArgumentException($"too many indices for tensor of dimension {dims}");
            Tensor current = alias();
            var found = new List<Tensor?>();
            bool any = false;
            int at = 0;
            foreach (TensorIndex index in indices)
            {
                switch (index.Kind)
                {
                    case IndexKind.None:
                        Step(ref current, static (t, d) => t.unsqueeze(d), at);
                        found.Add(null);
                        at++;
                        break;
                    case IndexKind.Ellipsis:
                        for (int k = 0; k < dims - consumed; k++) found.Add(null);
                        at += dims - consumed;
                        break;
                    case IndexKind.Slice:
                        if (index.Start is not null || index.Stop is not null || index.Step is not null)
                        {
                            Step(ref current, (t, d) => Ops.slice.Call(t, d, index.Start, index.Stop, index.Step ?? 1), at);
                        }
                        found.Add(null);
                        at++;
                        break;
                    case IndexKind.Single:
                        Step(ref current, (t, d) => t.select(d, index.Start ?? 0), at);
                        break;
                    case IndexKind.Bool:
                        Step(ref current, static (t, d) => t.unsqueeze(d), at);
                        found.Add(tensor(new[] { index.Start != 0 }, device: device));
                        any = true;
                        at++;
                        break;
                    case IndexKind.Tensor:
                        int spans = Consumes(index);
                        found.Add(index.Indices);
                        any = true;
                        at += spans;
                        break;
                    default:
                        throw new InvalidOperationException($"Unknown index kind {index.Kind}.");
                }
            }
            tensors = any ? [.. found] : null;
            return current;
        }

        private static int Consumes(TensorIndex index) => index.Kind switch
        {
            IndexKind.Slice or IndexKind.Single => 1,
            IndexKind.Tensor => index.Indices!.dtype is ScalarType.Bool or ScalarType.Byte ? (int)index.Indices.dim() : 1,
            _ => 0,
        };

        private static void Step(ref Tensor current, Func<Tensor, int, Tensor> f, int dim)
        {
            Tensor previous = current;
            try
            {
                current = f(previous, dim);
            }
            finally
            {
                previous.Dispose();
            }
        }
    }
}
