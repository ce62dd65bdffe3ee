// Dispose scopes, early disposal, views, threads, and that nothing piles up over many steps.
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

[Collection(nameof(LifetimeTests))]
[CollectionDefinition(nameof(LifetimeTests), DisableParallelization = true)]
public sealed class LifetimeTests
{
    [Fact]
    public void A_scope_disposes_what_was_made_in_it_and_not_what_was_moved_out()
    {
        Tensor kept, outer, detached, inner;
        using (DisposeScope a = NewDisposeScope())
        {
            outer = ones(1);
            using (DisposeScope b = NewDisposeScope())
            {
                inner = ones(2);
                kept = ones(3).MoveToOuterDisposeScope();
                detached = b.Detach(ones(4));
                Assert.Equal(1, b.DisposablesCount);
                Assert.True(b.Contains(inner));
                Assert.True(a.Contains(kept));
                Assert.Same(b, CurrentDisposeScope);
            }
            Assert.True(inner.IsInvalid);
            Assert.False(kept.IsInvalid);
        }
        Assert.True(outer.IsInvalid);
        Assert.True(kept.IsInvalid);
        Assert.False(detached.IsInvalid);
        detached.Dispose();
        detached.Dispose();
        Assert.Null(CurrentDisposeScope);
    }

    [Fact]
    public void Moving_out_of_the_outermost_scope_detaches()
    {
        Tensor t;
        using (NewDisposeScope())
        {
            t = ones(1).MoveToOuterDisposeScope();
        }
        Assert.False(t.IsInvalid);
        t.Dispose();
    }

    [Fact]
    public void Everything_but_some_can_be_disposed_in_between()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor a = ones(1), b = ones(1), c = ones(1);
        scope.DisposeEverythingBut(b);
        Assert.True(a.IsInvalid);
        Assert.False(b.IsInvalid);
        Assert.True(c.IsInvalid);
        Assert.Equal(1, scope.DisposablesCount);
        scope.DisposeEverything();
        Assert.True(b.IsInvalid);
        using Tensor loose = scope.Detach(ones(1));
        scope.Attach(loose);
        Assert.Equal(1, scope.DisposablesCount);
    }

    [Fact]
    public void Use_after_dispose_says_so()
    {
        Tensor t = ones(2);
        t.Dispose();
        var error = Assert.Throws<InvalidOperationException>(() => t + 1);
        Assert.Equal("Tensor invalid -- empty handle.", error.Message);
        Assert.Throws<InvalidOperationException>(() => t.shape);
        Assert.Throws<InvalidOperationException>(() => t.Handle);
    }

    [Fact]
    public void A_view_outlives_its_base()
    {
        Tensor x = arange(6);
        using Tensor view = x[TensorIndex.Slice(2, 4)];
        x.Dispose();
        Assert.Equal([2L, 3], view.data<long>().ToArray());
    }

    [Fact]
    public void In_place_methods_return_the_same_object()
    {
        Settle();
        using Tensor x = ones(2);
        long before = Tensor.TotalCount;
        Assert.Same(x, x.mul_(2).add_(x).zero_());
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Statistics_count_per_thread()
    {
        DisposeScopeManager.Statistics.Reset();
        ones(1).Dispose();
        using (NewDisposeScope())
        {
            _ = ones(1);
            _ = ones(1).DetachFromDisposeScope();
        }
        ThreadDisposeScopeStatistics s = DisposeScopeManager.Statistics;
        Assert.Equal(1, s.CreatedOutsideScopeCount);
        Assert.Equal(1, s.DisposedOutsideScopeCount);
        Assert.Equal(2, s.CreatedInScopeCount);
        Assert.Equal(1, s.DisposedInScopeCount);
        Assert.Equal(1, s.DetachedFromScopeCount);
        Assert.Equal(1, s.ThreadTotalLiveCount);
    }

    [Fact]
    public void Scopes_and_grad_mode_belong_to_their_thread()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor? made = null;
        bool otherGrad = false;
        var thread = new Thread(() =>
        {
            otherGrad = is_grad_enabled();
            made = ones(1);
        });
        thread.Start();
        thread.Join();
        Assert.True(otherGrad);
        Assert.False(is_grad_enabled());
        Assert.False(scope.Contains(made!));
        made!.Dispose();
    }

    [Fact]
    public void Threads_accumulate_into_shared_parameters()
    {
        using Tensor w = ones(8, dtype: float64, requires_grad: true);
        void Work()
        {
            for (int k = 0; k < 50; k++)
            {
                using DisposeScope scope = NewDisposeScope();
                (w * (double)k).sum().backward();
            }
        }
        Thread[] threads = [.. Enumerable.Range(0, 3).Select(_ => new Thread(Work))];
        foreach (Thread t in threads) t.Start();
        foreach (Thread t in threads) t.Join();
        using Tensor g = w.grad!;
        Assert.All(g.data<double>().ToArray(), v => Assert.Equal(3 * 49 * 50 / 2, v, 1e-9));
    }

    // Tensors that earlier tests dropped are finalised now and not in the middle of a count.
    internal static void Settle()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    [Fact]
    public void Three_hundred_training_steps_leave_no_tensor_behind()
    {
        Settle();
        using var model = new TwoLayers(16, 32);
        using AdamW optimizer = optim.AdamW(model.parameters(), lr: 1e-3, weight_decay: 0.1);
        long after = 0;
        double loss = 0, firstLoss = 0;
        for (int step = 0; step < 300; step++)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor x = randn(8, 16);
            Tensor l = (model.call(x) - x).square().mean();
            optimizer.zero_grad();
            l.backward();
            nn.utils.clip_grad_norm_(model.parameters(), 1.0);
            optimizer.step();
            loss = l.ToDouble();
            if (step == 0) firstLoss = loss;
            scope.DisposeEverything();
            if (step == 0) after = Tensor.TotalCount;
            Assert.True(Tensor.TotalCount <= after, $"{Tensor.TotalCount - after} more tensors at step {step}");
        }
        Assert.True(loss < firstLoss, $"loss went from {firstLoss} to {loss}");
    }
}
