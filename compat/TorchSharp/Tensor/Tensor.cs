// The wrapper of a native tensor: identity, lifetime, shape, autograd state.
//
// Invariants:
//  - A wrapper owns one native reference; it is released exactly once, by Dispose or by the finalizer.
//  - Every wrapper but a Parameter is registered in the current dispose scope when it is made.
//  - Native code never sees a handle whose wrapper could be collected meanwhile (GC.KeepAlive after each direct call).
using TorchSharp.Interop;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor : IDisposable
    {
        private static long _totalCount;
        private static long _peakCount;

        private nint _handle;

        internal Tensor(nint handle)
            : this(handle, register: true)
        {
        }

        internal Tensor(nint handle, bool register)
        {
            _handle = handle;
            long total = Interlocked.Increment(ref _totalCount);
            if (total > Volatile.Read(ref _peakCount)) RaisePeak(total);
            if (register) DisposeScopeManager.OfThread.Register(this);
        }

        ~Tensor() => Release();

        /// <summary>Wrappers alive now, on all threads.</summary>
        public static long TotalCount => Interlocked.Read(ref _totalCount);

        /// <summary>The most wrappers that were ever alive at once.</summary>
        public static long PeakCount => Interlocked.Read(ref _peakCount);

        public string? name { get; set; }

        public nint Handle => _handle != 0 ? _handle : throw new InvalidOperationException("Tensor invalid -- empty handle.");

        public bool IsInvalid => _handle == 0;

        internal DisposeScope? OwningDisposeScope { get; set; }

        internal Tensor? NextInScope { get; set; }

        internal Tensor? PreviousInScope { get; set; }

        internal unsafe NativeMeta Meta
        {
            get
            {
                NativeMeta meta;
                NativeApi.Check(NativeApi.Describe(Handle, &meta));
                GC.KeepAlive(this);
                return meta;
            }
        }

        public long Dimensions => Meta.Dim;

        public long ndim => Meta.Dim;

        public long NumberOfElements => Meta.NumberOfElements;

        public long ElementSize => Meta.ElementSize;

        public ScalarType dtype => (ScalarType)Meta.DType;

        public DeviceType device_type => (DeviceType)Meta.DeviceType;

        public int device_index => Meta.DeviceIndex;

        public Device device
        {
            get
            {
                NativeMeta m = Meta;
                return m.DeviceType == (int)DeviceType.CPU ? CPU : new Device((DeviceType)m.DeviceType, m.DeviceIndex);
            }
        }

        public bool is_cuda => device_type == DeviceType.CUDA;

        public bool is_meta => device_type == DeviceType.META;

        public bool is_sparse => Meta.Sparse;

        public bool is_leaf => Meta.Leaf;

        public bool requires_grad
        {
            get => Meta.RequiresGrad;
            set => requires_grad_(value);
        }

        public unsafe long[] shape
        {
            get
            {
                NativeMeta m = Meta;
                long[] sizes = new ReadOnlySpan<long>(m.Sizes, m.Dim).ToArray();
                GC.KeepAlive(this);
                return sizes;
            }
        }

        /// <summary>The gradient, as a new wrapper at every read, or null.</summary>
        public unsafe Tensor? grad
        {
            get
            {
                nint g = NativeApi.Grad(Handle);
                GC.KeepAlive(this);
                return g == 0 ? null : new Tensor(g);
            }
            set
            {
                NativeApi.Check(NativeApi.SetGrad(Handle, value is null ? 0 : value.Handle));
                GC.KeepAlive(this);
                GC.KeepAlive(value);
            }
        }

        public long dim() => Meta.Dim;

        public long numel() => Meta.NumberOfElements;

        public long element_size() => Meta.ElementSize;

        public long storage_offset() => Meta.StorageOffset;

        public bool is_contiguous() => Meta.Contiguous;

        public long[] size() => shape;

        public unsafe long size(int dim)
        {
            NativeMeta m = Meta;
            long size = m.Sizes[Wrap(dim, m.Dim)];
            GC.KeepAlive(this);
            return size;
        }

        public unsafe long[] stride()
        {
            NativeMeta m = Meta;
            long[] strides = m.Strides is null ? throw new InvalidOperationException("A sparse tensor has no strides.")
                : new ReadOnlySpan<long>(m.Strides, m.Dim).ToArray();
            GC.KeepAlive(this);
            return strides;
        }

        public long stride(int dim) => stride()[Wrap(dim, Meta.Dim)];

        public void Dispose()
        {
            if (OwningDisposeScope is { } scope) scope.MarkAsDisposed(this);
            else if (_handle != 0) DisposeScopeManager.OfThread.Counts.DisposedOutsideScopeCount++;
            Release();
            GC.SuppressFinalize(this);
        }

        public Tensor DetachFromDisposeScope()
        {
            OwningDisposeScope?.Detach(this);
            return this;
        }

        public Tensor MoveToOuterDisposeScope()
        {
            OwningDisposeScope?.MoveToOuter(this);
            return this;
        }

        public Tensor MoveToOtherDisposeScope(Tensor other) => MoveToOtherDisposeScope(other.OwningDisposeScope);

        public Tensor MoveToOtherDisposeScope(DisposeScope? other)
        {
            DisposeScope.Place(this, other);
            return this;
        }

        /// <summary>Hands the native reference to the caller; the wrapper is empty afterwards.</summary>
        public nint DecoupleFromNativeHandle()
        {
            nint handle = Interlocked.Exchange(ref _handle, 0);
            if (handle != 0)
            {
                Interlocked.Decrement(ref _totalCount);
                OwningDisposeScope?.Unlink(this);
            }
            GC.SuppressFinalize(this);
            return handle;
        }

        public unsafe Tensor requires_grad_(bool requires_grad = true)
        {
            NativeApi.Check(NativeApi.SetRequiresGrad(Handle, requires_grad ? 1 : 0));
            GC.KeepAlive(this);
            return this;
        }

        public Tensor with_requires_grad(bool requires_grad = true) => requires_grad_(requires_grad);

        public unsafe void retain_grad()
        {
            NativeApi.Check(NativeApi.RetainGrad(Handle));
            GC.KeepAlive(this);
        }

        public void backward(
            IList<Tensor>? grad_tensors = null, bool retain_graph = false, bool create_graph = false, IList<Tensor>? inputs = null) =>
            autograd.backward(this, grad_tensors, retain_graph, create_graph, inputs);

        public void backward() => autograd.backward(this);

        public override bool Equals(object? obj) => obj is Tensor t && Equals(t);

        /// <summary>Same shape and same values.</summary>
        public bool Equals(Tensor target) => Ops.equal.CallBool(this, target);

        public override int GetHashCode() => System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(this);

        internal static int Wrap(long dim, int dims) => dim >= -dims && dim < dims
            ? (int)(dim < 0 ? dim + dims : dim)
            : throw new ArgumentOutOfRangeException(nameof(dim), $"Dimension {dim} is out of range for a tensor of {dims} dimensions.");

        private static void RaisePeak(long total)
        {
            long peak = Volatile.Read(ref _peakCount);
            while (total > peak)
            {
                long seen = Interlocked.CompareExchange(ref _peakCount, total, peak);
                if (seen == peak) return;
                peak = seen;
            }
        }

        private unsafe void Release()
        {
            nint handle = Interlocked.Exchange(ref _handle, 0);
            if (handle == 0) return;
            Interlocked.Decrement(ref _totalCount);
            NativeApi.Release(handle);
        }
    }
}
