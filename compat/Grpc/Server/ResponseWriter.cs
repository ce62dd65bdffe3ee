// The writing end that a streaming handler holds. Invariant: one write at a time.

using Grpc.Core;

namespace Grpc.AspNetCore.Server;

internal sealed class ResponseWriter<T>(HttpContextServerCallContext context, Marshaller<T> marshaller) : IServerStreamWriter<T>
    where T : class
{
    private int _writing;

    public WriteOptions? WriteOptions
    {
        get => context.WriteOptions;
        set => context.WriteOptions = value;
    }

    public Task WriteAsync(T message) => WriteAsync(message, CancellationToken.None);

    public Task WriteAsync(T message, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(message);
        if (Interlocked.Exchange(ref _writing, 1) != 0)
        {
            return Task.FromException(
                new InvalidOperationException("Can't write the message because the previous write is in progress."));
        }
        return WriteCoreAsync(message, cancellationToken);
    }

    private async Task WriteCoreAsync(T message, CancellationToken cancellationToken)
    {
        using var registration = cancellationToken.UnsafeRegister(
            static s => ((HttpContextServerCallContext)s!).CancelByHandler(), context);
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (!context.IsEnded)
                context.CancellationToken.ThrowIfCancellationRequested();
            var flush = ((context.WriteOptions?.Flags ?? default) & WriteFlags.BufferHint) == 0;
            await context.WriteMessageAsync(marshaller, message, flush).ConfigureAwait(false);
        }
        finally
        {
            Volatile.Write(ref _writing, 0);
        }
    }
}
