// Shapes, indexing and in-place writes: one line per method over its operator.
using TorchSharp.Interop;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor T => Ops.numpy_T.Call(this);

        public Tensor mT => transpose(-2, -1);

        public Tensor view(params long[] shape) => Ops.view.Call(this, shape);

        public Tensor view_as(Tensor other) => Ops.view_as.Call(this, other);

        public Tensor reshape(params long[] shape) => Ops.reshape.Call(this, shape);

        public Tensor flatten(long start_dim = 0, long end_dim = -1) => Ops.flatten.Call(this, start_dim, end_dim);

        public Tensor unflatten(long dim, params long[] sizes)
        {
            long[] old = shape;
            int at = Wrap(dim, old.Length);
            return view([.. old[..at], .. sizes, .. old[(at + 1)..]]);
        }

        public Tensor unflatten(long dim, Size sizes) => unflatten(dim, sizes.Shape);

        public Tensor permute(params long[] permutation) => Ops.permute.Call(this, permutation);

        public Tensor permute(IEnumerable<long> permutation) => permute(permutation.ToArray());

        public Tensor transpose(long dim0, long dim1) => Ops.transpose.Call(this, dim0, dim1);

        public Tensor t() => Ops.t.Call(this);

        public Tensor squeeze(long? dim = null) => dim is { } d ? Ops.squeeze_dim.Call(this, d) : Ops.squeeze.Call(this);

        public Tensor unsqueeze(long dim) => Ops.unsqueeze.Call(this, dim);

        public Tensor expand(ReadOnlySpan<long> sizes, bool isImplicit = false) => Ops.expand.Call(this, sizes.ToArray(), isImplicit);

        public Tensor expand(Size sizes, bool isImplicit = false) => Ops.expand.Call(this, sizes.Shape, isImplicit);

        public Tensor expand(long[] sizes, bool isImplicit = false) => Ops.expand.Call(this, sizes, isImplicit);

        public Tensor expand(params long[] sizes) => Ops.expand.Call(this, sizes);

        public Tensor expand_as(Tensor other) => Ops.expand_as.Call(this, other);

        public Tensor broadcast_to(params long[] shape) => Ops.broadcast_to.Call(this, shape);

        public Tensor repeat(params long[] sizes) => Ops.repeat.Call(this, sizes);

        public Tensor repeat_interleave(Tensor repeats, long? dim = null, long? output_size = null) =>
            Ops.repeat_interleave_tensor.Call(this, repeats, dim, output_size);

        public Tensor repeat_interleave(long repeats, long? dim = null, long? output_size = null) =>
            Ops.repeat_interleave.Call(this, repeats, dim, output_size);

        public Tensor tile(long[] reps) => Ops.tile.Call(this, reps);

        public Tensor narrow(long dim, long start, long length) => Ops.narrow.Call(this, dim, start, length);

        public Tensor slice(long dim, long start, long finish, long step) => Ops.slice.Call(this, dim, start, finish, step);

        public Tensor select(long dim, long index) => Ops.select.Call(this, dim, index);

        public Tensor[] split(long size, int dim = 0) => Ops.split.CallList(this, size, dim);

        public Tensor[] split(long[] sizes, long dim = 0) => Ops.split_with_sizes.CallList(this, sizes, dim);

        public Tensor[] split(ReadOnlySpan<long> sizes, long dim = 0) => split(sizes.ToArray(), dim);

        public Tensor[] split(params long[] sizes) => split(sizes, 0);

        public Tensor[] chunk(long chunks, long dim = 0) => Ops.chunk.CallList(this, chunks, dim);

        public Tensor[] unbind(long dimension = 0) => Ops.unbind.CallList(this, dimension);

        public Tensor unfold(long dimension, long size, long step) => Ops.unfold.Call(this, dimension, size, step);

        public Tensor flip(params long[] dims) => Ops.flip.Call(this, dims);

        public Tensor roll(long shifts, long? dims = null) =>
            Ops.roll.Call(this, new[] { shifts }, dims is { } d ? [d] : Array.Empty<long>());

        public Tensor roll(long[] shifts) => Ops.roll.Call(this, shifts, Array.Empty<long>());

        public Tensor roll(long[] shifts, long[] dims) => Ops.roll.Call(this, shifts, dims);

        public Tensor as_strided(long[] size, long[] strides, long storageOffset = 0) =>
            Ops.as_strided.Call(this, size, strides, storageOffset);

        public Tensor contiguous() => Ops.contiguous.Call(this);

        public Tensor clone() => Ops.clone.Call(this);

        public Tensor alias() => Ops.alias.Call(this);

        public Tensor detach() => Ops.detach.Call(this);

        public Tensor detach_() => Ops.detach_.Mutate(this, this);

        public Tensor copy_(Tensor source, bool nonBlocking = false) => Ops.copy_.Mutate(this, this, source, nonBlocking);

        public Tensor fill_(Scalar value) => Ops.fill_.Mutate(this, this, value);

        public Tensor zero_() => Ops.zero_.Mutate(this, this);

        public Tensor set_(Tensor source) => Ops.set_.Mutate(this, this, source);

        public Tensor normal_(double mean = 0, double std = 1, Generator? generator = null) =>
            Ops.normal_.Mutate(this, this, mean, std, generator);

        public Tensor uniform_(double from, double to, Generator? generator = null) => Ops.uniform_.Mutate(this, this, from, to, generator);

        public Tensor random_(double from, double to, Generator? generator = null) =>
            Ops.random_.Mutate(this, this, (long)from, (long)to, generator);

        public Tensor bernoulli_(double p = 0.5, Generator? generator = null) => Ops.bernoulli_.Mutate(this, this, p, generator);

        public Tensor exponential_(double lambda = 1, Generator? generator = null) =>
            Ops.exponential_.Mutate(this, this, lambda, generator);

        public Tensor index_select(long dim, Tensor index) => Ops.index_select.Call(this, dim, index);

        public Tensor index_add(long dim, Tensor index, Tensor source, Scalar alpha) => Ops.index_add.Call(this, dim, index, source, alpha);

        public Tensor index_add_(long dim, Tensor index, Tensor source, Scalar alpha) =>
            Ops.index_add_.Mutate(this, this, dim, index, source, alpha);

        public Tensor index_copy_(long dim, Tensor index, Tensor source) => Ops.index_copy_.Mutate(this, this, dim, index, source);

        public Tensor index_fill_(long dim, Tensor index, Scalar value) => Ops.index_fill_.Mutate(this, this, dim, index, value);

        public Tensor gather(long dim, Tensor index) => Ops.gather.Call(this, dim, index);

        public Tensor scatter(long dim, Tensor index, Tensor src) => Ops.scatter.Call(this, dim, index, src);

        public Tensor scatter_(long dim, Tensor index, Tensor src) => Ops.scatter_.Mutate(this, this, dim, index, src);

        public Tensor scatter_add(long dim, Tensor index, Tensor src) => Ops.scatter_add.Call(this, dim, index, src);

        public Tensor scatter_add_(long dim, Tensor index, Tensor src) => Ops.scatter_add_.Mutate(this, this, dim, index, src);

        public Tensor take_along_dim(Tensor indices) => Ops.take_along_dim.Call(this, indices);

        public Tensor take_along_dim(Tensor indices, long dim) => Ops.take_along_dim.Call(this, indices, dim);

        public Tensor masked_fill(Tensor mask, Scalar value) => Ops.masked_fill.Call(this, mask, value);

        public Tensor masked_fill_(Tensor mask, Scalar value) => Ops.masked_fill_.Mutate(this, this, mask, value);

        public Tensor masked_select(Tensor mask) => Ops.masked_select.Call(this, mask);

        public Tensor where(Tensor condition, Tensor y) => Ops.where.Call(condition, this, y);

        public Tensor nonzero() => Ops.nonzero.Call(this);

        public Tensor tril(long diagonal = 0) => Ops.tril.Call(this, diagonal);

        public Tensor triu(long diagonal = 0) => Ops.triu.Call(this, diagonal);

        public Tensor diag(long diagonal = 0) => Ops.diag.Call(this, diagonal);

        public Tensor movedim(long[] source, long[] destination) => Ops.movedim.Call(this, source, destination);

        public Tensor swapaxes(long dim0, long dim1) => transpose(dim0, dim1);

        public Tensor bincount(Tensor? weights, long minlength = 0) => Ops.bincount.Call(this, weights, minlength);
    }
}
