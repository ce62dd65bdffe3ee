namespace Mem1.Learner;

/// <summary>Which estimator turns rewards into advantages.</summary>
public enum AdvantageKind
{
    /// <summary>GAE with a critic, chained over turns (<see cref="GaeEstimator"/>).</summary>
    Gae,
    /// <summary>Multi-context GRPO (<see cref="GrpoEstimator"/>); needs groups.</summary>
    Grpo,
    /// <summary>Leave-one-out (<see cref="RlooEstimator"/>); needs groups.</summary>
    Rloo,
    /// <summary>Whitened returns (<see cref="ReinforcePlusPlusEstimator"/>).</summary>
    ReinforcePlusPlus,
}
