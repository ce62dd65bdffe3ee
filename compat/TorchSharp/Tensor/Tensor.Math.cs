// Arithmetic, reductions, comparisons: one line per method over its operator.
//
// A Scalar next to a tensor goes through the Tensor overload with a 0-dim tensor the shim makes or has cached, which gives the same values
// as the Scalar overload at a third of its cost; clamp, pow, fill and masked_fill keep their Scalar overloads.
using TorchSharp.Interop;

namespace TorchSharp;

public static partial class torch
{
    public enum RoundingMode
    {
        None,
        trunc,
        floor,
    }

    public partial class Tensor
    {
        public Tensor matmul(Tensor target) => Ops.matmul.Call(this, target);

        public Tensor mm(Tensor target) => Ops.mm.Call(this, target);

        public Tensor bmm(Tensor batch2) => Ops.bmm.Call(this, batch2);

        public Tensor mv(Tensor target) => Ops.mv.Call(this, target);

        public Tensor dot(Tensor target) => Ops.dot.Call(this, target);

        public Tensor outer(Tensor vec2) => Ops.outer.Call(this, vec2);

        public Tensor addmm(Tensor mat1, Tensor mat2, float beta = 1, float alpha = 1) => Ops.addmm.Call(this, mat1, mat2, beta, alpha);

        public Tensor baddbmm(Tensor batch1, Tensor batch2, float beta = 1, float alpha = 1) =>
            Ops.baddbmm.Call(this, batch1, batch2, beta, alpha);

        public Tensor add(Tensor target) => Ops.add.Call(this, target);

        public Tensor add(Tensor target, Scalar alpha) => Ops.add.Call(this, target, alpha);

        public Tensor add(Scalar scalar) => Ops.add.Call(this, scalar);

        public Tensor add(Scalar scalar, Scalar alpha) => Ops.add.Call(this, scalar, alpha);

        public Tensor add_(Tensor target) => Ops.add_.Mutate(this, this, target);

        public Tensor add_(Tensor target, Scalar alpha) => Ops.add_.Mutate(this, this, target, alpha);

        public Tensor add_(Scalar scalar) => Ops.add_.Mutate(this, this, scalar);

        public Tensor add_(Scalar scalar, Scalar alpha) => Ops.add_.Mutate(this, this, scalar, alpha);

        public Tensor sub(Tensor target) => Ops.sub.Call(this, target);

        public Tensor sub(Scalar target) => Ops.sub.Call(this, target);

        public Tensor sub_(Tensor target) => Ops.sub_.Mutate(this, this, target);

        public Tensor sub_(Scalar target) => Ops.sub_.Mutate(this, this, target);

        public Tensor mul(Tensor target) => Ops.mul.Call(this, target);

        public Tensor mul(Scalar target) => Ops.mul.Call(this, target);

        public Tensor mul_(Tensor target) => Ops.mul_.Mutate(this, this, target);

        public Tensor mul_(Scalar target) => Ops.mul_.Mutate(this, this, target);

        public Tensor div(Tensor target, RoundingMode rounding_mode = RoundingMode.None) => rounding_mode == RoundingMode.None
            ? Ops.div.Call(this, target)
            : Ops.div_mode.Call(this, target, rounding_mode.ToString());

        public Tensor div(Scalar target, RoundingMode rounding_mode = RoundingMode.None) => rounding_mode == RoundingMode.None
            ? Ops.div.Call(this, target)
            : Ops.div_mode.Call(this, target, rounding_mode.ToString());

        public Tensor div_(Tensor target, RoundingMode rounding_mode = RoundingMode.None) => rounding_mode == RoundingMode.None
            ? Ops.div_.Mutate(this, this, target)
            : Ops.div__mode.Mutate(this, this, target, rounding_mode.ToString());

        public Tensor div_(Scalar target, RoundingMode rounding_mode = RoundingMode.None) => rounding_mode == RoundingMode.None
            ? Ops.div_.Mutate(this, this, target)
            : Ops.div__mode.Mutate(this, this, target, rounding_mode.ToString());

        public Tensor remainder(Tensor target) => Ops.remainder.Call(this, target);

        public Tensor remainder(Scalar scalar) => Ops.remainder.Call(this, scalar);

        public Tensor addcmul(Tensor tensor1, Tensor tensor2, Scalar value) => Ops.addcmul.Call(this, tensor1, tensor2, value);

