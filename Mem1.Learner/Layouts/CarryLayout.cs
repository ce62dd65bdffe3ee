// Keeps: token a of turn j sees token b iff b comes before or at a and b is of the prompt, of what is kept of turn j-1 (all of it, unless
// the environment's format discards the start of a response), or of turn j. Keys and values of a kept token are those it had when it was
// new, so they carry what older turns said on to later ones, layer by layer: that is what a sampler computes that evicts pruned tokens
// from its cache and goes on, and the layout is exact for that sampler.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>
/// The single-copy layout of arXiv 2506.15841, section 3.2: every token attends to what was in memory when it was written - the prompt,
/// the turn before, its own turn.
/// </summary>
public sealed class CarryLayout : SingleCopyLayout
{
    /// <inheritdoc/>
    public override LayoutKind Kind => LayoutKind.Carry;

    /// <inheritdoc/>
    private protected override TokenView View(int prompt, Turn? previous, Turn turn, int offset) =>
        new(prompt, previous is null ? TokenView.Nothing : Discarded(previous, turn), 0);
}
