using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Configuration;

/// <summary>The learner's server and device, and how it trades time for memory.</summary>
public sealed record LearnerConfig
{
    /// <summary>IP address of the gRPC server; loopback keeps other machines out.</summary>
    public string Address { get; init; } = "127.0.0.1";
    /// <summary>Port of the gRPC server; 0 takes a free one.</summary>
    public int Port { get; init; }
    /// <summary>cpu or cuda.</summary>
    public string Device { get; init; } = "cpu";
    /// <summary>How weights travel to workers; below float32 what samples is not quite what learns, and the parity gauge shows it.</summary>
    public StoredDtype WeightsDtype { get; init; } = StoredDtype.Float32;
    /// <summary>Send weights as the difference to the version a worker has: less to send, more to compute; for slow networks.</summary>
    public bool WeightsDelta { get; init; }
    /// <summary>
    /// Offer weights on connections of their own at the learner's port, several times as fast as over HTTP/2. Where something in between lets
    /// HTTP/2 alone through, workers use gRPC by themselves, after a warning; false saves them the attempt.
    /// </summary>
    public bool DirectWeights { get; init; } = true;
    /// <summary>
    /// Largest difference between the learner's and the sampler's log-prob of a token before it is warned of and counted (metrics:
    /// parity_alarms); 0 never warns. Rounding leaves about 1e-5 in float32; with bf16 or narrower weights raise it to what they cost.
    /// </summary>
    public double ParityAlarm { get; init; } = 1e-4;
    /// <summary>
    /// float32, or bf16: matrix products in bfloat16 over float32 parameters, gradients and optimiser. Log-probs then differ from the
    /// sampler's by up to a few hundredths (parity_max_abs says), and a CPU without bfloat16 instructions gets slower, not faster.
    /// </summary>
    public ComputePrecision Precision { get; init; } = ComputePrecision.Float32;
    /// <summary>
    /// Keep only the input of every block and compute its inside again in backward: a fraction of the activations' memory for a third
    /// more time; the same gradients.
    /// </summary>
    public bool GradientCheckpointing { get; init; }
    /// <summary>
    /// Generated tokens whose log-probs over the vocabulary exist at once; 0 takes all of a micro-batch for a vocabulary below 8192, else
    /// as many as fit 64 MiB. The same gradients either way.
    /// </summary>
    public int VocabularyChunkTokens { get; init; }
    /// <summary>
    /// Seconds that a learner of several (--learners, --world) may be silent within an update before the others give it up; more than the
    /// slowest learner's share of a mini-batch takes.
    /// </summary>
    public int PeerDeadlineSeconds { get; init; } = 300;
    /// <summary>Age in seconds at which the lease of an episode dies and its task goes to another worker.</summary>
    public int LeaseSeconds { get; init; } = 600;
    /// <summary>Seconds that a worker may send nothing, not even a heartbeat, before its stream is cut.</summary>
    public int SilenceSeconds { get; init; } = 60;
    /// <summary>Seconds that the leases of a worker whose stream broke wait for it to come back.</summary>
    public int AbsenceSeconds { get; init; } = 30;
    /// <summary>Seconds without a finished episode after which the learner says what it waits for; each further time after twice as long.</summary>
    public int StallSeconds { get; init; } = 60;

    /// <summary>What the trainer needs to know of this.</summary>
    public ComputeOptions Compute() =>
        new() { GradientCheckpointing = GradientCheckpointing, VocabularyChunkTokens = VocabularyChunkTokens };

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (!System.Net.IPAddress.TryParse(Address, out _)) errors.Add($"learner.address is \"{Address}\"; it must be an IP address.");
        if (Port is < 0 or > 65535) errors.Add($"learner.port is {Port}; it must be in 0 to 65535.");
        if (!(ParityAlarm >= 0)) errors.Add($"learner.parity_alarm is {ParityAlarm}; it must not be negative.");
        if (Device is not ("cpu" or "cuda")) errors.Add($"learner.device is \"{Device}\"; it must be cpu or cuda.");
        if (VocabularyChunkTokens < 0)
            errors.Add($"learner.vocabulary_chunk_tokens is {VocabularyChunkTokens}; it must not be negative.");
        if (PeerDeadlineSeconds is < 1 or > 86_400)
            errors.Add($"learner.peer_deadline_seconds is {PeerDeadlineSeconds}; it must be in 1 to 86400.");
        if (LeaseSeconds is < 1 or > 86_400) errors.Add($"learner.lease_seconds is {LeaseSeconds}; it must be in 1 to 86400.");
        if (SilenceSeconds is < 1 or > 86_400) errors.Add($"learner.silence_seconds is {SilenceSeconds}; it must be in 1 to 86400.");
        if (AbsenceSeconds is < 1 or > 86_400) errors.Add($"learner.absence_seconds is {AbsenceSeconds}; it must be in 1 to 86400.");
        if (StallSeconds is < 1 or > 86_400) errors.Add($"learner.stall_seconds is {StallSeconds}; it must be in 1 to 86400.");
        return errors;
    }
}
