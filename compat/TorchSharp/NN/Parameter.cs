// A tensor that a module learns.
//
// Invariant: a Parameter takes over its source's native tensor and its place in a dispose scope; the source wrapper is empty afterwards.
namespace TorchSharp.Modules;

public sealed class Parameter : torch.Tensor
{
    public Parameter(torch.Tensor data, bool requires_grad = true)
        : this(data, data.OwningDisposeScope, requires_grad)
    {
    }

    private Parameter(torch.Tensor data, DisposeScope? scope, bool requires_grad)
        : base(data.DecoupleFromNativeHandle(), register: false)
    {
        scope?.Include(this);
        requires_grad_(requires_grad);
    }
}
