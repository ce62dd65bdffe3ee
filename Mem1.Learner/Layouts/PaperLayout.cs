// Keeps: the rule is that of the first public implementation of the method, as a mask that masks (there, it was added to the logits as
// 0 or 1 and hid nothing). No sampler computes it: the parity gauge shows how far it is from one.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>
/// For comparison only. What the model wrote sees the prompt, the action and the information of the turn before (not its internal state)
/// and its own turn; information sees nothing but itself.
/// </summary>
public sealed class PaperLayout : SingleCopyLayout
{
    /// <inheritdoc/>
    public override LayoutKind Kind => LayoutKind.Paper;

    /// <inheritdoc/>
    private protected override TokenView View(int prompt, Turn? previous, Turn turn, int offset) => offset >= turn.Generated.Length
        ? new TokenView(0, TokenView.Nothing, turn.Generated.Length)
        : new TokenView(prompt, previous?.StateLength ?? TokenView.Nothing, 0);
}
