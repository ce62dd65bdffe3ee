// The messages every actor understands. IAutoReceivedMessage ones are handled by the cell before the behaviour sees them;
// IDeadLetterSuppression ones do not show as DeadLetter when nobody receives them.
using Akka.Event;

namespace Akka.Actor
{
    public interface IAutoReceivedMessage;

    public interface IPossiblyHarmful;

    public interface INotInfluenceReceiveTimeout;

    public interface INoSerializationVerificationNeeded;

    public sealed class PoisonPill : IAutoReceivedMessage, IPossiblyHarmful, IDeadLetterSuppression
    {
        private PoisonPill()
        {
        }

        public static PoisonPill Instance { get; } = new();

        public override string ToString() => "<PoisonPill>";
    }

    public sealed class Kill : IAutoReceivedMessage, IPossiblyHarmful, IDeadLetterSuppression
    {
        private Kill()
        {
        }

        public static Kill Instance { get; } = new();

        public override string ToString() => "<Kill>";
    }

    public class ReceiveTimeout : IPossiblyHarmful
    {
        private ReceiveTimeout()
        {
        }

        public static ReceiveTimeout Instance { get; } = new();
    }

    public sealed class Identify : IAutoReceivedMessage, INotInfluenceReceiveTimeout
    {
        public Identify(object messageId) => MessageId = messageId;

        public object MessageId { get; }

        public override string ToString() => $"<Identify>: {MessageId}";
    }

    public sealed class ActorIdentity
    {
        public ActorIdentity(object messageId, IActorRef subject)
        {
            MessageId = messageId;
            Subject = subject;
        }

        public object MessageId { get; }

        public IActorRef Subject { get; }

        public override string ToString() => $"<ActorIdentity>: {Subject} - MessageId: {MessageId}";
    }

    public sealed class Terminated : IAutoReceivedMessage, IPossiblyHarmful, IDeadLetterSuppression,
        INoSerializationVerificationNeeded, IEquatable<Terminated>
    {
        public Terminated(IActorRef actorRef, bool existenceConfirmed, bool addressTerminated)
        {
            ActorRef = actorRef;
            ExistenceConfirmed = existenceConfirmed;
            AddressTerminated = addressTerminated;
        }

        public IActorRef ActorRef { get; }

        public bool ExistenceConfirmed { get; }

        public bool AddressTerminated { get; }

        public bool Equals(Terminated other) =>
            other is not null && Equals(ActorRef, other.ActorRef) && ExistenceConfirmed == other.ExistenceConfirmed
            && AddressTerminated == other.AddressTerminated;

        public override bool Equals(object obj) => obj is Terminated other && Equals(other);

        public override int GetHashCode() => HashCode.Combine(ActorRef, ExistenceConfirmed, AddressTerminated);

        public override string ToString() => $"<Terminated>: {ActorRef} - ExistenceConfirmed={ExistenceConfirmed}";
    }

    public abstract class Status
    {
        public sealed class Success : Status
        {
            public static readonly Success Instance = new(null);

#pragma warning disable CA1051 // a field in the original API
            public readonly object Status;
#pragma warning restore CA1051

            public Success(object status) => Status = status;

            public override string ToString() => $"Success: {Status}";
        }

        public sealed class Failure : Status
        {
#pragma warning disable CA1051 // fields in the original API
            public readonly Exception Cause;
            public readonly object State;
#pragma warning restore CA1051

            public Failure(Exception cause)
                : this(cause, null)
            {
            }

            public Failure(Exception cause, object state)
            {
                Cause = cause;
                State = state;
            }

            public override string ToString() => $"Failure: {Cause}";
        }
    }

    public readonly struct Envelope
    {
        public Envelope(object message, IActorRef sender)
        {
            Message = message;
            Sender = sender;
        }

        public object Message { get; }

        public IActorRef Sender { get; }

        public override string ToString() => $"<{Message}> from {Sender}";
    }
}

namespace Akka
{
    public sealed class Done
    {
        public static readonly Done Instance = new();

        private Done()
        {
        }
    }
}
