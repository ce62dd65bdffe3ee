// Dispose scopes: a thread-static stack; a tensor made on a thread belongs to that thread's innermost scope and dies with it.
//
// Invariants:
//  - A tensor is in at most one scope. Membership is an intrusive list through the tensor, so that registering allocates nothing.
//  - Disposing a tensor early takes it out of its scope. Moving to "no scope" is the same as detaching.
//  - Scopes are confined to their thread; nothing here locks.
namespace TorchSharp;

public sealed class DisposeScope : IDisposable
{
    private readonly DisposeScopeManager _manager;
    private torch.Tensor? _head;
    private bool _disposed;

    internal DisposeScope(DisposeScopeManager manager, DisposeScope? outer)
    {
        _manager = manager;
        OuterScope = outer;
    }

    internal DisposeScope? OuterScope { get; set; }

    public int DisposablesCount { get; private set; }

    /// <summary>A copy of what the scope holds now.</summary>
    public IReadOnlyList<IDisposable> DisposablesView
    {
        get
        {
            var list = new List<IDisposable>(DisposablesCount);
            for (torch.Tensor? t = _head; t is not null; t = t.NextInScope) list.Add(t);
            list.Reverse();
            return list;
        }
    }

    public bool Contains(IDisposable disposable) => disposable is torch.Tensor t && t.OwningDisposeScope == this;

    public void Attach(IDisposable disposable) => Place(disposable, this);

    public void Attach(params IDisposable[] disposables)
    {
        foreach (IDisposable d in disposables) Place(d, this);
    }

    public IReadOnlyList<IDisposable> Attach(IEnumerable<IDisposable> disposables)
    {
        var list = disposables.ToList();
        foreach (IDisposable d in list) Place(d, this);
        return list;
    }

    public T Detach<T>(T disposable)
        where T : IDisposable
    {
        MoveTo(disposable, null);
        return disposable;
    }

    public (T1 first, T2 second) Detach<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable => (Detach(first), Detach(second));

    public (T1 first, T2 second, T3 third) Detach<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable => (Detach(first), Detach(second), Detach(third));

    public void Detach(params IDisposable[] disposables) => Detach((IEnumerable<IDisposable>)disposables);

    public void Detach(IEnumerable<IDisposable> disposables)
    {
        foreach (IDisposable d in disposables.ToArray()) MoveTo(d, null);
    }

    public T MoveToOther<T>(DisposeScope? scope, T disposable)
        where T : IDisposable
    {
        MoveTo(disposable, scope);
        return disposable;
    }

    public (T1 first, T2 second) MoveToOther<T1, T2>(DisposeScope? scope, T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable => (MoveToOther(scope, first), MoveToOther(scope, second));

    public (T1 first, T2 second, T3 third) MoveToOther<T1, T2, T3>(DisposeScope? scope, T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable => (MoveToOther(scope, first), MoveToOther(scope, second), MoveToOther(scope, third));

    public void MoveToOther(DisposeScope? scope, params IDisposable[] disposables) =>
        MoveToOther(scope, (IEnumerable<IDisposable>)disposables);

    public void MoveToOther(DisposeScope? scope, IEnumerable<IDisposable> disposables)
    {
        foreach (IDisposable d in disposables.ToArray()) MoveTo(d, scope);
    }

    public T MoveToOuter<T>(T disposable)
        where T : IDisposable => MoveToOther(OuterScope, disposable);

    public (T1 first, T2 second) MoveToOuter<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable => MoveToOther(OuterScope, first, second);

    public (T1 first, T2 second, T3 third) MoveToOuter<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable => MoveToOther(OuterScope, first, second, third);

    public void MoveToOuter(params IDisposable[] disposables) => MoveToOther(OuterScope, (IEnumerable<IDisposable>)disposables);

    public void MoveToOuter(IEnumerable<IDisposable> disposables) => MoveToOther(OuterScope, disposables);

    public void DisposeEverything()
    {
        while (_head is { } t) t.Dispose();
    }

    public void DisposeEverythingBut(IEnumerable<IDisposable> inKeep)
    {
        var keep = new HashSet<IDisposable>(inKeep, ReferenceEqualityComparer.Instance);
        foreach (IDisposable d in DisposablesView)
        {
            if (!keep.Contains(d)) d.Dispose();
        }
    }

    public void DisposeEverythingBut(params IDisposable[] keep) => DisposeEverythingBut((IEnumerable<IDisposable>)keep);

    public T DisposeEverythingBut<T>(T keep)
        where T : IDisposable
    {
        DisposeEverythingBut([keep]);
        return keep;
    }

    public (T1 first, T2 second) DisposeEverythingBut<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable
    {
        DisposeEverythingBut(new IDisposable[] { first, second });
        return (first, second);
    }

    public (T1 first, T2 second, T3 third) DisposeEverythingBut<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable
    {
        DisposeEverythingBut(new IDisposable[] { first, second, third });
        return (first, second, third);
    }

    /// <summary>Tells the scope that a member was disposed by other means.</summary>
    public void MarkAsDisposed(IDisposable disposable)
    {
        torch.Tensor t = AsTensor(disposable);
        if (t.OwningDisposeScope != this) return;
        Unlink(t);
        _manager.Counts.DisposedInScopeCount++;
    }

    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        DisposeEverything();
        _manager.Remove(this);
    }

    /// <summary>Registers a tensor that has just been made.</summary>
    internal void Include(torch.Tensor t)
    {
        t.OwningDisposeScope = this;
        t.NextInScope = _head;
        if (_head is not null) _head.PreviousInScope = t;
        _head = t;
        DisposablesCount++;
    }

    internal void Unlink(torch.Tensor t)
    {
        if (t.PreviousInScope is { } previous) previous.NextInScope = t.NextInScope;
        else _head = t.NextInScope;
        if (t.NextInScope is { } next) next.PreviousInScope = t.PreviousInScope;
        t.NextInScope = null;
        t.PreviousInScope = null;
        t.OwningDisposeScope = null;
        DisposablesCount--;
    }

    /// <summary>Puts a tensor into `target` whatever scope it was in, or into none.</summary>
    internal static void Place(IDisposable disposable, DisposeScope? target)
    {
        torch.Tensor t = AsTensor(disposable);
        DisposeScope? from = t.OwningDisposeScope;
        if (from == target) return;
        if (from is null)
        {
            target!._manager.Counts.AttachedToScopeCount++;
        }
        else
        {
            from.Unlink(t);
            if (target is null) from._manager.Counts.DetachedFromScopeCount++;
        }
        target?.Include(t);
    }

    // Moving concerns members of this scope only; anything else is left where it is.
    private void MoveTo(IDisposable disposable, DisposeScope? target)
    {
        if (AsTensor(disposable).OwningDisposeScope == this) Place(disposable, target);
    }

    private static torch.Tensor AsTensor(IDisposable disposable) => disposable as torch.Tensor
        ?? throw new InvalidOperationException($"Dispose scopes hold tensors only, not {disposable?.GetType().Name ?? "null"}.");
}

/// <summary>The scopes of one thread.</summary>
public class DisposeScopeManager
{
    [ThreadStatic]
    private static DisposeScopeManager? _ofThread;

