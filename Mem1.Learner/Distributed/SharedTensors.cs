using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>Flat tensors of a group of learners.</summary>
public static class SharedTensors
{
    // 256 MiB of float32 at a time: a span cannot hold the bytes of a large model, and a GPU's numbers pass through host memory.
    private const long Piece = 1L << 26;

    /// <summary>Whether something is so on every learner.</summary>
    /// <exception cref="LearnerException">A learner is lost.</exception>
    public static bool All(bool here, IGradientReducer reducer)
    {
        if (reducer.World == 1) return here;
        double[] denials = [here ? 0 : 1];
        reducer.Sum(denials);
        return denials[0] == 0;
    }

    /// <summary>Replaces a flat float32 tensor's values by their sums over all learners, in place, on whatever device it is.</summary>
    /// <exception cref="LearnerException">A learner is lost.</exception>
    public static void Sum(Tensor flat, IGradientReducer reducer)
    {
        if (reducer.World == 1) return;
        using var guard = no_grad();
        for (long start = 0; start < flat.numel(); start += Piece)
        {
            using var scope = NewDisposeScope();
            var there = flat.narrow(0, start, Math.Min(Piece, flat.numel() - start));
            var here = there.cpu(); // on the CPU the very buffer
            reducer.Sum(MemoryMarshal.Cast<byte, float>(here.bytes));
            if (there.device_type != DeviceType.CPU) there.copy_(here);
        }
    }
}
