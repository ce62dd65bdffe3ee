// The functions of libmem1_torch.so, bound once.
//
// Invariants: OPENBLAS_NUM_THREADS is set through libc before the library loads (the runtime's own environment does not reach native
// code); a failed load is remembered and every later use throws the same one-sentence exception.
using System.Runtime.InteropServices;

namespace TorchSharp.Interop;

/// <summary>One argument or result of a boxed call; mirrors m1_value.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeValue
{
    public ArgTag Tag;
    public int Count;
    public long Bits;
}

/// <summary>What a tensor is; mirrors m1_meta.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeMeta
{
    public long* Sizes;
    public long* Strides;
    public long NumberOfElements;
    public long StorageOffset;
    public int Dim;
    public int DType;
    public int DeviceType;
    public int DeviceIndex;
    public int ElementSize;
    public int Flags;

    public readonly bool Contiguous => (Flags & 1) != 0;
    public readonly bool RequiresGrad => (Flags & 2) != 0;
    public readonly bool Leaf => (Flags & 4) != 0;
    public readonly bool Sparse => (Flags & 8) != 0;
}

/// <summary>Counts of the caching allocator; mirrors m1_memory.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeMemoryCounts
{
    public long LiveBytes;
    public long PeakBytes;
    public long CachedBytes;
    public long LiveBlocks;
    public long TotalAllocations;
}

internal static unsafe class NativeApi
{
    public static readonly delegate* unmanaged<byte*> LastError;
    public static readonly delegate* unmanaged<byte*, byte*, nint> FindOp;
    public static readonly delegate* unmanaged<nint, NativeValue*, int, NativeValue*, int, int> Call;
    public static readonly delegate* unmanaged<byte*> Version;
    public static readonly delegate* unmanaged<nint, void> Release;
    public static readonly delegate* unmanaged<nint, nint> Retain;
    public static readonly delegate* unmanaged[SuppressGCTransition]<nint, NativeMeta*, int> Describe;
    public static readonly delegate* unmanaged<nint, void*> Data;
    public static readonly delegate* unmanaged<void*, long*, int, int, delegate* unmanaged<nint, void>, nint, nint> FromBlob;
    public static readonly delegate* unmanaged<nint, nint, int> SetData;
    public static readonly delegate* unmanaged<nint, int, int> SetRequiresGrad;
    public static readonly delegate* unmanaged<nint, nint> Grad;
    public static readonly delegate* unmanaged<nint, nint, int> SetGrad;
    public static readonly delegate* unmanaged<nint, int> RetainGrad;
    public static readonly delegate* unmanaged<nint*, int, nint*, int, int, int, nint*, int, int> Backward;
    public static readonly delegate* unmanaged<nint*, int, nint*, int, nint*, int, int, int, int, nint*, int> Gradients;
    public static readonly delegate* unmanaged[SuppressGCTransition]<int> GradEnabled;
    public static readonly delegate* unmanaged[SuppressGCTransition]<int, void> SetGradEnabled;
    public static readonly delegate* unmanaged[SuppressGCTransition]<int> InferenceEnabled;
    public static readonly delegate* unmanaged<int, nint> InferenceBegin;
    public static readonly delegate* unmanaged<nint, void> InferenceEnd;
    public static readonly delegate* unmanaged<int> DefaultDType;
    public static readonly delegate* unmanaged<int, int> SetDefaultDType;
    public static readonly delegate* unmanaged<int> Threads;
    public static readonly delegate* unmanaged<int, int> SetThreads;
    public static readonly delegate* unmanaged<int> InteropThreads;
    public static readonly delegate* unmanaged<int, int> SetInteropThreads;
    public static readonly delegate* unmanaged<int> CudaDevices;
    public static readonly delegate* unmanaged<int> HasCudnn;
    public static readonly delegate* unmanaged<int, int> CudaSynchronize;
    public static readonly delegate* unmanaged<int, int, int> ContextFlag;
    public static readonly delegate* unmanaged<ulong, int, int, nint> NewGenerator;
    public static readonly delegate* unmanaged<nint> DefaultGenerator;
    public static readonly delegate* unmanaged<nint, void> FreeGenerator;
    public static readonly delegate* unmanaged<nint, ulong, int> SetGeneratorSeed;
    public static readonly delegate* unmanaged<nint, int, ulong> GeneratorSeed;
    public static readonly delegate* unmanaged<nint, nint> GeneratorState;
    public static readonly delegate* unmanaged<nint, nint, int> SetGeneratorState;
    public static readonly delegate* unmanaged<ulong, int> ManualSeed;
    public static readonly delegate* unmanaged<NativeMemoryCounts*, int, void> ReadMemory;
    public static readonly delegate* unmanaged<void> TrimMemory;

    private static readonly string? _loadError;

