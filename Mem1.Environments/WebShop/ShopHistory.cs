// Invariants: at most the asked number of past observations and actions is kept.

namespace Mem1.Environments.WebShop;

/// <summary>Puts earlier observations and actions in front of the current one, as the original's text environment can.</summary>
/// <param name="observations">Earlier observations to show.</param>
/// <param name="actions">Actions to show, the last one included.</param>
internal sealed class ShopHistory(int observations, int actions)
{
    private readonly List<string> _observations = [];
    private readonly List<string> _actions = [];

    /// <summary>What the agent is shown after an action; oldest first.</summary>
    /// <param name="action">The action; null at the start.</param>
    /// <param name="observation">The page it led to.</param>
    public string Next(string? action, string observation)
    {
        if (action is not null)
            Keep(_actions, action, actions);
        var parts = new List<string> { observation };
        for (int i = 1; i <= Math.Max(_observations.Count, _actions.Count); i++)
        {
            if (i <= _actions.Count)
                parts.Add(_actions[^i]);
            if (i <= _observations.Count)
                parts.Add(_observations[^i]);
        }
        Keep(_observations, observation, observations);
        parts.Reverse();
        return string.Join(ShopPages.Separator, parts);
    }

    private static void Keep(List<string> list, string item, int most)
    {
        list.Add(item);
        if (list.Count > most)
            list.RemoveAt(0);
    }
}
