// Keeps:
//  * records reach the disk in the order they were appended; an action given to WhenDurable runs after everything appended before it is on the
//    disk (written and flushed), and never if that fails;
//  * a segment's bytes are never written over once they are flushed: a write that failed is done again at the same place, so a full disk
//    leaves nothing but a torn tail, which reading ignores;
//  * segments are numbered without gaps; every life of the learner begins a new one, and so does every checkpoint;
//  * Append never waits for the disk.
using System.Buffers;
using System.Globalization;
using System.Threading.Channels;
using Mem1.Model.Checkpoints;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>
/// What has happened to the ledger since the last checkpoint, on the disk: a write-ahead log, so that a turn is durable before its worker is
/// told to forget it. One process at a time.
/// </summary>
public sealed class TurnSpool : IDisposable
{
    private const string Extension = ".log";

    // One flush takes about this long on a disk, so waiting as long halves their number and costs nobody anything: no worker waits for an
    // acknowledgement before it has a thousand turns out.
    private static readonly TimeSpan GroupDelay = TimeSpan.FromMilliseconds(5);

    // What one write holds; beyond it the turns are flushed in parts.
    private const int GroupBytes = 8 * 1024 * 1024;

    private readonly string _folder;
    private readonly DiskPatience _disk;
    private readonly Channel<Item> _queue = Channel.CreateUnbounded<Item>(new UnboundedChannelOptions { SingleReader = true });
    private readonly ManualResetEventSlim _hurry = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly ArrayBufferWriter<byte> _buffer = new(1 << 16);
    private readonly Thread _writer;
    private readonly Lock _lock = new();
    private List<SpoolRecord> _recovered;
    private Microsoft.Win32.SafeHandles.SafeFileHandle? _file;
    private long _offset;
    private long _open;
    private long _next;
    private volatile LearnerException? _fault;
    private long _bytes, _flushes;

    private TurnSpool(string folder, DiskPatience disk, List<SpoolRecord> recovered, long next)
    {
        (_folder, _disk, _recovered, _next) = (folder, disk, recovered, next);
        _writer = new Thread(Run) { IsBackground = true, Name = "mem1-spool" };
        Rotate();
        _writer.Start();
    }

    /// <summary>Bytes written since it was opened.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Flushes to the disk since it was opened.</summary>
    public long Flushes => Volatile.Read(ref _flushes);

    /// <summary>Opens the spool of a run: reads what is to be done again, and begins a new segment.</summary>
    /// <param name="folder">Of the spool; made when it is not there.</param>
    /// <param name="from">First segment that the checkpoint does not cover (<see cref="LedgerRecord.SpoolFrom"/>); null forgets all there is.</param>
    /// <param name="disk">What waits when the disk is full.</param>
    /// <param name="note">Told in a sentence what cannot be used.</param>
    /// <exception cref="LearnerException">The folder cannot be read or made.</exception>
    public static TurnSpool Open(string folder, long? from, DiskPatience disk, Action<string> note)
    {
        try
        {
            Directory.CreateDirectory(folder);
            var there = Numbers(folder);
            var wanted = there.Where(n => n >= from).ToList();
            var recovered = new List<SpoolRecord>();
            if (from is not null && (wanted.Count == 0 || wanted[0] == from))
            {
                foreach (var number in wanted)
                {
                    var path = PathOf(folder, number);
                    var (records, torn) = SpoolSegment.Read(path, number);
                    recovered.AddRange(records);
                    if (torn > 0) note($"The last {torn} bytes of {path} are not a whole record: a write that was cut off; they are ignored.");
                }

                return new TurnSpool(folder, disk, recovered, Math.Max(from.Value, there.LastOrDefault() + 1));
            }

            if (from is not null)
                note($"The spool in {folder} begins after the checkpoint that the run goes on from, so it is not used; tasks since then are played again.");
            foreach (var number in there) File.Delete(PathOf(folder, number));
            return new TurnSpool(folder, disk, recovered, from ?? 1);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new LearnerException($"The spool in {folder} cannot be used ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>What was spooled since the checkpoint, in order; once.</summary>
    public IReadOnlyList<SpoolRecord> TakeRecovered()
    {
        var taken = _recovered;
        _recovered = [];
        return taken;
    }

    /// <summary>Appends one record; it is on the disk when an action given to <see cref="WhenDurable"/> afterwards runs.</summary>
    /// <param name="record">Not changed afterwards.</param>
    public void Append(SpoolRecord record) => _queue.Writer.TryWrite(new Item(record, null, 0));

    /// <summary>Runs an action, on the spool's own thread, when everything appended so far is on the disk; never if it cannot be written.</summary>
    /// <param name="action">Quick; must not throw.</param>
    public void WhenDurable(Action action) => _queue.Writer.TryWrite(new Item(null, action, 0));

    /// <summary>Waits until everything appended so far is on the disk.</summary>
    /// <exception cref="LearnerException">It cannot be written.</exception>
    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        var durable = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        WhenDurable(() => durable.TrySetResult());
        _hurry.Set();
        while (await Task.WhenAny(durable.Task, Task.Delay(FaultPoll, cancellationToken)).ConfigureAwait(false) != durable.Task)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_fault is { } fault) throw new LearnerException(fault.Message, fault);
        }
    }

