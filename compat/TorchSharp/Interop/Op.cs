// A libtorch operator: found by name once, then called with boxed arguments.
//
// Invariants: tensors and generators named by arguments stay reachable until the native call has returned; every handle a call returns is
// owned by exactly one new wrapper, or released here; a failed call throws ExternalException and leaves nothing to release.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace TorchSharp.Interop;

internal sealed unsafe class Op(string name, string overload)
{
    // Enough for every shape and index list in practice; longer lists take an array.
    private const int ScratchLength = 64;

    private nint _handle;

    /// <summary>"add.Tensor" names overload Tensor of aten::add.</summary>
    public static implicit operator Op(string qualified)
    {
        int dot = qualified.IndexOf('.', StringComparison.Ordinal);
        return dot < 0 ? new Op(qualified, "") : new Op(qualified[..dot], qualified[(dot + 1)..]);
    }

    /// <summary>Calls an operator with one tensor result.</summary>
    public torch.Tensor Call(params ReadOnlySpan<Arg> args)
    {
        NativeValue result;
        Run(args, &result, 1);
        return new torch.Tensor((nint)result.Bits);
    }

    /// <summary>Calls an in-place operator and gives back the object it worked on.</summary>
    public T Mutate<T>(T self, params ReadOnlySpan<Arg> args)
        where T : torch.Tensor
    {
        Run(args, null, -1);
        return self;
    }

    public (torch.Tensor, torch.Tensor) Call2(params ReadOnlySpan<Arg> args)
    {
        NativeValue* results = stackalloc NativeValue[2];
        Run(args, results, 2);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits));
    }

    public (torch.Tensor, torch.Tensor, torch.Tensor) Call3(params ReadOnlySpan<Arg> args)
    {
        NativeValue* results = stackalloc NativeValue[3];
        Run(args, results, 3);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits), new torch.Tensor((nint)results[2].Bits));
    }

    public torch.Tensor[] CallList(params ReadOnlySpan<Arg> args)
    {
        NativeValue result;
        Run(args, &result, 1);
        var handles = new ReadOnlySpan<nint>((void*)result.Bits, result.Count);
        var tensors = new torch.Tensor[handles.Length];
        for (int k = 0; k < tensors.Length; k++) tensors[k] = new torch.Tensor(handles[k]);
        return tensors;
    }

    public bool CallBool(params ReadOnlySpan<Arg> args)
    {
        NativeValue result;
        Run(args, &result, 1);
        return result.Bits != 0;
    }

    [SkipLocalsInit]
    private void Run(ReadOnlySpan<Arg> args, NativeValue* results, int capacity)
    {
        nint op = _handle != 0 ? _handle : Find();
        NativeValue* native = stackalloc NativeValue[args.Length];
        long* scratch = stackalloc long[ScratchLength];
        int used = 0;
        List<Array>? pinned = null;
        for (int k = 0; k < args.Length; k++)
        {
            ref readonly Arg a = ref args[k];
            native[k].Tag = a.Tag;
            native[k].Count = a.Count;
            switch (a.Tag)
            {
                case ArgTag.Tensor:
                    native[k].Bits = Unsafe.As<torch.Tensor>(a.Object!).Handle;
                    break;
                case ArgTag.Ints:
                case ArgTag.Tensors:
                case ArgTag.OptionalTensors:
                    bool fits = used + a.Count <= ScratchLength;
                    long* list = fits ? scratch + used : (long*)Pinned<long>(a.Count, ref pinned);
                    used += fits ? a.Count : 0;
                    CopyList(a, list);
                    native[k].Bits = (long)list;
                    break;
                case ArgTag.Generator:
                    native[k].Bits = ((torch.Generator)a.Object!).Handle;
                    break;
                case ArgTag.String:
                    string text = (string)a.Object!;
                    int bytes = Encoding.UTF8.GetByteCount(text);
                    var copy = (byte*)Pinned<byte>(bytes + 1, ref pinned);
                    Encoding.UTF8.GetBytes(text, new Span<byte>(copy, bytes));
                    native[k].Bits = (long)copy;
                    native[k].Count = bytes;
                    break;
                default:
                    native[k].Bits = a.Bits;
                    break;
            }
        }
        int got = NativeApi.Call(op, native, args.Length, results, capacity);
        for (int k = 0; k < args.Length; k++) GC.KeepAlive(args[k].Object);
        GC.KeepAlive(pinned);
        if (got < 0) throw NativeApi.Error();
    }

    private static void CopyList(in Arg a, long* to)
    {
        if (a.Object is long[] numbers)
        {
            numbers.AsSpan().CopyTo(new Span<long>(to, numbers.Length));
            return;
        }
        var tensors = (torch.Tensor?[])a.Object!;
        for (int k = 0; k < tensors.Length; k++) to[k] = tensors[k] is { } t ? t.Handle : 0;
    }

    // An array of the pinned heap: it does not move, and lives as long as `pinned` names it.
    private static void* Pinned<T>(int length, ref List<Array>? pinned)
        where T : unmanaged
    {
        T[] array = GC.AllocateUninitializedArray<T>(length, pinned: true);
        (pinned ??= []).Add(array);
        return Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(array));
    }

    private nint Find()
    {
        NativeApi.Ready();
        fixed (byte* n = Encoding.UTF8.GetBytes("aten::" + name + "\0"), o = Encoding.UTF8.GetBytes(overload + "\0"))
        {
            return _handle = NativeApi.Check(NativeApi.FindOp(n, o));
        }
    }
}
