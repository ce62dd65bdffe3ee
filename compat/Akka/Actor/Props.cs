// The recipe of an actor: type, constructor arguments and how to run it. Immutable; the With... members return copies. The arguments
// of Create(() => new T(...)) are evaluated once, when the recipe is made, and shared by all incarnations.
using System.Linq.Expressions;
using System.Reflection;

namespace Akka.Actor;

public interface IIndirectActorProducer
{
    Type ActorType { get; }

    ActorBase Produce();

    void Release(ActorBase actor);
}

public class Props
{
    private const BindingFlags AnyConstructor = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    private readonly Func<ActorBase> _produce;
    private readonly Action<ActorBase> _release;

    private Props(
        Type type, object[] arguments, SupervisorStrategy strategy, Func<ActorBase> produce = null, Action<ActorBase> release = null)
    {
        ArgumentNullException.ThrowIfNull(type);
        Type = type;
        Arguments = arguments ?? [null];
        SupervisorStrategy = strategy;
        _produce = produce;
        _release = release;
        StashCapacity = -1;
    }

    private Props(Props copy)
        : this(copy.Type, copy.Arguments, copy.SupervisorStrategy, copy._produce, copy._release)
    {
        Dispatcher = copy.Dispatcher;
        Mailbox = copy.Mailbox;
        StashCapacity = copy.StashCapacity;
    }

    public static Props Empty { get; } = Create(() => new EmptyActor());

    public Type Type { get; }

    public object[] Arguments { get; }

    public string Dispatcher { get; private init; }

    public string Mailbox { get; private init; }

    public SupervisorStrategy SupervisorStrategy { get; private set; }

    internal int StashCapacity { get; private init; }

    public static Props Create<TActor>(Expression<Func<TActor>> factory, SupervisorStrategy supervisorStrategy = null)
        where TActor : ActorBase
    {
        switch (factory.Body)
        {
            case UnaryExpression:
                var produce = factory.Compile();
                return new Props(typeof(TActor), [], supervisorStrategy, produce);
            case NewExpression construction:
                return new Props(construction.Type, construction.Arguments.Select(Evaluate).ToArray(), supervisorStrategy);
            default:
                throw new ArgumentException("The create function must be a 'new T (args)' expression");
        }
    }

    public static Props Create<TActor>(params object[] args)
        where TActor : ActorBase => new(typeof(TActor), args, null);

    public static Props Create<TActor>(SupervisorStrategy supervisorStrategy)
        where TActor : ActorBase, new() => new(typeof(TActor), [], supervisorStrategy);

    public static Props Create(Type type, params object[] args) => new(type, args, null);

    public static Props CreateBy(IIndirectActorProducer producer, params object[] args) =>
        new(producer.ActorType, args, null, producer.Produce, producer.Release);

    public Props WithMailbox(string mailbox) => new(this) { Mailbox = mailbox };

    public Props WithDispatcher(string dispatcher) => new(this) { Dispatcher = dispatcher };

    public Props WithStashCapacity(int stashCapacity) => new(this) { StashCapacity = stashCapacity };

    public Props WithSupervisorStrategy(SupervisorStrategy supervisorStrategy) => new(this) { SupervisorStrategy = supervisorStrategy };

    public virtual ActorBase NewActor()
    {
        try
        {
            return _produce is not null
                ? _produce()
                : (ActorBase)Activator.CreateInstance(Type, AnyConstructor, null, Arguments, null);
        }
        catch (Exception error)
        {
            var arguments = string.Join(", ", Arguments.Select(argument => argument ?? "null"));
            throw new TypeLoadException(
                $"Error while creating actor instance of type {Type} with {Arguments.Length} args: ({arguments})", error);
        }
    }

    /// <summary>The instance is done with.</summary>
    internal void Release(ActorBase actor) => _release?.Invoke(actor);

    private static object Evaluate(Expression argument) =>
        argument is ConstantExpression constant
            ? constant.Value
            : Expression.Lambda<Func<object>>(Expression.Convert(argument, typeof(object))).Compile(preferInterpretation: true)();

    private sealed class EmptyActor : UntypedActor
    {
        protected override void OnReceive(object message)
        {
        }
    }
}