    // Only a spool that has failed is noticed by this; what is durable is told at once.
    private static readonly TimeSpan FaultPoll = TimeSpan.FromMilliseconds(200);

    /// <summary>Begins a new segment: records appended from now on are in it or in one after it.</summary>
    /// <returns>Its number.</returns>
    public long Rotate()
    {
        lock (_lock)
        {
            _queue.Writer.TryWrite(new Item(null, null, _next));
            return _next++;
        }
    }

    /// <summary>Removes the segments that a checkpoint covers. Call it when the checkpoint is whole.</summary>
    /// <param name="number">The first segment to keep: of <see cref="Rotate"/>.</param>
    public void DeleteBefore(long number)
    {
        foreach (var old in Numbers(_folder).Where(n => n < number)) File.Delete(PathOf(_folder, old));
    }

    /// <summary>Removes the spool of a run that keeps none any more.</summary>
    /// <param name="folder">Of the spool; need not be there.</param>
    public static void Remove(string folder)
    {
        foreach (var number in Numbers(folder)) File.Delete(PathOf(folder, number));
        if (Directory.Exists(folder) && !Directory.EnumerateFileSystemEntries(folder).Any()) Directory.Delete(folder);
    }

    /// <summary>Writes what is still queued, once, and ends.</summary>
    public void Dispose()
    {
        _queue.Writer.TryComplete();
        _stop.Cancel();
        _hurry.Set();
        _writer.Join();
        _file?.Dispose();
        _stop.Dispose();
        _hurry.Dispose();
    }

    private static string PathOf(string folder, long number) =>
        Path.Combine(folder, number.ToString("D8", CultureInfo.InvariantCulture) + Extension);

    private static List<long> Numbers(string folder) => Directory.Exists(folder)
        ?
        [
            .. Directory.EnumerateFiles(folder, "*" + Extension).Select(Path.GetFileNameWithoutExtension)
                .Where(name => name!.All(char.IsAsciiDigit) && name!.Length is > 0 and < 19)
                .Select(name => long.Parse(name!, CultureInfo.InvariantCulture)).Order(),
        ]
        : [];

    private void Run()
    {
        var group = new List<Item>();
        while (_queue.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            if (!_stop.IsCancellationRequested) _hurry.Wait(GroupDelay);
            if (!_stop.IsCancellationRequested) _hurry.Reset();
            while (_fault is null && Take(group))
            {
                try
                {
                    _disk.Do($"the spool in {_folder}", () => Write(group), _stop.Token);
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    _fault = new LearnerException(
                        $"The spool in {_folder} cannot be written ({e.Message.TrimEnd('.')}); nothing that was acknowledged is lost: go on with --resume.", e);
                    break;
                }

                foreach (var item in group) item.Then?.Invoke();
            }

            if (_fault is null) continue;
            while (_queue.Reader.TryRead(out _))
            {
                // Nothing that comes after what could not be written is written, and nobody is told that it was.
            }
        }
    }

    /// <summary>Takes what belongs into one write: up to a new segment, which begins a group of its own.</summary>
    private bool Take(List<Item> group)
    {
        group.Clear();
        _buffer.ResetWrittenCount();
        while (_buffer.WrittenCount < GroupBytes && _queue.Reader.TryPeek(out var item) && (item.Segment == 0 || group.Count == 0))
        {
            _queue.Reader.TryRead(out item);
            group.Add(item);
            if (item.Segment != 0) return true;
            if (item.Record is { } record) SpoolSegment.Write(_buffer, record, _open);
        }

        return group.Count > 0;
    }

    /// <summary>Brings a group to the disk. Failed, it may be called again with the same group.</summary>
    private void Write(List<Item> group)
    {
        if (group[0].Segment is not 0 and var number)
        {
            _file?.Dispose();
            _file = File.OpenHandle(PathOf(_folder, number), FileMode.Create, FileAccess.Write, FileShare.Read);
            RandomAccess.Write(_file, SpoolSegment.Header(number), 0);
            RandomAccess.FlushToDisk(_file);
            DirectoryFlush.Flush(_folder);
            (_offset, _open) = (SpoolSegment.HeaderBytes, number);
        }
        else if (_buffer.WrittenCount > 0)
        {
            RandomAccess.Write(_file!, _buffer.WrittenSpan, _offset);
            RandomAccess.FlushToDisk(_file!);
            _offset += _buffer.WrittenCount;
            Interlocked.Add(ref _bytes, _buffer.WrittenCount);
            Interlocked.Increment(ref _flushes);
        }
    }

    /// <summary>A record, something to do when it is durable, or the number of the segment that begins.</summary>
    private readonly record struct Item(SpoolRecord? Record, Action? Then, long Segment);
}
