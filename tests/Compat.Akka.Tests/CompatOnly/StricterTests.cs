// What this library promises beyond the original, or differently. Left out when the tests run against the real packages.
using Akka.Actor;
using Akka.Configuration;

namespace Compat.Akka.Tests;

public sealed class StricterTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Mail_to_an_actor_that_is_being_stopped_is_handled_or_a_dead_letter_but_never_lost()
    {
        for (var round = 0; round < 30; round++)
        {
            var handled = 0;
            var letters = 0;
            const int Messages = 2_000;
            using var system = ActorSystem.Create("mail", "akka.loglevel = OFF\nakka.stdout-loglevel = OFF");
            var counter = system.ActorOf(Act.Props(act => act.On<global::Akka.Event.DeadLetter>(_ => Interlocked.Increment(ref letters))));
            system.EventStream.Subscribe(counter, typeof(global::Akka.Event.DeadLetter));
            var actor = system.ActorOf(Act.Props(act => act.On<int>(_ => Interlocked.Increment(ref handled))));
            var sender = Task.Run(
                () =>
                {
                    for (var i = 0; i < Messages; i++)
                    {
                        actor.Tell(i, ActorRefs.NoSender);
                    }
                },
                Token);
            system.Stop(actor);
            await sender;
            Assert.True(
                SpinWait.SpinUntil(() => Volatile.Read(ref handled) + Volatile.Read(ref letters) == Messages, TimeSpan.FromSeconds(15)),
                $"{handled} handled and {letters} dead letters of {Messages}");
        }
    }

    [Fact]
    public void A_provider_that_is_not_there_is_refused() => Assert.Throws<ConfigurationException>(() =>
        ActorSystem.Create("clustered", "akka.actor.provider = elsewhere"));

    [Theory]
    [InlineData("a { b = 1", "'}' is missing")]
    [InlineData("a = \"open", "a quote is not closed")]
    [InlineData("a = ${missing.key.of.nobody}", "does not exist")]
    [InlineData("a = ${a}", "refers to itself")]
    public void Malformed_configuration_names_what_is_wrong(string text, string part)
    {
        var error = Assert.Throws<ConfigurationException>(() => ConfigurationFactory.ParseString(text));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }
}
