// What surrounds tensors: scopes, grad modes, random numbers, threads, devices.
//
// Invariant: grad and inference mode are per OS thread; the object that a mode function returns restores the earlier mode on the thread
// that disposes it, so it must not be held across an await.
using System.Runtime.InteropServices;
using TorchSharp.Interop;

namespace TorchSharp;

public static unsafe partial class torch
{
    /// <summary>The version of the libtorch underneath.</summary>
    public static string __version__
    {
        get
        {
            NativeApi.Ready();
            return Marshal.PtrToStringUTF8((nint)NativeApi.Version()) ?? "";
        }
    }

    public static DisposeScope? CurrentDisposeScope => DisposeScopeManager.OfThread.Current;

    public static DisposeScope NewDisposeScope() => DisposeScopeManager.OfThread.Push();

    public static Tensor WrappedTensorDisposeScope(Func<Tensor> expr)
    {
        using DisposeScope scope = NewDisposeScope();
        return expr().MoveToOuterDisposeScope();
    }

    public static IDisposable no_grad() => new GradMode(false);

    public static IDisposable enable_grad(bool enabled = true) => new GradMode(enabled);

    public static IDisposable set_grad_enabled(bool mode = true) => new GradMode(mode);

    public static bool is_grad_enabled()
    {
        NativeApi.Ready();
        return NativeApi.GradEnabled() != 0;
    }

    public static IDisposable inference_mode(bool mode = true) => new InferenceMode(mode);

    public static bool is_inference_mode_enabled()
    {
        NativeApi.Ready();
        return NativeApi.InferenceEnabled() != 0;
    }

    public static Generator manual_seed(long seed)
    {
        NativeApi.Ready();
        NativeApi.Check(NativeApi.ManualSeed(unchecked((ulong)seed)));
        return Generator.Default;
    }

    public static long initial_seed() => Generator.Default.initial_seed();

    public static Tensor get_rng_state() => Generator.Default.get_state();

    public static void set_rng_state(Tensor new_state) => Generator.Default.set_state(new_state);

    public static int get_num_threads()
    {
        NativeApi.Ready();
        return NativeApi.Threads();
    }

    public static void set_num_threads(int num)
    {
        NativeApi.Ready();
        NativeApi.Check(NativeApi.SetThreads(num));
    }

    public static int get_num_interop_threads()
    {
        NativeApi.Ready();
        return NativeApi.InteropThreads();
    }

    public static void set_num_interop_threads(int num)
    {
        NativeApi.Ready();
        NativeApi.Check(NativeApi.SetInteropThreads(num));
    }

    public static ScalarType get_default_dtype()
    {
        NativeApi.Ready();
        return (ScalarType)NativeApi.DefaultDType();
    }

    public static void set_default_dtype(ScalarType dtype)
    {
        NativeApi.Ready();
        NativeApi.Check(NativeApi.SetDefaultDType((int)dtype));
    }

    public static bool cuda_is_available() => cuda.is_available();

    public static bool is_tensor(object obj) => obj is Tensor;

    public static bool is_floating_point(Tensor input) => is_floating_point(input.dtype);

    public static long numel(Tensor input) => input.numel();

    /// <summary>Loads the native library; throws when it cannot.</summary>
    public static void InitializeDeviceType(DeviceType deviceType)
    {
        NativeApi.Ready();
        if (deviceType == DeviceType.CUDA && !cuda.is_available())
        {
            throw new InvalidOperationException("Torch device type CUDA did not initialise on the current machine.");
        }
    }

    public static bool TryInitializeDeviceType(DeviceType deviceType) =>
        NativeApi.LoadError is null && (deviceType != DeviceType.CUDA || cuda.is_available());

    public static FInfo finfo() => finfo(get_default_dtype());

    public static FInfo finfo(ScalarType dtype) => dtype switch
    {
        ScalarType.Float32 => new FInfo(32, 1.1920928955078125e-07, float.MaxValue, 1.1754943508222875e-38, 1e-06),
        ScalarType.Float64 => new FInfo(64, 2.220446049250313e-16, double.MaxValue, 2.2250738585072014e-308, 1e-15),
        ScalarType.Float16 => new FInfo(16, 0.0009765625, 65504, 6.103515625e-05, 0.001),
        ScalarType.BFloat16 => new FInfo(16, 0.0078125, 3.3895313892515355e+38, 1.1754943508222875e-38, 0.01),
        _ => throw new ArgumentException($"finfo is of floating-point types, not {dtype}.", nameof(dtype)),
    };

    /// <summary>Limits of a floating-point type.</summary>
    public struct FInfo
    {
        public int bits;
        public double eps;
        public double max;
        public double min;
        public double tiny;
        public double smallest_normal;
        public double resolution;

