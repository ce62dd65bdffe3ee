// What peers of other releases may rely on: numbers and types of fields stay, fields that one side does not know are passed over, and another
// major version is refused in a sentence.
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Mem1.Environments;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class ProtocolTests : IAsyncDisposable
{
    private static readonly FileDescriptor[] s_files =
        [ClusterReflection.Descriptor, LedgerReflection.Descriptor, ObserverReflection.Descriptor, RolloutReflection.Descriptor];

    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights));
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;
    private LearnerHost? _host;

    [Fact]
    public void Names_numbers_and_types_are_those_that_were_written_down()
    {
        var now = Lines().ToList();
        if (Environment.GetEnvironmentVariable("MEM1_WRITE_PROTOCOL") is { Length: > 0 } path) File.WriteAllLines(path, now);
        var frozen = File.ReadAllLines(Data("protocol.txt"));
        Assert.True(
            !frozen.Except(now).Any(),
            $"These lines of data/protocol.txt are not so any more: {string.Join("; ", frozen.Except(now))}. Peers of other releases rely on "
            + "them: put them back. What is new gets a number of its own; write it down with MEM1_WRITE_PROTOCOL=FILE before a release, and "
            + "raise ProtocolVersion.Minor once for it.");
        // Whatever else is added, what the first release knew is there as it was.
        Assert.Empty(File.ReadAllLines(Data("protocol-1.0.txt")).Skip(1).Except(now));
    }

    [Fact]
    public async Task A_worker_of_the_minor_version_before_joins_and_plays()
    {
        var before = Schema.Read(Data("protocol-1.0.txt"));
        var sent = 0;
        var host = await StartAsync();
        await PlayAsync(host, (bytes, message) =>
        {
            var kept = before.Only(bytes, message);
            if (kept.Length < bytes.Length) sent++;
            return kept;
        });
        Assert.True(sent >= 2); // something of today's went over the wire that it does not know: the welcome's number, the lease's trace
    }

    [Fact]
    public async Task A_worker_of_a_later_minor_version_joins_and_plays()
    {
        // In every message fields that nobody knows yet, of every wire type; and a kind of message that nobody knows.
        var now = Schema.Read(Data("protocol.txt"));
        var host = await StartAsync();
        var worker = await PlayAsync(host, (bytes, message) => now.With(bytes, message, Unknown()), async peer =>
        {
            var unheard = new MemoryStream();
            using (var output = new CodedOutputStream(unheard, leaveOpen: true))
            {
                output.WriteTag(99, WireFormat.WireType.LengthDelimited);
                output.WriteBytes(ByteString.CopyFromUtf8("a body of tomorrow"));
            }

            await peer.SendAsync(WorkerMessage.Parser.ParseFrom(unheard.ToArray()));
        });
        Assert.Equal(ProtocolVersion.Minor, worker.Welcome.ProtocolMinor);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(int.MaxValue)]
    public async Task Another_major_version_is_refused_in_a_sentence(int major)
    {
        var host = await StartAsync();
        using var peer = new Peer(host, _limit);
        var refusal = await peer.RefusedAsync(new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = major, MaxEpisodes = 1 } });
        Assert.Equal(StatusCode.FailedPrecondition, refusal.StatusCode);
        Assert.Equal(
            $"Worker w speaks protocol version {major}; this learner speaks {ProtocolVersion.Major}. Run the same release on both.",
            refusal.Status.Detail);
        Assert.Empty(host.Workers);
    }

    [Fact]
    public void Traces_are_of_the_form_that_others_read()
    {
        var parent = TraceContext.ParentOf("run", "u3-1", 2);
        Assert.Matches("^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", parent);
        Assert.Equal(TraceContext.TraceOf("run", "u3-1"), TraceContext.TraceIn(parent));
        Assert.Equal(TraceContext.TraceIn(parent), TraceContext.TraceIn(TraceContext.ParentOf("run", "u3-1", 3)));
        Assert.NotEqual(parent, TraceContext.ParentOf("run", "u3-1", 3));
        Assert.NotEqual(TraceContext.TraceOf("run", "u3-1"), TraceContext.TraceOf("ru", "nu3-1"));
        foreach (var none in (string[])["", "00", parent[1..], parent.ToUpperInvariant()]) Assert.Equal("-", TraceContext.TraceIn(none));
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null) await _host.DisposeAsync();
    }

    private static string Data(string name) => Path.Combine(AppContext.BaseDirectory, "data", name);

    private static IEnumerable<string> Lines()
    {
        yield return $"protocol {ProtocolVersion.Major}.{ProtocolVersion.Minor}";
        foreach (var file in s_files)
        {
            foreach (var type in file.MessageTypes)
            {
                foreach (var f in type.Fields.InFieldNumberOrder())
                {
                    var kind = f.FieldType switch
                    {
                        FieldType.Message => f.MessageType.FullName,
                        FieldType.Enum => f.EnumType.FullName,
                        _ => f.FieldType.ToString().ToLowerInvariant(),
                    };
                    if (f.IsMap)
                    {
                        string Part(int number) => f.MessageType.FindFieldByNumber(number).FieldType.ToString().ToLowerInvariant();
                        kind = $"map {Part(1)} {Part(2)}";
                    }

                    var oneof = f.RealContainingOneof is { } of ? $" in {of.Name}" : "";
                    var optional = f.HasPresence && f.FieldType != FieldType.Message && oneof.Length == 0;
                    var label = f.IsRepeated && !f.IsMap ? "repeated " : optional ? "optional " : "";
                    yield return $"{type.FullName} {f.FieldNumber} {f.Name}: {label}{kind}{oneof}";
                }
            }

            foreach (var type in file.EnumTypes)
            {
                foreach (var value in type.Values) yield return $"{type.FullName} {value.Number} {value.Name}";
            }

            foreach (var method in file.Services.SelectMany(s => s.Methods))
            {
                yield return $"{method.FullName}: {(method.IsClientStreaming ? "stream " : "")}{method.InputType.FullName} -> "
                    + $"{(method.IsServerStreaming ? "stream " : "")}{method.OutputType.FullName}";
            }
        }
    }

    private static byte[] Unknown()
    {
        using var bytes = new MemoryStream();
        using (var output = new CodedOutputStream(bytes))
        {
            output.WriteTag(1001, WireFormat.WireType.Varint);
            output.WriteUInt64(ulong.MaxValue);
            output.WriteTag(1002, WireFormat.WireType.LengthDelimited);
            output.WriteBytes(ByteString.CopyFrom(0xff, 0xfe));
            output.WriteTag(1003, WireFormat.WireType.Fixed32);
            output.WriteFixed32(7);
            output.WriteTag(536_870_911, WireFormat.WireType.Fixed64); // the highest there is
            output.WriteFixed64(7);
        }

        return bytes.ToArray();
    }

    private async Task<LearnerHost> StartAsync()
    {
        _host = await LearnerHost.StartAsync(new LearnerHostOptions { Limits = TestData.Limits }, _publisher, 77, null, _limit);
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        return _host;
    }

    /// <summary>A worker whose messages are changed on their way joins, plays an episode and leaves.</summary>
    private async Task<Peer> PlayAsync(LearnerHost host, Func<byte[], string, byte[]> wire, Func<Peer, Task>? also = null)
    {
        using var worker = await Peer.JoinAsync(host, "other", maxEpisodes: 1, _limit, wire: wire);
        if (also is not null) await also(worker);
        var run = host.Ledger.RunAsync(
            [new TaskRequest(new EnvironmentTask("t", [new Objective("o", "what?", ["that"])]), 1, 1, 1, 8, false)], null, _limit);
        await worker.ReadyAsync(version: 0, credit: 1);
        await worker.PlayAsync(await worker.LeaseAsync());
        var played = Assert.Single(await run);
        Assert.Equal("t", played.TaskId);
        Assert.Equal(("other", "Finished"), played.Tries.Select(t => (t.Worker, t.How)).Single());
        Assert.Equal(TraceContext.TraceOf(host.Ledger.Run, "t"), played.TraceId);
        await worker.LeaveAsync();
        return worker;
    }

    /// <summary>The fields of every message, as they are written down.</summary>
    private sealed class Schema(Dictionary<string, Dictionary<int, string>> fields)
    {
        public static Schema Read(string path)
        {
            var fields = new Dictionary<string, Dictionary<int, string>>(StringComparer.Ordinal);
            foreach (var line in File.ReadAllLines(path).Skip(1))
            {
                // mem1.v1.Hello 4 held: repeated mem1.v1.HeldLease
                var words = line.Split(' ');
                if (words.Length < 4 || !words[2].EndsWith(':') || !int.TryParse(words[1], CultureInfo.InvariantCulture, out var number)) continue;
                if (!fields.TryGetValue(words[0], out var known)) fields.Add(words[0], known = []);
                known.Add(number, words.Skip(3).FirstOrDefault(w => w.StartsWith("mem1.", StringComparison.Ordinal)) ?? "");
            }

            return new Schema(fields);
        }

        /// <summary>A message without the fields that are not known here.</summary>
        public byte[] Only(byte[] bytes, string message) => Copy(bytes, message, [], keepUnknown: false);

        /// <summary>A message with something added, in itself and in every message within.</summary>
        public byte[] With(byte[] bytes, string message, byte[] added) => Copy(bytes, message, added, keepUnknown: true);

        private byte[] Copy(byte[] bytes, string message, byte[] added, bool keepUnknown)
        {
            var known = fields.GetValueOrDefault(message) ?? [];
            using var stream = new MemoryStream();
            using (var output = new CodedOutputStream(stream, leaveOpen: true))
            {
                var input = new CodedInputStream(bytes);
                while (input.ReadTag() is > 0 and var tag)
                {
                    var number = WireFormat.GetTagFieldNumber(tag);
                    var keep = keepUnknown || known.ContainsKey(number);
                    if (keep) output.WriteTag(tag);
                    switch (WireFormat.GetTagWireType(tag))
                    {
                        case WireFormat.WireType.Varint:
                            var varint = input.ReadUInt64();
                            if (keep) output.WriteUInt64(varint);
                            break;
                        case WireFormat.WireType.Fixed32:
                            var word = input.ReadFixed32();
                            if (keep) output.WriteFixed32(word);
                            break;
                        case WireFormat.WireType.Fixed64:
                            var two = input.ReadFixed64();
                            if (keep) output.WriteFixed64(two);
                            break;
                        default:
                            var data = input.ReadBytes();
                            if (keep && known.GetValueOrDefault(number) is { Length: > 0 } type && fields.ContainsKey(type))
                                data = ByteString.CopyFrom(Copy(data.ToByteArray(), type, added, keepUnknown));
                            if (keep) output.WriteBytes(data);
                            break;
                    }
                }
            }

            return [.. stream.ToArray(), .. added];
        }
    }
}
