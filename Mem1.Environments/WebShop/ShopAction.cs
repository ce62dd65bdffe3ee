// Invariants: any text parses; what is no action has a null argument.

namespace Mem1.Environments.WebShop;

/// <summary>An action as the shop reads it: name[argument].</summary>
/// <param name="Name">What stands before the bracket; the whole text when there is no action in it.</param>
/// <param name="Argument">What stands in the brackets, as written; null when there is no action.</param>
internal readonly record struct ShopAction(string Name, string? Argument)
{
    /// <summary>
    /// Reads an action. Both parts take as much as they can (so the last opening bracket that still leaves a closing one behind splits
    /// them), neither is empty nor spans lines, and what follows the last closing bracket is ignored.
    /// </summary>
    public static ShopAction Parse(string text)
    {
        int lineEnd = text.IndexOf('\n', StringComparison.Ordinal);
        ReadOnlySpan<char> line = lineEnd < 0 ? text : text.AsSpan(0, lineEnd);
        int close = line.LastIndexOf(']');
        for (int open = close - 2; open >= 1; open--)
        {
            if (line[open] == '[')
                return new ShopAction(line[..open].ToString(), line[(open + 1)..close].ToString());
        }
        return new ShopAction(text, null);
    }
}
