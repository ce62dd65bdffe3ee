// Damaged files of the learner: checkpoints, the spool, saved steps, deltas of weights. A reader takes them or says what is wrong in one
// sentence; a spool gives its records up to the damage.
using System.Buffers;
using Google.Protobuf;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Mem1.Tests;

namespace Mem1.Learner.Tests;

public sealed class FuzzTests : IDisposable
{
    private readonly string _folder = Damage.Folder();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void State_of_a_checkpoint()
    {
        var sound = """
            {"update":7,"policy_version":7,"optimiser_steps":[7,7],"next_task":56,"score":0.5,
            "extra":{"evaluation_before":{"exact_match":{"1":0.5}},"trainer":{"kl":0.1}}}
            """u8.ToArray();
        Damage.Survives<LearnerException>(sound, 3_000, bytes =>
        {
            File.WriteAllBytes(Path.Combine(_folder, "state.json"), bytes);
            var state = TrainingCheckpoint.LoadState(_folder);
            Assert.DoesNotContain(state.Extra.Keys, k => k is null);
            _ = state.OptimiserSteps.Sum(n => (double)n);
        });
    }

    [Fact]
    public void Tasks_of_a_checkpoint_and_what_is_made_of_them()
    {
        var record = new LedgerRecord { Consumed = 5, Lineage = 3, SpoolFrom = 2, Discarded = { ["Stale"] = 1 } };
        record.Weights[4] = ByteString.CopyFrom(new byte[32]);
        record.Quarantined.Add(new QuarantinedRecord { TaskId = "q", Reasons = { "it broke" } });
        record.Entries.Add(new EntryRecord
        {
            Terms = Terms("t"),
            WorkerId = "w",
            Turns = { Turns("t") },
        });
        var time = TimeProvider.System;
        Damage.Survives<LearnerException>(record.ToByteArray(), 3_000, bytes =>
        {
            File.WriteAllBytes(Path.Combine(_folder, "ledger.bin"), bytes);
            var read = TrainingCheckpoint.LoadLedger(_folder)!;
            var applied = SpoolReplay.Apply(read, [new SpoolRecord { Lease = new LeaseNote { Terms = Terms("t"), WorkerId = "v" } }]);
            var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, time);
            ledger.Restore(applied);
            var task = new Environments.EnvironmentTask("t", [new Environments.Objective("o", "what?", ["that"])]);
            ledger.Submit([new TaskRequest(task, 1, 1, 1, 8, false)], null);
            _ = ledger.Save().ToByteArray();
            ledger.Close();
        });
    }

    [Fact]
    public void A_spool()
    {
        var buffer = new ArrayBufferWriter<byte>();
        buffer.Write(SpoolSegment.Header(3));
        SpoolSegment.Write(buffer, new SpoolRecord { Lease = new LeaseNote { Terms = Terms("t"), WorkerId = "w" } }, 3);
        foreach (var turn in Turns("t")) SpoolSegment.Write(buffer, new SpoolRecord { Turn = turn }, 3);
        var path = Path.Combine(_folder, "segment");
        var sound = buffer.WrittenSpan.ToArray();
        File.WriteAllBytes(path, sound);
        var whole = SpoolSegment.Read(path, 3).Records;
        Assert.Equal(1 + Turns("t").Count, whole.Count);
        for (var i = 0; i < 2_000; i++)
        {
            File.WriteAllBytes(path, Damage.Of(sound, i));
            var (records, torn) = SpoolSegment.Read(path, 3);
            // A checksum stands before every record: what is read is what was written, up to the damage.
            Assert.Equal(whole.Take(records.Count), records);
            Assert.True(torn >= 0);
        }

        // Whole, with a right checksum, and no sense: not taken for a record, or without effect.
        for (var i = 0; i < 2_000; i++)
        {
            var bytes = Damage.Of(whole[i % whole.Count].ToByteArray(), i);
            SpoolRecord made;
            try
            {
                made = SpoolRecord.Parser.ParseFrom(bytes);
            }
            catch (InvalidProtocolBufferException)
            {
                continue;
            }

            buffer.Clear();
            buffer.Write(SpoolSegment.Header(3));
            SpoolSegment.Write(buffer, made, 3);
            File.WriteAllBytes(path, buffer.WrittenSpan);
            SpoolReplay.Apply(new LedgerRecord(), [whole[0], .. SpoolSegment.Read(path, 3).Records]);
        }
    }

    [Fact]
    public void A_delta_of_weights()
    {
        var random = new Random(1);
        var from = new byte[401];
        random.NextBytes(from);
        var to = (byte[])from.Clone();
        for (var i = 0; i < 20; i++) to[random.Next(to.Length)] ^= (byte)random.Next(256);
        Damage.Survives<InvalidDataException>(Whole(WeightDelta.Encode(ByteBlob.Of(from), ByteBlob.Of(to))), 5_000,
            bytes => Assert.Equal(from.Length, WeightDelta.Apply(ByteBlob.Of(from), ByteBlob.Of(bytes)).Length));

        static byte[] Whole(ByteBlob blob) => [.. blob.Segments.SelectMany(s => s.ToArray())];
    }

    [Fact]
    public void A_saved_step()
    {
        var trajectory = TestData.Trajectory(new Random(1), 31, 2, "e");
        var counts = trajectory.GeneratedTokens;
        var step = new SavedStep
        {
            Update = 1,
            PolicyVersion = 0,
            Members = [0],
            KlFactor = 1,
            Trajectories = [trajectory],
            Scores = [new TokenScores(new float[counts], new float[counts])],
            Reference = null,
            Advantages = [new double[counts]],
            Returns = [new double[counts]],
        };
        var path = Path.Combine(_folder, "step.json");
        step.Write(path);
        Damage.Survives<LearnerException>(File.ReadAllBytes(path), 2_000, bytes =>
        {
            File.WriteAllBytes(path, bytes);
            SavedStep.Read(path);
        });
    }

    [Fact]
    public void A_manifest()
    {
        var inner = Directory.CreateDirectory(Path.Combine(_folder, "step-1")).FullName;
        File.WriteAllText(Path.Combine(inner, "a"), "one");
        File.WriteAllText(Path.Combine(inner, "b"), "two");
        CheckpointManifest.Write(inner);
        var path = Path.Combine(inner, CheckpointManifest.FileName);
        var sound = File.ReadAllBytes(path);
        Assert.Null(CheckpointManifest.Problem(inner));
        for (var i = 0; i < 3_000; i++)
        {
            var bytes = Damage.Of(sound, i);
            if (bytes.AsSpan().SequenceEqual(sound)) continue;
            File.WriteAllBytes(path, bytes);
            Assert.NotNull(CheckpointManifest.Problem(inner));
        }
    }

    private static TaskLease Terms(string id) => new()
    {
        TaskId = id,
        EpisodeId = id,
        Attempt = 1,
        Seed = 1,
        Task = new TaskBody { Objectives = { new ObjectiveBody { Id = "o", Question = "what?", GoldenAnswers = { "that" } } } },
        Sampling = new SamplingParameters { Temperature = 1, TopP = 1, MaxNewTokens = 8 },
    };

    private static List<SubTrajectory> Turns(string id) =>
        TrajectoryAssemblerTests.ToMessages(TestData.Trajectory(new Random(1), 31, 2, id) with { TaskId = id }, 1)[..^1];
}
