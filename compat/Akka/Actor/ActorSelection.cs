// A path that is looked up when a message is told, not before: it names whoever lives there then, whatever the incarnation.
using System.Text.RegularExpressions;

namespace Akka.Actor;

public class ActorSelection : ICanTell
{
    internal ActorSelection(InternalActorRefBase anchor, IEnumerable<string> elements)
    {
        Anchor = anchor;
        Elements = elements.Where(element => element.Length > 0 && element != ".").ToArray();
    }

    public IActorRef Anchor { get; }

    public string PathString => "/" + string.Join('/', Elements);

    internal IReadOnlyList<string> Elements { get; }

    public void Tell(object message, IActorRef sender = null)
    {
        ArgumentNullException.ThrowIfNull(message);
        var anchor = (InternalActorRefBase)Anchor;
        ((LocalActorRefProvider)anchor.Provider).Deliver(
            anchor, new ActorSelectionMessage(message, Elements), sender ?? ActorCell.CurrentSelfOrNoSender);
    }

    public Task<IActorRef> ResolveOne(TimeSpan timeout) => ResolveOne(timeout, CancellationToken.None);

    public async Task<IActorRef> ResolveOne(TimeSpan timeout, CancellationToken ct)
    {
        ActorIdentity identity;
        try
        {
            identity = await this.Ask<ActorIdentity>(new Identify(null), timeout, ct).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            throw new ActorNotFoundException($"Exception occurred while resolving the selection {this}", error);
        }

        return identity.Subject ?? throw new ActorNotFoundException($"No actor lives at {this}");
    }

    public override string ToString() => $"ActorSelection[Anchor({Anchor}), Path({PathString})]";
}

internal sealed class ActorSelectionMessage(object message, IReadOnlyList<string> elements) : IAutoReceivedMessage, IPossiblyHarmful
{
    internal object Message { get; } = message;

    internal IReadOnlyList<string> Elements { get; } = elements;

    internal static bool IsPattern(string element) => element.AsSpan().IndexOfAny('*', '?') >= 0;

    internal static bool Matches(string pattern, string name)
    {
        var literal = Regex.Escape(pattern);
        var expression = literal.Replace(@"\*", ".*", StringComparison.Ordinal).Replace(@"\?", ".", StringComparison.Ordinal);
        return Regex.IsMatch(name, $"^{expression}$", RegexOptions.CultureInvariant);
    }
}
