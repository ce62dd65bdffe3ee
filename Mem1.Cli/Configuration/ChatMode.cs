namespace Mem1.Cli.Configuration;

/// <summary>Whether prompts are wrapped in chat markup.</summary>
public enum ChatMode
{
    /// <summary>As the tokenizer's own template says; without one, as they are.</summary>
    Auto,
    /// <summary>Wrapped, whether or not the tokenizer has a template.</summary>
    On,
    /// <summary>As they are.</summary>
    Off,
}
