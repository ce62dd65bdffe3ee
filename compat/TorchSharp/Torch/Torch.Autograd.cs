// Backward passes and gradients.
using TorchSharp.Interop;

namespace TorchSharp;

public static unsafe partial class torch
{
    public static class autograd
    {
        public static void backward(
            IList<Tensor> tensors, IList<Tensor>? grad_tensors = null, bool? retain_graph = null, bool create_graph = false,
            IList<Tensor>? inputs = null)
        {
            // Without seeds libtorch takes ones for scalar outputs; a null seed says the same for one output.
            nint[] roots = Handles(tensors);
            nint[] seeds = Handles(grad_tensors);
            nint[] leaves = Handles(inputs);
            fixed (nint* r = roots, s = seeds, l = leaves)
            {
                int keep = retain_graph is { } given ? (given ? 1 : 0) : -1;
                int status = NativeApi.Backward(r, roots.Length, s, seeds.Length, keep, create_graph ? 1 : 0, l, leaves.Length);
                GC.KeepAlive(tensors);
                GC.KeepAlive(grad_tensors);
                GC.KeepAlive(inputs);
                NativeApi.Check(status);
            }
        }

        public static void backward(
            Tensor tensor, IList<Tensor>? grad_tensors = null, bool? retain_graph = null, bool create_graph = false,
            IList<Tensor>? inputs = null) => backward([tensor], grad_tensors, retain_graph, create_graph, inputs);

        public static void backward(
            Tensor tensor, Tensor grad_tensor, bool? retain_graph = null, bool create_graph = false, IList<Tensor>? inputs = null) =>
            backward([tensor], [grad_tensor], retain_graph, create_graph, inputs);

        /// <summary>Gradients of the outputs' sum with respect to the inputs; an unused input gives an invalid (empty) tensor.</summary>
        public static IList<Tensor> grad(
            IList<Tensor> outputs, IList<Tensor> inputs, IList<Tensor>? grad_outputs = null, bool retain_graph = false,
            bool create_graph = false, bool allow_unused = false)
        {
            nint[] roots = Handles(outputs);
            nint[] leaves = Handles(inputs);
            nint[] seeds = Handles(grad_outputs);
            var results = new nint[leaves.Length];
            fixed (nint* r = roots, l = leaves, s = seeds, g = results)
            {
                int keep = retain_graph ? 1 : 0;
                int create = create_graph ? 1 : 0;
                int unused = allow_unused ? 1 : 0;
                int status = NativeApi.Gradients(
                    r, roots.Length, l, leaves.Length, s, seeds.Length, keep, create, unused, g);
                GC.KeepAlive(outputs);
                GC.KeepAlive(inputs);
                GC.KeepAlive(grad_outputs);
                NativeApi.Check(status);
            }
            return [.. results.Select(static h => new Tensor(h))];
        }

        private static nint[] Handles(IEnumerable<Tensor?>? tensors) =>
            tensors is null ? [] : [.. tensors.Select(static t => t is null ? 0 : t.Handle)];
    }
}