    public static ThreadDisposeScopeStatistics Statistics => OfThread.ThreadStatistics;

    internal static DisposeScopeManager OfThread => _ofThread ??= new DisposeScopeManager();

    internal ThreadDisposeScopeStatistics ThreadStatistics { get; } = new();

    internal LifetimeStatistics Counts => ThreadStatistics.TensorStatistics;

    internal DisposeScope? Current { get; private set; }

    internal DisposeScope Push() => Current = new DisposeScope(this, Current);

    internal void Register(torch.Tensor t)
    {
        if (Current is { } scope)
        {
            Counts.CreatedInScopeCount++;
            scope.Include(t);
        }
        else
        {
            Counts.CreatedOutsideScopeCount++;
        }
    }

    // Out of order is tolerated: the scope is cut out of the chain.
    internal void Remove(DisposeScope scope)
    {
        if (Current == scope)
        {
            Current = scope.OuterScope;
            return;
        }
        for (DisposeScope? inner = Current; inner is not null; inner = inner.OuterScope)
        {
            if (inner.OuterScope != scope) continue;
            inner.OuterScope = scope.OuterScope;
            return;
        }
    }
}

/// <summary>How many tensors a thread made and disposed, in scopes and outside.</summary>
public class LifetimeStatistics
{
    public long CreatedOutsideScopeCount { get; internal set; }

    public long DisposedOutsideScopeCount { get; internal set; }

    public long CreatedInScopeCount { get; internal set; }

    public long DisposedInScopeCount { get; internal set; }

    public long AttachedToScopeCount { get; internal set; }

    public long DetachedFromScopeCount { get; internal set; }

    public long ThreadTotalLiveCount =>
        CreatedOutsideScopeCount + CreatedInScopeCount - DisposedOutsideScopeCount - DisposedInScopeCount;

    public void Reset()
    {
        CreatedOutsideScopeCount = DisposedOutsideScopeCount = 0;
        CreatedInScopeCount = DisposedInScopeCount = 0;
        AttachedToScopeCount = DetachedFromScopeCount = 0;
    }

    public override string ToString() =>
        $"created {CreatedInScopeCount} in scopes and {CreatedOutsideScopeCount} outside, disposed {DisposedInScopeCount} and " +
        $"{DisposedOutsideScopeCount}, attached {AttachedToScopeCount}, detached {DetachedFromScopeCount}, live {ThreadTotalLiveCount}";
}

/// <summary>The statistics of one thread, over everything a scope can hold.</summary>
public class ThreadDisposeScopeStatistics
{
    public LifetimeStatistics TensorStatistics { get; } = new();

    public long CreatedOutsideScopeCount => TensorStatistics.CreatedOutsideScopeCount;

    public long DisposedOutsideScopeCount => TensorStatistics.DisposedOutsideScopeCount;

    public long CreatedInScopeCount => TensorStatistics.CreatedInScopeCount;

    public long DisposedInScopeCount => TensorStatistics.DisposedInScopeCount;

    public long AttachedToScopeCount => TensorStatistics.AttachedToScopeCount;

    public long DetachedFromScopeCount => TensorStatistics.DetachedFromScopeCount;

    public long ThreadTotalLiveCount => TensorStatistics.ThreadTotalLiveCount;

    public void Reset() => TensorStatistics.Reset();

    public override string ToString() => TensorStatistics.ToString();
}