        public Tensor addcmul_(Tensor tensor1, Tensor tensor2, Scalar value) => Ops.addcmul_.Mutate(this, this, tensor1, tensor2, value);

        public Tensor addcdiv(Tensor tensor1, Tensor tensor2, Scalar value) => Ops.addcdiv.Call(this, tensor1, tensor2, value);

        public Tensor addcdiv(Tensor tensor1, Tensor tensor2) => Ops.addcdiv.Call(this, tensor1, tensor2);

        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2, Scalar value) => Ops.addcdiv_.Mutate(this, this, tensor1, tensor2, value);

        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2) => Ops.addcdiv_.Mutate(this, this, tensor1, tensor2);

        public Tensor lerp(Tensor end, Tensor weight) => Ops.lerp.Call(this, end, weight);

        public Tensor lerp_(Tensor end, Tensor weight) => Ops.lerp_.Mutate(this, this, end, weight);

        public Tensor neg() => Ops.neg.Call(this);

        public Tensor neg_() => Ops.neg_.Mutate(this, this);

        public Tensor abs() => Ops.abs.Call(this);

        public Tensor abs_() => Ops.abs_.Mutate(this, this);

        public Tensor sign() => Ops.sign.Call(this);

        public Tensor pow(Tensor exponent) => Ops.pow_tensor.Call(this, exponent);

        public Tensor pow(Scalar exponent) => Ops.pow.Call(this, exponent);

        public Tensor pow_(Tensor exponent) => Ops.pow__tensor.Mutate(this, this, exponent);

        public Tensor pow_(Scalar exponent) => Ops.pow_.Mutate(this, this, exponent);

        public Tensor square() => Ops.square.Call(this);

        public Tensor sqrt() => Ops.sqrt.Call(this);

        public Tensor sqrt_() => Ops.sqrt_.Mutate(this, this);

        public Tensor rsqrt() => Ops.rsqrt.Call(this);

        public Tensor rsqrt_() => Ops.rsqrt_.Mutate(this, this);

        public Tensor reciprocal() => Ops.reciprocal.Call(this);

        public Tensor reciprocal_() => Ops.reciprocal_.Mutate(this, this);

        public Tensor exp() => Ops.exp.Call(this);

        public Tensor exp_() => Ops.exp_.Mutate(this, this);

        public Tensor expm1() => Ops.expm1.Call(this);

        public Tensor log() => Ops.log.Call(this);

        public Tensor log_() => Ops.log_.Mutate(this, this);

        public Tensor log1p() => Ops.log1p.Call(this);

        public Tensor sin() => Ops.sin.Call(this);

        public Tensor cos() => Ops.cos.Call(this);

        public Tensor tanh() => Ops.tanh.Call(this);

        public Tensor sigmoid() => Ops.sigmoid.Call(this);

        public Tensor erf() => Ops.erf.Call(this);

        public Tensor silu() => Ops.silu.Call(this);

        public Tensor silu_() => Ops.silu_.Mutate(this, this);

        public Tensor gelu() => Ops.gelu.Call(this);

        public Tensor relu() => Ops.relu.Call(this);

        public Tensor relu_() => Ops.relu_.Mutate(this, this);

        public Tensor softplus(double beta = 1, double threshold = 20) => Ops.softplus.Call(this, beta, threshold);

        public Tensor floor() => Ops.floor.Call(this);

        public Tensor ceil() => Ops.ceil.Call(this);

        public Tensor round(long decimals = 0) => Ops.round.Call(this, decimals);

        public Tensor nan_to_num(double nan = 0, double? posinf = null, double? neginf = null) =>
            Ops.nan_to_num.Call(this, nan, posinf, neginf);

        public Tensor clamp(Scalar? min = null, Scalar? max = null) => Ops.clamp.Call(this, min, max);

        public Tensor clamp(Tensor? min = null, Tensor? max = null) => Ops.clamp_tensor.Call(this, min, max);

        public Tensor clamp_(Scalar? min = null, Scalar? max = null) => Ops.clamp_.Mutate(this, this, min, max);

        public Tensor clamp_(Tensor? min = null, Tensor? max = null) => Ops.clamp__tensor.Mutate(this, this, min, max);

        public Tensor clip(Scalar? min = null, Scalar? max = null) => clamp(min, max);

        public Tensor clamp_min(Scalar min) => Ops.clamp_min.Call(this, min);

        public Tensor clamp_max(Scalar max) => Ops.clamp_max.Call(this, max);

        public Tensor minimum(Tensor other) => Ops.minimum.Call(this, other);

        public Tensor maximum(Tensor other) => Ops.maximum.Call(this, other);

        public Tensor max() => Ops.max.Call(this);

        public Tensor max(Tensor other) => Ops.maximum.Call(this, other);

        public (Tensor values, Tensor indexes) max(long dim, bool keepdim = false) => Ops.max_dim.Call2(this, dim, keepdim);

        public Tensor min() => Ops.min.Call(this);

        public Tensor min(Tensor other) => Ops.minimum.Call(this, other);

        public (Tensor values, Tensor indexes) min(long dim, bool keepdim = false) => Ops.min_dim.Call2(this, dim, keepdim);

        public Tensor amax(params long[] dims) => Ops.amax.Call(this, dims);

        public Tensor amax(long[] dims, bool keepdim = false, Tensor? @out = null) =>
            Into(@out, Ops.amax.Call(this, dims, keepdim));

        public Tensor amax(ReadOnlySpan<long> dims, bool keepdim = false, Tensor? @out = null) => amax(dims.ToArray(), keepdim, @out);

        public Tensor amin(params long[] dims) => Ops.amin.Call(this, dims);

        public Tensor amin(long[] dims, bool keepdim = false, Tensor? @out = null) =>
            Into(@out, Ops.amin.Call(this, dims, keepdim));

        public Tensor amin(ReadOnlySpan<long> dims, bool keepdim = false, Tensor? @out = null) => amin(dims.ToArray(), keepdim, @out);

        public Tensor sum(ScalarType? type = null) => Ops.sum.Call(this, type);

        public Tensor sum(long[] dim, bool keepdim = false, ScalarType? type = null) => Ops.sum_dim.Call(this, dim, keepdim, type);

        public Tensor sum(ReadOnlySpan<long> dim, bool keepdim = false, ScalarType? type = null) => sum(dim.ToArray(), keepdim, type);

        public Tensor sum(long dim, bool keepdim = false, ScalarType? type = null) => sum([dim], keepdim, type);

        public Tensor sum(long dim0, long dim1, bool keepdim = false, ScalarType? type = null) => sum([dim0, dim1], keepdim, type);

        public Tensor sum(long dim0, long dim1, long dim2, bool keepdim = false, ScalarType? type = null) =>
            sum([dim0, dim1, dim2], keepdim, type);

        public Tensor mean() => Ops.mean.Call(this);

        public Tensor mean(long[] dimensions, bool keepdim = false, ScalarType? type = null) =>
            Ops.mean_dim.Call(this, dimensions, keepdim, type);

        public Tensor std(bool unbiased = true) => Ops.std.Call(this, unbiased);

        public Tensor std(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            As(Ops.std_dim.Call(this, dimensions, unbiased, keepdim), type);

        public Tensor std(ReadOnlySpan<long> dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            std(dimensions.ToArray(), unbiased, keepdim, type);

        public Tensor std(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            std(new[] { dim }, unbiased, keepdim, type);

        public Tensor var(bool unbiased = true) => Ops.var.Call(this, unbiased);

        public Tensor var(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            As(Ops.var_dim.Call(this, dimensions, unbiased, keepdim), type);

        public Tensor var(ReadOnlySpan<long> dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            var(dimensions.ToArray(), unbiased, keepdim, type);

        public Tensor var(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            var(new[] { dim }, unbiased, keepdim, type);

        public Tensor prod(ScalarType? type = null) => Ops.prod.Call(this, type);

        public Tensor prod(long dim, bool keepdim = false, ScalarType? type = null) => Ops.prod_dim.Call(this, dim, keepdim, type);

        public Tensor norm(float p = 2) => Ops.norm.Call(this, (double)p);

        public Tensor norm(int dim, bool keepdim = false, float p = 2) => Ops.norm_dim.Call(this, (double)p, new long[] { dim }, keepdim);

        public Tensor cumsum(long dim, ScalarType? type = null) => Ops.cumsum.Call(this, dim, type);

        public Tensor cumprod(long dim, ScalarType? type = null) => Ops.cumprod.Call(this, dim, type);

        public Tensor logsumexp(long dim, bool keepdim = false) => Ops.logsumexp.Call(this, new[] { dim }, keepdim);

        public Tensor logcumsumexp(long dim) => Ops.logcumsumexp.Call(this, dim);

        public Tensor softmax(long dim, ScalarType? dtype = null) => Ops.softmax.Call(this, dim, dtype);

        public Tensor log_softmax(long dim, ScalarType? dtype = null) => Ops.log_softmax.Call(this, dim, dtype);

        public Tensor eq(Tensor target) => Ops.eq.Call(this, target);

        public Tensor eq(Scalar target) => Ops.eq.Call(this, target);

        public Tensor ne(Tensor target) => Ops.ne.Call(this, target);

        public Tensor ne(Scalar target) => Ops.ne.Call(this, target);

        public Tensor gt(Tensor target) => Ops.gt.Call(this, target);

        public Tensor gt(Scalar target) => Ops.gt.Call(this, target);

        public Tensor ge(Tensor target) => Ops.ge.Call(this, target);

        public Tensor ge(Scalar target) => Ops.ge.Call(this, target);

        public Tensor lt(Tensor target) => Ops.lt.Call(this, target);

        public Tensor lt(Scalar target) => Ops.lt.Call(this, target);

        public Tensor le(Tensor target) => Ops.le.Call(this, target);

        public Tensor le(Scalar target) => Ops.le.Call(this, target);

        public Tensor logical_and(Tensor other) => Ops.logical_and.Call(this, other);

        public Tensor logical_or(Tensor other) => Ops.logical_or.Call(this, other);

        public Tensor logical_xor(Tensor other) => Ops.logical_xor.Call(this, other);

        public Tensor logical_not() => Ops.logical_not.Call(this);

        public Tensor bitwise_and(Tensor other) => Ops.bitwise_and.Call(this, other);

        public Tensor bitwise_or(Tensor other) => Ops.bitwise_or.Call(this, other);

        public Tensor bitwise_xor(Tensor other) => Ops.bitwise_xor.Call(this, other);

        public Tensor bitwise_not() => Ops.bitwise_not.Call(this);

        public Tensor isnan() => Ops.isnan.Call(this);

        public Tensor isinf() => Ops.isinf.Call(this);

        public Tensor isfinite() => Ops.isfinite.Call(this);

        public Tensor any() => Ops.any.Call(this);

        public Tensor any(long dim, bool keepdim = false) => Ops.any_dim.Call(this, dim, keepdim);

        public Tensor all() => Ops.all.Call(this);

        public Tensor all(long dim, bool keepdim = false) => Ops.all_dim.Call(this, dim, keepdim);

        public bool allclose(Tensor target, double rtol = 1e-05, double atol = 1e-08, bool equal_nan = false) =>
            Ops.allclose.CallBool(this, target, rtol, atol, equal_nan);

        public Tensor argmax() => Ops.argmax.Call(this);

        public Tensor argmax(long dim, bool keepdim = false) => Ops.argmax.Call(this, dim, keepdim);

        public Tensor argmin() => Ops.argmin.Call(this);

        public Tensor argmin(long dim, bool keepdim = false) => Ops.argmin.Call(this, dim, keepdim);

        public Tensor argsort(long dim = -1, bool descending = false) => Ops.argsort.Call(this, dim, descending);

        public (Tensor Values, Tensor Indices) sort(long dim = -1, bool descending = false, bool stable = false) =>
            Ops.sort.Call2(this, stable, dim, descending);

        public (Tensor values, Tensor indexes) topk(int k, int dim = -1, bool largest = true, bool sorted = true) =>
            Ops.topk.Call2(this, k, dim, largest, sorted);

        public Tensor multinomial(long num_samples, bool replacement = false, Generator? generator = null) =>
            Ops.multinomial.Call(this, num_samples, replacement, generator);

        public Tensor bernoulli(Generator? generator = null) => Ops.bernoulli.Call(this, generator);

        internal static Tensor As(Tensor t, ScalarType? type)
        {
            if (type is not { } wanted || t.dtype == wanted) return t;
            using (t) return t.to_type(wanted);
        }

        private static Tensor Into(Tensor? target, Tensor value)
        {
            if (target is null) return value;
            using (value) return target.copy_(value);
        }
    }
}
