// The way out: leaving in good order, in step with the phases of coordinated shutdown, and being put down.
using Akka.Actor;
using Akka.Event;
using static Akka.Cluster.ClusterMessages;

namespace Akka.Cluster;

internal sealed partial class ClusterDaemon
{
    private void Leave(Address address)
    {
        if (_gossip.Members.Values.FirstOrDefault(member => member.Address == address) is
            { Status: MemberStatus.Joining or MemberStatus.WeaklyUp or MemberStatus.Up } member)
        {
            Update(_gossip.With(member.Copy(MemberStatus.Leaving)));
        }
        else if (address == _self.Address && !HasJoined)
        {
            // Never a member: there is nothing to wait for.
            Context.Stop(Self);
        }
    }

    private void Down(Address address)
    {
        var member = _gossip.Members.Values.FirstOrDefault(one => one.Address == address);
        if (member is null)
        {
            _cluster.Log.Info("Ignoring down of unknown node [{0}]", address);
        }
        else if (member.Status != MemberStatus.Down)
        {
            Update(_gossip.With(member.Copy(MemberStatus.Down)));
            SendGossip();
        }
    }

    private void Confirm(UniqueAddress node)
    {
        if (_gossip.Members.ContainsKey(node))
        {
            _exitingConfirmed = _exitingConfirmed.Add(node);
        }
    }

    private void OnAwaitLeaving()
    {
        if (SelfStatus is MemberStatus.Joining or MemberStatus.WeaklyUp or MemberStatus.Up)
        {
            _awaitLeaving.Add(Sender);
            Leave(_self.Address);
        }
        else
        {
            Sender.Tell(Done.Instance);
        }
    }

    private void OnAwaitExiting()
    {
        if (SelfStatus is MemberStatus.Leaving)
        {
            _awaitExiting.Add(Sender);
        }
        else
        {
            Sender.Tell(Done.Instance);
        }
    }

    private void AnswerLeaveQuestions()
    {
        if (SelfStatus is not (MemberStatus.Joining or MemberStatus.WeaklyUp or MemberStatus.Up))
        {
            _awaitLeaving.ForEach(asker => asker.Tell(Done.Instance));
            _awaitLeaving.Clear();
        }

        if (SelfStatus is not MemberStatus.Leaving)
        {
            _awaitExiting.ForEach(asker => asker.Tell(Done.Instance));
            _awaitExiting.Clear();
        }
    }

    private void OnExitingDone()
    {
        if (SelfStatus == MemberStatus.Exiting)
        {
            SpreadBeforeEnd();
            foreach (var node in _gossip.Members.Keys.Where(node => node != _self && !_gossip.Reachability.IsUnreachable(node)))
            {
                DaemonAt(node.Address).Tell(new ExitingConfirmed(Key(_self)), Self);
            }
        }

        Sender.Tell(Done.Instance);
    }

    private void EndBecauseDown()
    {
        if (_settings.RunShutdownWhenDown)
        {
            ShutDown(CoordinatedShutdown.ClusterDowningReason.Instance);
        }
        else
        {
            _shuttingDown = true;
            Context.Stop(Self);
        }
    }

    private void ShutDown(CoordinatedShutdown.Reason reason)
    {
        _shuttingDown = true;
        _cluster.ShutDown(reason);
    }
}