    // All bindings come from one library handle, so they are made in one place, and a failure must not surface as a
    // TypeInitializationException: it is kept for Ready.
    static NativeApi()
    {
        // One thread per BLAS call: spinning BLAS threads of several actors on few cores made steps up to 8 times slower.
        _ = setenv("OPENBLAS_NUM_THREADS", "1", 0);
        if (!TryLoad(out nint library, out _loadError)) return;
        LastError = (delegate* unmanaged<byte*>)Export(library, "m1_last_error");
        FindOp = (delegate* unmanaged<byte*, byte*, nint>)Export(library, "m1_op");
        Call = (delegate* unmanaged<nint, NativeValue*, int, NativeValue*, int, int>)Export(library, "m1_call");
        Version = (delegate* unmanaged<byte*>)Export(library, "m1_version");
        Release = (delegate* unmanaged<nint, void>)Export(library, "m1_release");
        Retain = (delegate* unmanaged<nint, nint>)Export(library, "m1_retain");
        Describe = (delegate* unmanaged[SuppressGCTransition]<nint, NativeMeta*, int>)Export(library, "m1_describe");
        Data = (delegate* unmanaged<nint, void*>)Export(library, "m1_data");
        FromBlob =
            (delegate* unmanaged<void*, long*, int, int, delegate* unmanaged<nint, void>, nint, nint>)Export(library, "m1_from_blob");
        SetData = (delegate* unmanaged<nint, nint, int>)Export(library, "m1_set_data");
        SetRequiresGrad = (delegate* unmanaged<nint, int, int>)Export(library, "m1_set_requires_grad");
        Grad = (delegate* unmanaged<nint, nint>)Export(library, "m1_grad");
        SetGrad = (delegate* unmanaged<nint, nint, int>)Export(library, "m1_set_grad");
        RetainGrad = (delegate* unmanaged<nint, int>)Export(library, "m1_retain_grad");
        Backward = (delegate* unmanaged<nint*, int, nint*, int, int, int, nint*, int, int>)Export(library, "m1_backward");
        Gradients =
            (delegate* unmanaged<nint*, int, nint*, int, nint*, int, int, int, int, nint*, int>)Export(library, "m1_gradients");
        GradEnabled = (delegate* unmanaged[SuppressGCTransition]<int>)Export(library, "m1_grad_enabled");
        SetGradEnabled = (delegate* unmanaged[SuppressGCTransition]<int, void>)Export(library, "m1_set_grad_enabled");
        InferenceEnabled = (delegate* unmanaged[SuppressGCTransition]<int>)Export(library, "m1_inference_enabled");
        InferenceBegin = (delegate* unmanaged<int, nint>)Export(library, "m1_inference_begin");
        InferenceEnd = (delegate* unmanaged<nint, void>)Export(library, "m1_inference_end");
        DefaultDType = (delegate* unmanaged<int>)Export(library, "m1_default_dtype");
        SetDefaultDType = (delegate* unmanaged<int, int>)Export(library, "m1_set_default_dtype");
        Threads = (delegate* unmanaged<int>)Export(library, "m1_threads");
        SetThreads = (delegate* unmanaged<int, int>)Export(library, "m1_set_threads");
        InteropThreads = (delegate* unmanaged<int>)Export(library, "m1_interop_threads");
        SetInteropThreads = (delegate* unmanaged<int, int>)Export(library, "m1_set_interop_threads");
        CudaDevices = (delegate* unmanaged<int>)Export(library, "m1_cuda_devices");
        HasCudnn = (delegate* unmanaged<int>)Export(library, "m1_has_cudnn");
        CudaSynchronize = (delegate* unmanaged<int, int>)Export(library, "m1_cuda_synchronize");
        ContextFlag = (delegate* unmanaged<int, int, int>)Export(library, "m1_context_flag");
        NewGenerator = (delegate* unmanaged<ulong, int, int, nint>)Export(library, "m1_generator");
        DefaultGenerator = (delegate* unmanaged<nint>)Export(library, "m1_default_generator");
        FreeGenerator = (delegate* unmanaged<nint, void>)Export(library, "m1_generator_free");
        SetGeneratorSeed = (delegate* unmanaged<nint, ulong, int>)Export(library, "m1_generator_set_seed");
        GeneratorSeed = (delegate* unmanaged<nint, int, ulong>)Export(library, "m1_generator_seed");
        GeneratorState = (delegate* unmanaged<nint, nint>)Export(library, "m1_generator_get_state");
        SetGeneratorState = (delegate* unmanaged<nint, nint, int>)Export(library, "m1_generator_set_state");
        ManualSeed = (delegate* unmanaged<ulong, int>)Export(library, "m1_manual_seed");
        ReadMemory = (delegate* unmanaged<NativeMemoryCounts*, int, void>)Export(library, "m1_memory_read");
        TrimMemory = (delegate* unmanaged<void>)Export(library, "m1_memory_trim");
        if (((delegate* unmanaged<int>)Export(library, "m1_init"))() != 0)
        {
            _loadError = "libtorch could not be initialised: " + ErrorText();
        }
    }

    /// <summary>Throws when the native library is not there. The check vanishes once the JIT knows the field is null.</summary>
    public static void Ready()
    {
        if (_loadError is not null) throw new NotSupportedException(_loadError);
    }

    public static string? LoadError => _loadError;

    public static string ErrorText() => Marshal.PtrToStringUTF8((nint)LastError()) ?? "libtorch failed without a message";

    /// <summary>The failure of the last native call on this thread, as the exception the real package throws.</summary>
    public static ExternalException Error() => new(ErrorText());

    public static void Check(int status)
    {
        if (status != 0) throw Error();
    }

    public static nint Check(nint handle) => handle != 0 ? handle : throw Error();

    private static bool TryLoad(out nint library, out string? error)
    {
        error = null;
        string path = Path.Combine(AppContext.BaseDirectory, "libmem1_torch.so");
        try
        {
            library = NativeLibrary.Load(path);
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            library = 0;
            error = !File.Exists(path)
                ? $"the libtorch shim {path} is missing: run apt-get install libtorch-dev cmake g++ and build again"
                : e.Message.Contains("cannot open shared object file", StringComparison.Ordinal)
                    ? "libtorch is not installed: run apt-get install libtorch-dev"
                    // The loader's own reason stands in the last line, after advice on how to trace it.
                    : $"libtorch could not be loaded ({e.Message.Trim().Split('\n')[^1].Trim()}): run apt-get install --reinstall libtorch-dev";
            return false;
        }
    }

    private static nint Export(nint library, string name) => NativeLibrary.GetExport(library, name);

    [DllImport("libc", CharSet = CharSet.Ansi, ExactSpelling = true)]
    private static extern int setenv(string name, string value, int overwrite);
}
