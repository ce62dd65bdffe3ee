namespace Mem1.Environments;

/// <summary>
/// An environment of the user's own, as <c>mem1 train --env ASSEMBLY.dll</c> takes it: the one public class of the assembly that implements
/// this and has a public constructor without parameters. docs/environments.md goes through an example.
/// </summary>
public interface IEnvironmentModule
{
    /// <summary>Makes the episodes.</summary>
    IEnvironmentFactory Factory { get; }

    /// <summary>Tasks to train on.</summary>
    ITaskSource Training { get; }

    /// <summary>
    /// Tasks that training never sees, for evaluation. May be <see cref="Training"/>, which is then asked with another seed.
    /// </summary>
    ITaskSource HeldOut { get; }

    /// <summary>
    /// A scripted player for the warm start of a new model; null when there is none, and then a run needs <c>cloning.steps: 0</c> or a
    /// model of its own.
    /// </summary>
    IExpert? Expert => null;

    /// <summary>
    /// Texts like those that episodes will hold (observations, say), from which the tokenizer of a new model is learnt; prompts are
    /// learnt from anyhow.
    /// </summary>
    IEnumerable<string> Texts => [];
}
