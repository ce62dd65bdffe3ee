namespace Mem1.Model;

/// <summary>In what the gradient pass multiplies matrices.</summary>
public enum ComputePrecision
{
    /// <summary>Float32: agrees with the sampler to rounding.</summary>
    Float32,
    /// <summary>
    /// Bfloat16 products over float32 parameters, gradients and optimiser: faster and smaller on GPUs that have it, about a hundred times
    /// coarser. On CPUs without bfloat16 instructions it is slower than float32.
    /// </summary>
    Bf16,
}
