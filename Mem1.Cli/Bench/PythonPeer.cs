// The peer is optional: a machine without Debian's python3-torch, or an installation without bench/, measures the other ways only.
using System.Globalization;
using Mem1.Learner;
using Mem1.Model;

namespace Mem1.Cli.Bench;

/// <summary><c>bench/peers/dense_ppo.py</c>: the same update in Debian's python3-torch.</summary>
internal static class PythonPeer
{
    public const string Missing = "python3-torch is not installed, so there is nothing to compare with: apt-get install python3-torch";

    // A python3 of one's own ahead on the PATH does not see the packages Debian installs.
    private const string DebianPython = "/usr/bin/python3";

    /// <summary>The interpreter.</summary>
    public static string Program => File.Exists(DebianPython) ? DebianPython : "python3";

    /// <summary>The script in the checkout this program was built in, or null when it was taken elsewhere.</summary>
    /// <param name="name">Its file name.</param>
    public static string? Script(string name = "dense_ppo.py")
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            var path = Path.Combine(folder.FullName, "bench", "peers", name);
            if (File.Exists(path)) return path;
        }

        return null;
    }

    /// <summary>Measures a case.</summary>
    /// <param name="script">dense_ppo.py.</param>
    /// <param name="shape">A plain Qwen2 model.</param>
    /// <param name="caseFile">What <see cref="LearnerCase.Write"/> wrote.</param>
    /// <param name="options">Of the step.</param>
    /// <param name="repeat">Passes timed at least.</param>
    /// <param name="atLeast">Goes on timing for so long.</param>
    /// <param name="cancellationToken">Ends the process.</param>
    /// <returns>Its report, or null when python3-torch is not installed.</returns>
    public static async Task<PassReport?> Measure(
        string script, DecoderConfig shape, string caseFile, PpoOptions options, int repeat, TimeSpan atLeast,
        CancellationToken cancellationToken)
    {
        var settings = new (string Name, double Value)[]
        {
            ("layers", shape.Layers), ("heads", shape.Heads), ("kv-heads", shape.KeyValueHeads), ("rope-theta", shape.RopeTheta),
            ("norm-epsilon", shape.NormEpsilon),
            ("learning-rate", options.LearningRate), ("value-learning-rate", options.ValueLearningRate),
            ("weight-decay", options.WeightDecay), ("beta1", options.Beta1), ("beta2", options.Beta2), ("clip", options.Clip),
            ("value-clip", options.ValueClip), ("entropy", options.EntropyCoefficient), ("gradient-clip", options.GradientClip),
            ("repeat", repeat), ("seconds", atLeast.TotalSeconds),
        };
        var start = BenchProcess.Start(
            Program,
            [
                script, "--case", caseFile,
                .. settings.SelectMany(s => new[] { "--" + s.Name, s.Value.ToString("R", CultureInfo.InvariantCulture) }),
            ]);
        var ended = await BenchProcess.Run(start, cancellationToken).ConfigureAwait(false);
        if (ended is null || ended.Value.Errors.Contains("No module named 'torch'", StringComparison.Ordinal)) return null;
        return BenchProcess.Report(ended.Value, "the python peer");
    }
}
