// The exceptions of the actor core. A creation failure is always an ActorInitializationException whose InnerException chain
// ends in what the constructor or hook threw.
namespace Akka.Actor
{
    public abstract class AkkaException : Exception
    {
        protected AkkaException()
        {
        }

        protected AkkaException(string message, Exception cause = null)
            : base(message, cause)
        {
        }
    }

    public class ActorInitializationException : AkkaException
    {
        public ActorInitializationException(string message)
            : base(message)
        {
        }

        public ActorInitializationException(IActorRef actor, string message, Exception cause = null)
            : base(message, cause)
        {
            Actor = actor;
        }

        public IActorRef Actor { get; set; }

        public override string ToString() => Actor is null ? base.ToString() : $"{Actor}: {base.ToString()}";
    }

    public class PreRestartException : ActorInitializationException
    {
        public PreRestartException(IActorRef actor, Exception restartException, Exception cause, object optionalMessage)
            : base(
                actor,
                $"Exception in PreRestart(exception = {cause?.GetType().FullName}, message = {optionalMessage?.GetType().FullName})",
                restartException)
        {
            RestartException = restartException;
            OptionalMessage = optionalMessage;
        }

        public Exception RestartException { get; }

        public object OptionalMessage { get; }
    }

    public class PostRestartException : ActorInitializationException
    {
        public PostRestartException(IActorRef actor, Exception cause, Exception originalCause)
            : base(actor, $"Exception in PostRestart ({originalCause?.GetType().FullName})", cause) => OriginalCause = originalCause;

        public Exception OriginalCause { get; }
    }

    public class ActorKilledException : AkkaException
    {
        public ActorKilledException(string message)
            : base(message)
        {
        }
    }

    public class DeathPactException : AkkaException
    {
        public DeathPactException(IActorRef deadActor)
            : base($"Monitored actor [{deadActor}] terminated") => DeadActor = deadActor;

        public IActorRef DeadActor { get; }
    }

    public class InvalidActorNameException : AkkaException
    {
        public InvalidActorNameException(string message)
            : base(message)
        {
        }
    }

    public class ActorNotFoundException : AkkaException
    {
        public ActorNotFoundException(string message, Exception innerException = null)
            : base(message, innerException)
        {
        }
    }

    public class AskTimeoutException : AkkaException
    {
        public AskTimeoutException(string message)
            : base(message)
        {
        }
    }

    public class IllegalActorStateException : AkkaException
    {
        public IllegalActorStateException(string message)
            : base(message)
        {
        }
    }

    public class StashOverflowException : AkkaException
    {
        public StashOverflowException(string message, Exception cause = null)
            : base(message, cause)
        {
        }
    }

    public class SchedulerException : AkkaException
    {
        public SchedulerException(string message)
            : base(message)
        {
        }
    }
}

namespace Akka.Configuration
{
    public class ConfigurationException : Akka.Actor.AkkaException
    {
        public ConfigurationException(string message)
            : base(message)
        {
        }

        public ConfigurationException(string message, Exception exception)
            : base(message, exception)
        {
        }
    }
}