        internal FInfo(int bits, double eps, double max, double smallestNormal, double resolution)
        {
            this.bits = bits;
            this.eps = eps;
            this.max = max;
            min = -max;
            tiny = smallest_normal = smallestNormal;
            this.resolution = resolution;
        }
    }

    public static class cuda
    {
        public static bool is_available() => device_count() > 0;

        public static bool is_cudnn_available()
        {
            NativeApi.Ready();
            return NativeApi.HasCudnn() != 0;
        }

        public static int device_count()
        {
            NativeApi.Ready();
            return NativeApi.CudaDevices();
        }

        public static void manual_seed(long seed) => torch.manual_seed(seed);

        public static void manual_seed_all(long seed) => torch.manual_seed(seed);

        public static void synchronize(Device? device = null)
        {
            NativeApi.Ready();
            NativeApi.Check(NativeApi.CudaSynchronize(device?.index ?? -1));
        }
    }

    public static class random
    {
        public static Generator manual_seed(long seed) => torch.manual_seed(seed);

        public static long initial_seed() => torch.initial_seed();

        public static Tensor get_rng_state() => torch.get_rng_state();

        public static void set_rng_state(Tensor new_state) => torch.set_rng_state(new_state);
    }

    public static class backends
    {
        public static class cuda
        {
            public static class matmul
            {
                public static bool allow_tf32
                {
                    get => Flag(0, -1);
                    set => Flag(0, value ? 1 : 0);
                }
            }
        }

        public static class cudnn
        {
            public static bool allow_tf32
            {
                get => Flag(1, -1);
                set => Flag(1, value ? 1 : 0);
            }
        }

        private static bool Flag(int which, int value)
        {
            NativeApi.Ready();
            return NativeApi.ContextFlag(which, value) != 0;
        }
    }

    /// <summary>A source of random numbers with a state of its own.</summary>
    public sealed class Generator : IDisposable
    {
        private nint _handle;

        public Generator(ulong seed = 0, Device? device = null)
        {
            NativeApi.Ready();
            this.device = device ?? CPU;
            _handle = NativeApi.Check(NativeApi.NewGenerator(seed, (int)this.device.type, this.device.index));
        }

        private Generator(nint handle)
        {
            device = CPU;
            _handle = handle;
        }

        ~Generator() => Free();

        public static Generator Default
        {
            get
            {
                NativeApi.Ready();
                return new Generator(NativeApi.DefaultGenerator());
            }
        }

        public Device device { get; }

        public nint Handle => _handle != 0 ? _handle : throw new ObjectDisposedException(nameof(Generator));

        public Generator manual_seed(long seed)
        {
            NativeApi.Check(NativeApi.SetGeneratorSeed(Handle, unchecked((ulong)seed)));
            GC.KeepAlive(this);
            return this;
        }

        /// <summary>Seeds from the system's entropy and returns that seed.</summary>
        public long seed() => Seed(fresh: true);

        public long initial_seed() => Seed(fresh: false);

        public Tensor get_state()
        {
            nint state = NativeApi.Check(NativeApi.GeneratorState(Handle));
            GC.KeepAlive(this);
            return new Tensor(state);
        }

        public void set_state(Tensor value)
        {
            NativeApi.Check(NativeApi.SetGeneratorState(Handle, value.Handle));
            GC.KeepAlive(this);
            GC.KeepAlive(value);
        }

        public void Dispose()
        {
            Free();
            GC.SuppressFinalize(this);
        }

        private long Seed(bool fresh)
        {
            long seed = unchecked((long)NativeApi.GeneratorSeed(Handle, fresh ? 1 : 0));
            GC.KeepAlive(this);
            return seed;
        }

        private void Free()
        {
            nint handle = Interlocked.Exchange(ref _handle, 0);
            if (handle != 0) NativeApi.FreeGenerator(handle);
        }
    }

    private sealed class GradMode : IDisposable
    {
        private readonly bool _before;

        public GradMode(bool enabled)
        {
            _before = is_grad_enabled();
            NativeApi.SetGradEnabled(enabled ? 1 : 0);
        }

        public void Dispose() => NativeApi.SetGradEnabled(_before ? 1 : 0);
    }

    private sealed class InferenceMode : IDisposable
    {
        private nint _guard;

        public InferenceMode(bool mode)
        {
            NativeApi.Ready();
            _guard = NativeApi.InferenceBegin(mode ? 1 : 0);
        }

        public void Dispose()
        {
            nint guard = Interlocked.Exchange(ref _guard, 0);
            if (guard != 0) NativeApi.InferenceEnd(guard);
        }
    }
}
