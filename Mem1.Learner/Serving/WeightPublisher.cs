// Keeps: a published version is immutable; its bytes and hash never change; versions only grow. A delta is made once however many workers
// ask for it, and not under the lock.
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Protocol;

namespace Mem1.Learner;

/// <summary>One version of the policy as workers pull it.</summary>
/// <param name="Version">Policy version.</param>
/// <param name="Data">A safetensors file.</param>
/// <param name="Sha256">Of <paramref name="Data"/>.</param>
public sealed record WeightBlob(long Version, ByteBlob Data, byte[] Sha256);

/// <summary>Holds the newest versions of the policy for workers to pull. Thread-safe.</summary>
/// <param name="serialise">Turns weights into the bytes of a safetensors file; as <see cref="Serialise"/> does.</param>
public sealed class WeightPublisher(Func<IWeightSource, ByteBlob> serialise)
{
    // The newest and the one before it: a worker that began to pull when a version came out can finish.
    private const int Kept = 2;

    private readonly Lock _lock = new();
    private readonly SortedDictionary<long, WeightBlob> _blobs = [];
    private readonly Dictionary<(long From, long To), Lazy<ByteBlob>> _deltas = [];
    private long _version = -1;

    /// <summary>Raised after a version can be pulled; handlers must be quick and not throw.</summary>
    public event Action<long>? Published;

    /// <summary>The newest version; -1 before the first.</summary>
    public long Version => Volatile.Read(ref _version);

    /// <summary>The bytes of a safetensors file, in as many segments as they need.</summary>
    /// <param name="weights">What.</param>
    /// <param name="dtype">How values are stored.</param>
    /// <param name="segmentBytes">Size of the segments.</param>
    public static ByteBlob Serialise(
        IWeightSource weights, StoredDtype dtype = StoredDtype.Float32, int segmentBytes = ByteBlob.StandardSegmentBytes)
    {
        using var writer = new ByteBlobWriter(Safetensors.Measure(weights, dtype), segmentBytes);
        Safetensors.Write(writer, weights, dtype);
        return writer.Finish();
    }

    /// <summary>Makes a version available.</summary>
    /// <param name="weights">What; of no use to the publisher afterwards.</param>
    /// <param name="version">Its number.</param>
    /// <exception cref="ArgumentOutOfRangeException">The version is not newer than the newest.</exception>
    public void Publish(IWeightSource weights, long version)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(version, Version);
        var data = serialise(weights);
        var blob = new WeightBlob(version, data, data.Sha256());
        lock (_lock)
        {
            _blobs.Add(version, blob);
            while (_blobs.Count > Kept) _blobs.Remove(_blobs.Keys.First());
            foreach (var old in _deltas.Keys.Where(d => !_blobs.ContainsKey(d.From) || !_blobs.ContainsKey(d.To)).ToArray()) _deltas.Remove(old);
            Volatile.Write(ref _version, version);
        }

        Published?.Invoke(version);
    }

    /// <summary>A version's bytes, or null when it is not held (any more).</summary>
    public WeightBlob? Find(long version)
    {
        lock (_lock) return _blobs.GetValueOrDefault(version);
    }

    /// <summary>The difference between two held versions, or null when one is not held or the difference is no smaller than the blob.</summary>
    /// <param name="from">What a worker has.</param>
    /// <param name="to">What it wants.</param>
    public ByteBlob? Delta(long from, long to)
    {
        Lazy<ByteBlob> delta;
        lock (_lock)
        {
            if (from == to || !_blobs.TryGetValue(from, out var old) || !_blobs.TryGetValue(to, out var wanted)) return null;
            if (old.Data.Length != wanted.Data.Length) return null;
            if (!_deltas.TryGetValue((from, to), out delta!))
                _deltas.Add((from, to), delta = new Lazy<ByteBlob>(() => WeightDelta.Encode(old.Data, wanted.Data)));
        }

        var made = delta.Value;
        return made.Length < Find(to)?.Data.Length ? made : null;
    }
}
