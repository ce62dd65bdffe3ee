// Keeps: a published version is immutable; its bytes and hash never change; versions only grow.
using System.Security.Cryptography;
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>One version of the policy as workers pull it.</summary>
/// <param name="Version">Policy version.</param>
/// <param name="Data">A safetensors file.</param>
/// <param name="Sha256">Of <paramref name="Data"/>.</param>
public sealed record WeightBlob(long Version, ReadOnlyMemory<byte> Data, byte[] Sha256);

/// <summary>Holds the newest versions of the policy for workers to pull. Thread-safe.</summary>
/// <param name="serialise">Turns weights into the bytes of a safetensors file.</param>
public sealed class WeightPublisher(Func<ModelWeights, byte[]> serialise)
{
    // The newest and the one before it: a worker that began to pull when a version came out can finish.
    private const int Kept = 2;

    private readonly Lock _lock = new();
    private readonly SortedDictionary<long, WeightBlob> _blobs = [];
    private long _version = -1;

    /// <summary>Raised after a version can be pulled; handlers must be quick and not throw.</summary>
    public event Action<long>? Published;

    /// <summary>The newest version; -1 before the first.</summary>
    public long Version => Volatile.Read(ref _version);

    /// <summary>Makes a version available.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The version is not newer than the newest.</exception>
    public void Publish(ModelWeights weights, long version)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(version, Version);
        var data = serialise(weights);
        var blob = new WeightBlob(version, data, SHA256.HashData(data));
        lock (_lock)
        {
            _blobs.Add(version, blob);
            while (_blobs.Count > Kept) _blobs.Remove(_blobs.Keys.First());
            Volatile.Write(ref _version, version);
        }

        Published?.Invoke(version);
    }

    /// <summary>A version's bytes, or null when it is not held (any more).</summary>
    public WeightBlob? Find(long version)
    {
        lock (_lock) return _blobs.GetValueOrDefault(version);
    }
}
