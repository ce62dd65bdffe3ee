using System.Text;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

/// <summary>
/// Damaged files: valid ones with bytes changed, cut out, doubled and spliced. A parser accepts the result or says what is wrong with it
/// in one sentence of its own exception; nothing else escapes.
/// </summary>
public sealed class FuzzTests
{
    private static readonly string[] Splices =
    [
        "null", "true", "-1", "1e999", "9223372036854775807", "18446744073709551616", "\"\"", "\"\\ud800\"", "[]", "{}", "[[[[[[[[[[", "\"F64\"",
        "0.5", ",", ":", "}", "\u0000", "\"../../etc/passwd\"", "4294967296", "\"\\u0000\"", "2147483648", "[0,0]", "[1,-1]", "\"a\":1",
    ];

    // The largest of these files has some thousand bytes, and tables of all byte pairs are the most that is made of one.
    private const long MostBytes = 16 << 20;

    public static TheoryData<string, int> Parsers { get; } = new()
    {
        { "safetensors", 70_000 }, { "index", 40_000 }, { "config", 40_000 }, { "adapter", 30_000 }, { "tokenizer_config", 20_000 }, { "word", 15_000 },
        { "bpe", 1_500 },
    };

    [Theory]
    [MemberData(nameof(Parsers))]
    public void NothingButTheTypedExceptionEscapes(string parser, int inputs)
    {
        (byte[] seed, Action<byte[]> parse) = Subject(parser);
        parse(seed); // the seed itself is good
        int refused = 0, accepted = 0;
        for (int i = 0; i < inputs; i++)
        {
            byte[] input = Damage(seed, (ulong)i);
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                parse(input);
                accepted++;
            }
            catch (CheckpointException e)
            {
                refused++;
                Assert.InRange(e.Message.Length, 10, 2_000);
                Assert.DoesNotContain('\n', e.Message);
            }
            catch (Exception e) when (e is not Xunit.Sdk.XunitException)
            {
                Assert.Fail($"{parser}, input {i}: {e.GetType().Name} {e.Message}\n{Encoding.UTF8.GetString(input)}\n{e.StackTrace}");
            }
            // What a length in the file says is compared with the file before room is made for it.
            long took = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(took < MostBytes, $"{parser}, input {i} of {input.Length} bytes took {took} bytes");
        }
        Assert.True(refused > inputs / 10, $"{refused} of {inputs} refused");
        Assert.True(accepted > 0);
    }

    private static (byte[] Seed, Action<byte[]> Parse) Subject(string parser)
    {
        TokenizerConfig none = new(null, null);
        switch (parser)
        {
            case "safetensors":
                var weights = new ModelWeights(new Dictionary<string, WeightTensor>
                {
                    ["a.weight"] = new([2, 3], new float[6]),
                    ["b"] = new([], new float[1]),
                    ["empty"] = new([0, 4], []),
                });
                return (Safetensors.ToBytes(weights, StoredDtype.Bfloat16), bytes => Safetensors.FromBytes(bytes));
            case "index":
                return ("""{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"""u8
                    .ToArray(), bytes => ShardIndex.Parse(bytes, "index"));
            case "config":
                string config = File.ReadAllText(Path.Combine(Support.Data("qwen2-tiny"), "config.json")).Replace(
                    "\"use_sliding_window\"", "\"rope_scaling\": {\"rope_type\": \"default\"}, \"layer_types\": [\"full_attention\"], \"use_sliding_window\"");
                return (Encoding.UTF8.GetBytes(config), bytes =>
                {
                    DecoderConfig read = ModelConfigFile.Parse(bytes, "config.json");
                    ModelConfigFile.DtypeOf(bytes);
                    ModelConfigFile.Format(read, StoredDtype.Float32, 1, bytes);
                }
                );
            case "adapter":
                return ("""{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q_proj","v_proj"],"bias":"none","rank_pattern":{},"use_dora":false}"""u8
                    .ToArray(), bytes => PeftFolder.Parse(bytes, "adapter_config.json"));
            case "tokenizer_config":
                return ("""{"eos_token":{"content":"<e>"},"chat_template":[{"name":"default","template":"<|im_start|>"}],"x":1}"""u8.ToArray(), bytes =>
                {
                    if (TokenizerFiles.ParseConfig(bytes, "tokenizer_config.json").ChatTemplate is { } template)
                        ChatTemplate.Recognise(template, "tokenizer_config.json");
                }
                );
            case "word":
                return (Saved(new WordLevelTokenizer(["<pad>", "a", "b", "<unk>"], unknown: "<unk>")),
                    bytes => TokenizerFiles.Parse(none, new TokenizerSource(bytes, null, null), "tokenizer.json").Decode([0, 1, 2, 3, 4, -1]));
            default:
                return (Saved(BpeTrainer.Train(["the cat sat"], 262, ["<|end|>"])),
                    bytes => TokenizerFiles.Parse(none, new TokenizerSource(bytes, null, null), "tokenizer.json").Encode("the cat <|end|> \ud800"));
        }
    }

    private static byte[] Saved(ITokenizer tokenizer)
    {
        using var folder = new Support.TempFolder();
        tokenizer.Save(folder.Path);
        return File.ReadAllBytes(folder.File("tokenizer.json"));
    }

    private static byte[] Damage(byte[] seed, ulong number)
    {
        ulong at = 0;
        int Draw(int below) => (int)(RandomStream.Bits(number, at++) % (ulong)below);
        var bytes = new List<byte>(seed);
        for (int changes = 1 + Draw(3); changes > 0 && bytes.Count > 0; changes--)
        {
            int place = Draw(bytes.Count), length = Math.Min(1 + Draw(12), bytes.Count - place);
            switch (Draw(6))
            {
                case 0:
                    bytes[place] = (byte)Draw(256);
                    break;
                case 1:
                    bytes.RemoveRange(place, length);
                    break;
                case 2:
                    bytes.InsertRange(place, bytes.GetRange(place, length));
                    break;
                case 3:
                    bytes.InsertRange(place, Encoding.UTF8.GetBytes(Splices[Draw(Splices.Length)]));
                    break;
                case 4:
                    bytes.RemoveRange(place, bytes.Count - place);
                    break;
                default:
                    // In the place of a value: what most often still parses as JSON.
                    int colon = bytes.IndexOf((byte)':', place);
                    int end = colon < 0 ? -1 : bytes.FindIndex(colon, b => b is (byte)',' or (byte)'}');
                    if (end > colon)
                    {
                        bytes.RemoveRange(colon + 1, end - colon - 1);
                        bytes.InsertRange(colon + 1, Encoding.UTF8.GetBytes(Splices[Draw(Splices.Length)]));
                    }
                    break;
            }
        }
        return [.. bytes];
    }
}
