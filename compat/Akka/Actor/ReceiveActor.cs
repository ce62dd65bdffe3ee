// An actor whose behaviour is a list of typed handlers, tried in the order of their declaration; the first that matches by type and
// predicate wins. Handlers are declared in the constructor or inside Become, never elsewhere.
namespace Akka.Actor;

public abstract class ReceiveActor : UntypedActor
{
    // The list being declared; null once sealed.
    private HandlerList _declaring = new();
    private HandlerList _initial;

    private delegate bool Handler(object message);

    protected sealed override void OnReceive(object message) => Run(_initial, message);

    protected void Become(Action configure) => Become(Declare(configure));

    protected void BecomeStacked(Action configure) => BecomeStacked(Declare(configure));

    protected void Receive<T>(Action<T> handler, Predicate<T> shouldHandle = null) => Add(handler, shouldHandle);

    protected void Receive<T>(Predicate<T> shouldHandle, Action<T> handler) => Add(handler, shouldHandle);

    protected void Receive<T>(Func<T, bool> handler) => Declaring().Add(message => message is T typed && handler(typed), catchesAll: false);

    protected void ReceiveAny(Action<object> handler) => Add(handler, null);

    protected void ReceiveAsync<T>(Func<T, Task> handler, Predicate<T> shouldHandle = null) =>
        Add(message => RunTask(() => handler(message)), shouldHandle);

    protected void ReceiveAsync<T>(Predicate<T> shouldHandle, Func<T, Task> handler) => ReceiveAsync(handler, shouldHandle);

    protected void ReceiveAnyAsync(Func<object, Task> handler) => ReceiveAsync(handler);

    internal override void Incarnate()
    {
        base.Incarnate();
        _initial = _declaring;
        _declaring = null;
    }

    private void Add<T>(Action<T> handler, Predicate<T> shouldHandle) => Declaring().Add(
        shouldHandle is null
            ? message =>
            {
                if (message is not T typed)
                {
                    return false;
                }

                handler(typed);
                return true;
            }
    : message =>
    {
        if (message is not T typed || !shouldHandle(typed))
        {
            return false;
        }

        handler(typed);
        return true;
    },
        catchesAll: shouldHandle is null && typeof(T) == typeof(object));

    private HandlerList Declaring() => _declaring ?? throw new InvalidOperationException(
        "You may only call Receive-methods when constructing the actor and inside Become.");

    private UntypedReceive Declare(Action configure)
    {
        var before = _declaring;
        var handlers = _declaring = new HandlerList();
        try
        {
            configure();
        }
        finally
        {
            _declaring = before;
        }

        return message => Run(handlers, message);
    }

    private void Run(HandlerList handlers, object message)
    {
        if (!handlers.Handle(message))
        {
            Unhandled(message);
        }
    }

    private sealed class HandlerList
    {
        private Handler[] _handlers = [];
        private bool _catchesAll;

        internal void Add(Handler handler, bool catchesAll)
        {
            if (_catchesAll)
            {
                throw new InvalidOperationException(
                    "A handler that catches all messages has been added. No handler can be added after that.");
            }

            _handlers = [.. _handlers, handler];
            _catchesAll = catchesAll;
        }

        internal bool Handle(object message)
        {
            foreach (var handler in _handlers)
            {
                if (handler(message))
                {
                    return true;
                }
            }

            return false;
        }
    }
}
