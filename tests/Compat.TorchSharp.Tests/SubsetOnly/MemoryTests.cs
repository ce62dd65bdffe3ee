// What only the subset has: exact memory counts, operators looked up by name, and its refusals.
using System.Reflection;
using Mem1.Compat.Native;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

[Collection(nameof(LifetimeTests))]
public sealed class MemoryTests
{
    [Fact]
    public void Live_and_peak_bytes_are_exact()
    {
        LifetimeTests.Settle();
        using DisposeScope scope = NewDisposeScope();
        NativeMemory before = NativeMemory.ReadAndResetPeak();
        Tensor a = zeros(1000);
        Tensor b = zeros(500, dtype: float64);
        Assert.Equal(before.LiveBytes + 8000, NativeMemory.Read().LiveBytes);
        a.Dispose();
        b.Dispose();
        NativeMemory after = NativeMemory.Read();
        Assert.Equal(before.LiveBytes, after.LiveBytes);
        Assert.Equal(before.LiveBytes + 8000, after.PeakBytes);
        Assert.Equal(before.LiveBlocks, after.LiveBlocks);
    }

    [Fact]
    public void Freed_blocks_are_used_again_and_can_be_given_back()
    {
        LifetimeTests.Settle();
        using DisposeScope scope = NewDisposeScope();
        zeros(1 << 20).Dispose();
        long cached = NativeMemory.Read().CachedBytes;
        Assert.True(cached >= 4 << 20);
        Tensor again = empty(1 << 20);
        Assert.True(NativeMemory.Read().CachedBytes <= cached - (4 << 20));
        again.Dispose();
        NativeMemory.Trim();
        Assert.Equal(0, NativeMemory.Read().CachedBytes);
    }

    [Fact]
    public void Memory_is_flat_over_three_hundred_steps()
    {
        LifetimeTests.Settle();
        using var model = new TwoLayers(32, 64);
        using AdamW optimizer = optim.AdamW(model.parameters());
        long first = 0;
        for (int step = 0; step < 300; step++)
        {
            using (DisposeScope scope = NewDisposeScope())
            {
                Tensor loss = (model.call(randn(16, 32)) * 0.5).square().mean();
                optimizer.zero_grad();
                loss.backward();
                optimizer.step();
            }
            // Constants that the shim keeps (a learning rate's correction, say) are a few bytes each.
            long live = NativeMemory.Read().LiveBytes;
            if (step == 1) first = live;
            if (step > 1) Assert.True(live <= first + (64 * 1024), $"{live - first} bytes more at step {step}");
        }
    }

    [Fact]
    public void Every_operator_of_the_table_exists_in_this_libtorch()
    {
        Type table = typeof(torch).Assembly.GetType("TorchSharp.Interop.Ops", throwOnError: true)!;
        FieldInfo[] fields = table.GetFields(BindingFlags.Static | BindingFlags.Public);
        var missing = new List<string>();
        foreach (FieldInfo f in fields)
        {
            object op = f.GetValue(null)!;
            MethodInfo find = op.GetType().GetMethod("Find", BindingFlags.Instance | BindingFlags.NonPublic)!;
            try
            {
                find.Invoke(op, null);
            }
            catch (TargetInvocationException e)
            {
                missing.Add($"{f.Name}: {e.InnerException!.Message}");
            }
        }
        Assert.True(fields.Length > 100);
        Assert.Empty(missing);
    }

    [Fact]
    public void Every_thread_computes_with_one_intra_op_thread()
    {
        int elsewhere = 0;
        var thread = new Thread(() =>
        {
            using Tensor t = ones(4).sum();
            elsewhere = get_num_threads();
        });
        thread.Start();
        thread.Join();
        Assert.Equal(1, get_num_threads());
        Assert.Equal(1, elsewhere);
    }

    [Fact]
    public void Named_tensors_are_refused() =>
        Assert.Throws<NotImplementedException>(() => zeros(2, names: ["n"]));
}
