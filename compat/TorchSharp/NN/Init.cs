// torch.nn.init and torch.nn.utils: filling parameters and bounding gradients.
using TorchSharp.Modules;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        /// <summary>In place and without gradients; each returns its argument.</summary>
        public static class init
        {
            public enum FanInOut
            {
                FanIn = 0,
                FanOut = 1,
            }

            public static Tensor zeros_(Tensor tensor) => Quietly(tensor, static t => t.zero_());

            public static Tensor ones_(Tensor tensor) => Quietly(tensor, static t => t.fill_(1));

            public static Tensor constant_(Tensor tensor, Scalar val) => Quietly(tensor, t => t.fill_(val));

            public static Tensor normal_(Tensor tensor, double mean = 0, double std = 1, Generator? generator = null) =>
                Quietly(tensor, t => t.normal_(mean, std, generator));

            public static Tensor uniform_(Tensor tensor, double low = 0, double high = 1, Generator? generator = null) =>
                Quietly(tensor, t => t.uniform_(low, high, generator));

            public static Tensor xavier_uniform_(Tensor tensor, double gain = 1.0)
            {
                (long fanIn, long fanOut) = CalculateFanInAndFanOut(tensor);
                double bound = gain * Math.Sqrt(6.0 / (fanIn + fanOut));
                return uniform_(tensor, -bound, bound);
            }

            public static Tensor xavier_normal_(Tensor tensor, double gain = 1.0)
            {
                (long fanIn, long fanOut) = CalculateFanInAndFanOut(tensor);
                return normal_(tensor, 0, gain * Math.Sqrt(2.0 / (fanIn + fanOut)));
            }

            public static (long fanIn, long fanOut) CalculateFanInAndFanOut(Tensor tensor)
            {
                long[] shape = tensor.shape;
                if (shape.Length < 2)
                {
                    throw new ArgumentException("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions");
                }
                long field = shape[2..].Aggregate(1L, static (a, b) => a * b);
                return (shape[1] * field, shape[0] * field);
            }

            private static Tensor Quietly(Tensor tensor, Action<Tensor> fill)
            {
                using IDisposable _ = no_grad();
                fill(tensor);
                return tensor;
            }
        }

        public static class utils
        {
            // Keeps the quotient finite for zero gradients, as PyTorch does.
            private const double ClipEpsilon = 1e-6;

            /// <summary>Scales the gradients so that their joint norm is at most max_norm; returns the norm before.</summary>
            public static double clip_grad_norm_(IEnumerable<Parameter> tensors, double max_norm, double norm_type = 2.0)
            {
                using DisposeScope scope = NewDisposeScope();
                using IDisposable _ = no_grad();
                Tensor[] gradients = [.. tensors.Select(static p => p.grad).OfType<Tensor>()];
                if (gradients.Length == 0) return 0;
                bool largest = double.IsPositiveInfinity(norm_type);
                Tensor[] norms = [.. gradients.Select(g => largest ? g.abs().max() : g.norm((float)norm_type))];
                Tensor all = stack(norms.Select(n => n.to(norms[0].device)));
                double total = (largest ? all.max() : all.norm((float)norm_type)).ToDouble();
                double scale = max_norm / (total + ClipEpsilon);
                if (scale < 1)
                {
                    foreach (Tensor g in gradients) g.mul_(scale);
                }
                return total;
            }

            public static void clip_grad_value_(IEnumerable<Parameter> tensors, double clip_value)
            {
                using DisposeScope scope = NewDisposeScope();
                using IDisposable _ = no_grad();
                foreach (Parameter p in tensors) p.grad?.clamp_(-clip_value, clip_value);
            }

            public static Tensor parameters_to_vector(IEnumerable<Parameter> tensors)
            {
                using DisposeScope scope = NewDisposeScope();
                return cat([.. tensors.Select(static p => p.reshape(-1))]).MoveToOuterDisposeScope();
            }

            public static void vector_to_parameters(Tensor vec, IEnumerable<Parameter> tensors)
            {
                using DisposeScope scope = NewDisposeScope();
                using IDisposable _ = no_grad();
                long at = 0;
                foreach (Parameter p in tensors)
                {
                    long n = p.numel();
                    p.copy_(vec.narrow(0, at, n).view(p.shape));
                    at += n;
                }
            }
        }
    }
}
