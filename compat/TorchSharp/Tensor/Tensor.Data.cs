// Between managed memory and tensors: single values, whole arrays, raw bytes, conversions of dtype and device.
//
// Invariants: reading a tensor that is not on the CPU copies it first; a conversion returns a new wrapper even when nothing changes, so
// that scopes can treat the result like any other.
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp.Interop;
using TorchSharp.Utils;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        /// <summary>The bytes of a contiguous CPU tensor; setting copies in.</summary>
        public unsafe Span<byte> bytes
        {
            get
            {
                NativeMeta m = Meta;
                if (!m.Contiguous) throw new NotImplementedException("Bytes() called on non-contiguous tensor.");
                if (m.DeviceType != (int)DeviceType.CPU)
                {
                    throw new InvalidOperationException(
                        "Reading data from non-CPU memory is not supported. Move or copy the tensor to the cpu before reading.");
                }
                return new Span<byte>(DataPointer(), checked((int)(m.NumberOfElements * m.ElementSize)));
            }
            set
            {
                NativeMeta m = Meta;
                if (value.Length != m.NumberOfElements * m.ElementSize)
                {
                    throw new ArgumentException("Mismatched data sizes in SetBytes().", nameof(value));
                }
                if (m.DeviceType == (int)DeviceType.CPU && m.Contiguous)
                {
                    value.CopyTo(bytes);
                    return;
                }
                using Tensor staged = empty(shape, dtype: (ScalarType)m.DType);
                value.CopyTo(staged.bytes);
                using IDisposable _ = no_grad();
                copy_(staged);
            }
        }

        /// <summary>An accessor over the elements in row-major order of the shape.</summary>
        public TensorAccessor<T> data<T>()
            where T : unmanaged
        {
            CheckElementType(typeof(T), dtype);
            return new TensorAccessor<T>(device_type == DeviceType.CPU ? this : cpu());
        }

        /// <summary>The value of a tensor of one element.</summary>
        public unsafe T item<T>()
            where T : unmanaged
        {
            NativeMeta m = Meta;
            if (m.NumberOfElements != 1)
            {
                throw new ArgumentException($"Number of elements in the tensor must be 1, but is {m.NumberOfElements}.");
            }
            CheckElementType(typeof(T), (ScalarType)m.DType);
            if (m.DeviceType != (int)DeviceType.CPU)
            {
                using Tensor here = cpu();
                return *(T*)here.DataPointer();
            }
            T value = *(T*)DataPointer();
            GC.KeepAlive(this);
            return value;
        }

        /// <summary>Element i of the storage order of a CPU tensor.</summary>
        public unsafe T ReadCpuValue<T>(long i)
            where T : unmanaged
        {
            NativeMeta m = Meta;
            if (i < 0 || i >= m.NumberOfElements)
            {
                throw new IndexOutOfRangeException("The index is greater than the number of elements in the tensor");
            }
            if (m.DeviceType != (int)DeviceType.CPU) throw new InvalidOperationException("ReadCpuValue needs a tensor on the CPU.");
            T value = ((T*)DataPointer())[i];
            GC.KeepAlive(this);
            return value;
        }

        public float ReadCpuSingle(long i) => ReadCpuValue<float>(i);

        public double ReadCpuDouble(long i) => ReadCpuValue<double>(i);

        public int ReadCpuInt32(long i) => ReadCpuValue<int>(i);

        public long ReadCpuInt64(long i) => ReadCpuValue<long>(i);

        public bool ReadCpuBool(long i) => ReadCpuValue<bool>(i);

        public byte ReadCpuByte(long i) => ReadCpuValue<byte>(i);

        public Scalar ToScalar() => dtype switch
        {
            ScalarType.Float32 => item<float>(),
            ScalarType.Float64 => item<double>(),
            ScalarType.Float16 => item<Half>(),
            ScalarType.BFloat16 => item<BFloat16>(),
            ScalarType.Int64 => item<long>(),
            ScalarType.Int32 => item<int>(),
            ScalarType.Int16 => item<short>(),
            ScalarType.Int8 => item<sbyte>(),
            ScalarType.Byte => item<byte>(),
            ScalarType.Bool => item<bool>(),
            ScalarType other => throw new NotImplementedException($"A scalar of {other}."),
        };

        public void WriteBytesToStream(Stream stream, int bufferSize = 1024)
        {
            using Tensor here = Contiguous();
            stream.Write(here.bytes);
        }

        public void ReadBytesFromStream(Stream stream, int bufferSize = 1024)
        {
            using Tensor staged = empty(shape, dtype: dtype);
            stream.ReadExactly(staged.bytes);
            using IDisposable _ = no_grad();
            copy_(staged);
        }

        public Tensor to(ScalarType type, Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Converted(Ops.to_device.Call(this, device, type, non_blocking, copy), disposeAfter);

        public Tensor to(Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to(dtype, device, copy, disposeAfter, non_blocking);

        public Tensor to(ScalarType type, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to_type(type, copy, disposeAfter, non_blocking);

        public Tensor to(
            DeviceType deviceType, int deviceIndex = -1, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to(new Device(deviceType, deviceIndex), copy, disposeAfter, non_blocking);

        public Tensor to(string device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to(new Device(device), copy, disposeAfter, non_blocking);

        public Tensor to(Tensor other, bool non_blocking = false) => to(other.dtype, other.device, non_blocking: non_blocking);

        public Tensor to_type(ScalarType type, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Converted(Ops.to_dtype.Call(this, type, non_blocking, copy), disposeAfter);

        public Tensor type(ScalarType dtype) => to_type(dtype);

        public Tensor type_as(Tensor tensor) => to_type(tensor.dtype);

        public Tensor cpu() => to(CPU);

        public Tensor cuda(Device? device = null, bool non_blocking = false) => to(device ?? CUDA, non_blocking: non_blocking);

        public Tensor @float() => to_type(ScalarType.Float32);

        public Tensor @double() => to_type(ScalarType.Float64);

        public Tensor half() => to_type(ScalarType.Float16);

        public Tensor bfloat16() => to_type(ScalarType.BFloat16);

        public Tensor @long() => to_type(ScalarType.Int64);

        public Tensor @int() => to_type(ScalarType.Int32);

        public Tensor @bool() => to_type(ScalarType.Bool);

        public Tensor @byte() => to_type(ScalarType.Byte);

        public Tensor pin_memory() => Ops.pin_memory.Call(this);

        /// <summary>Dtype, shape and device; up to 100 values after it for a small tensor.</summary>
        public override string ToString()
        {
            if (IsInvalid) return "[invalid]";
            NativeMeta m = Meta;
            string text = $"[{string.Join('x', shape)}], type = {dtype}, device = {device}";
            const long shown = 100; // one screen
            if (m.NumberOfElements is 0 or > shown || is_meta) return text;
            using Tensor values = to(ScalarType.Float64, CPU).Contiguous();
            var list = MemoryMarshal.Cast<byte, double>(values.bytes).ToArray();
            string joined = string.Join(' ', list.Select(v => v.ToString("g6", CultureInfo.InvariantCulture)));
            return $"{text}, values = {joined}";
        }

        internal unsafe void* DataPointer()
        {
            void* p = NativeApi.Data(Handle);
            GC.KeepAlive(this);
            return p;
        }

        /// <summary>A contiguous CPU tensor with these values; always a wrapper of its own that no scope holds.</summary>
        internal Tensor Contiguous()
        {
            using Tensor here = cpu();
            return here.contiguous().DetachFromDisposeScope();
        }

        internal static void CheckElementType(Type type, ScalarType dtype)
        {
            bool ok = dtype switch
            {
                ScalarType.Float32 => type == typeof(float),
                ScalarType.Float64 => type == typeof(double),
                ScalarType.Float16 => type == typeof(Half),
                ScalarType.BFloat16 => type == typeof(BFloat16),
                ScalarType.Int64 => type == typeof(long),
                ScalarType.Int32 => type == typeof(int),
                ScalarType.Int16 => type == typeof(short),
                ScalarType.Int8 => type == typeof(sbyte),
                ScalarType.Byte => type == typeof(byte),
                ScalarType.Bool => type == typeof(bool),
                _ => false,
            };
            if (!ok) throw new ArgumentException($"{type.Name} is not compatible with {dtype}");
        }

        private Tensor Converted(Tensor result, bool disposeAfter)
        {
            if (disposeAfter) Dispose();
            return result;
        }
    }
}

public static class TensorExtensionMethods
{
    public static int ElementSize(this torch.ScalarType type) => type switch
    {
        torch.ScalarType.Byte or torch.ScalarType.Int8 or torch.ScalarType.Bool => 1,
        torch.ScalarType.Int16 or torch.ScalarType.Float16 or torch.ScalarType.BFloat16 => 2,
        torch.ScalarType.Int32 or torch.ScalarType.Float32 => 4,
        torch.ScalarType.Int64 or torch.ScalarType.Float64 or torch.ScalarType.ComplexFloat32 => 8,
        torch.ScalarType.ComplexFloat64 => 16,
        _ => throw new NotImplementedException($"The size of {type}."),
    };

    public static Modules.Parameter AsParameter(this torch.Tensor tensor) => new(tensor);

    public static bool ToBoolean(this torch.Tensor value) => Read(value, torch.ScalarType.Bool, static t => t.item<bool>());

    public static float ToSingle(this torch.Tensor value) => Read(value, torch.ScalarType.Float32, static t => t.item<float>());

    public static double ToDouble(this torch.Tensor value) => Read(value, torch.ScalarType.Float64, static t => t.item<double>());

    public static int ToInt32(this torch.Tensor value) => Read(value, torch.ScalarType.Int32, static t => t.item<int>());

    public static long ToInt64(this torch.Tensor value) => Read(value, torch.ScalarType.Int64, static t => t.item<long>());

    /// <summary>Dtype, shape and raw elements in the real package's binary form.</summary>
    public static void Save(this torch.Tensor tensor, BinaryWriter writer)
    {
        long[] shape = tensor.shape;
        writer.Write7BitEncodedInt64((long)tensor.dtype);
        writer.Write7BitEncodedInt64(shape.Length);
        foreach (long d in shape) writer.Write7BitEncodedInt64(d);
        writer.Flush();
        tensor.WriteBytesToStream(writer.BaseStream);
    }

    /// <summary>Reads what Save wrote into a tensor of the same dtype and shape.</summary>
    public static void Load(this torch.Tensor tensor, BinaryReader reader, bool skip = false)
    {
        var type = (torch.ScalarType)reader.Read7BitEncodedInt64();
        if (!skip && type != tensor.dtype) throw new ArgumentException("Mismatched tensor data types while loading.");
        var shape = new long[reader.Read7BitEncodedInt64()];
        long count = 1;
        for (int d = 0; d < shape.Length; d++) count *= shape[d] = reader.Read7BitEncodedInt64();
        if (skip)
        {
            reader.BaseStream.Seek(count * type.ElementSize(), SeekOrigin.Current);
            return;
        }
        if (!shape.AsSpan().SequenceEqual(tensor.shape)) throw new ArgumentException("Mismatched tensor shape while loading.");
        tensor.ReadBytesFromStream(reader.BaseStream);
    }

    private static T Read<T>(torch.Tensor value, torch.ScalarType type, Func<torch.Tensor, T> read)
    {
        if (value.dtype == type) return read(value);
        using torch.Tensor converted = value.to_type(type);
        return read(converted);
    }
}
