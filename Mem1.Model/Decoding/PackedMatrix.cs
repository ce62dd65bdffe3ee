// Invariant: panel p holds outputs [p*32, p*32+32) as [inputs][32], zero beyond the last output, so kernels read it front to back and never
// look at an edge.
namespace Mem1.Model.Decoding;

/// <summary>A weight matrix [outputs, inputs] in the order in which the inner loop reads it.</summary>
internal sealed unsafe class PackedMatrix : IDisposable
{
    /// <summary>Outputs per panel: two AVX-512 vectors, four of AVX2.</summary>
    public const int PanelWidth = 32;

    private readonly NativeBuffer _buffer;
    private readonly NativeBuffer _bias;

    private PackedMatrix(int inputs, int paddedOutputs)
    {
        Inputs = inputs;
        PaddedOutputs = paddedOutputs;
        _buffer = new NativeBuffer((long)inputs * paddedOutputs);
        _bias = new NativeBuffer(paddedOutputs);
    }

    public int Inputs { get; }

    /// <summary>Outputs rounded up to whole panels; a result row is this long.</summary>
    public int PaddedOutputs { get; }

    public int Panels => PaddedOutputs / PanelWidth;

    public float* Data => _buffer.Data;

    /// <summary>One value per padded output; zero without a bias.</summary>
    public float* Bias => _bias.Data;

    public static int Pad(int outputs) => (outputs + PanelWidth - 1) / PanelWidth * PanelWidth;

    /// <summary>Several matrices over the same inputs as one; <paramref name="separatePanels"/> starts each on its own panel.</summary>
    public static PackedMatrix Pack(int inputs, bool separatePanels, params ReadOnlySpan<(float[] Weight, float[]? Bias)> parts)
    {
        int outputs = 0;
        foreach ((float[] weight, _) in parts)
            outputs = (separatePanels ? Pad(outputs) : outputs) + weight.Length / inputs;
        var packed = new PackedMatrix(inputs, Pad(outputs));
        int at = 0;
        foreach ((float[] weight, float[]? bias) in parts)
        {
            if (separatePanels)
                at = Pad(at);
            int rows = weight.Length / inputs;
            for (int row = 0; row < rows; row++, at++)
            {
                float* column = packed.Data + (long)(at / PanelWidth) * PanelWidth * inputs + at % PanelWidth;
                ReadOnlySpan<float> source = weight.AsSpan(row * inputs, inputs);
                for (int k = 0; k < inputs; k++)
                    column[(long)k * PanelWidth] = source[k];
                if (bias is not null)
                    packed.Bias[at] = bias[row];
            }
        }
        return packed;
    }

    public void Dispose()
    {
        _buffer.Dispose();
        _bias.Dispose();
    }
}
