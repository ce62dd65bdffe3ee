using System.Collections.Concurrent;

namespace Mem1.Dashboard.Tests;

/// <summary>Remembers what it is told to do.</summary>
internal sealed class FakeTarget : ICommandTarget
{
    public ConcurrentQueue<RunCommand> Told { get; } = new();

    public Func<RunCommand, Task<CommandResult>> Do { get; set; } =
        command => Task.FromResult(new CommandResult(true, $"{command.Name} is done."));

    public Task<CommandResult> ExecuteAsync(RunCommand command, CancellationToken cancellationToken)
    {
        Told.Enqueue(command);
        return Do(command);
    }
}

/// <summary>Shows what a test says.</summary>
internal sealed class FakeLive : ILiveSource
{
    private LiveSnapshot? _now;

    public LiveSnapshot? Now
    {
        get => Volatile.Read(ref _now);
        set => Volatile.Write(ref _now, value);
    }

    public LiveSnapshot? Snapshot() => Now;
}
