using System.Text;
using System.Text.Json;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

/// <summary>Against implementations that are not ours: a tokenizer in JavaScript, a reader of checkpoints in Python.</summary>
public sealed class PeerTests
{
    private const int RandomStrings = 10_000;

    /// <summary>Sentences in the scripts that people write, and what agents write.</summary>
    private static readonly string[] Sentences =
    [
        "The quick brown fox can't jump; we'll see what THEY'VE done, I'd say it's 3.14159 or 1,000,000.",
        "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.", "Voix ambiguë d'un cœur qui au zéphyr préfère les jattes de kiwis.",
        "Franz jagt im komplett verwahrlosten Taxi quer durch Bayern; Straße, Größe, Übermut.", "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia.",
        "À noite, vovô Kowalsky vê o ímã cair no pé do pinguim.", "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ığdır.",
        "Flygande bäckasiner söka hwila på mjuka tuvor. Høj bly gom vandt fræk sexquiz på wc. Kæmi ný öxi hér.",
        "Съешь же ещё этих мягких французских булок, да выпей чаю. Чуєш їх, доцю, га?", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ὁ ἄνθρωπος",
        "נועז בן טרק נפש גבו בצל. שָׁלוֹם עֲלֵיכֶם", "نص حكيم له سر قاطع وذو شأن عظيم. السَّلَامُ عَلَيْكُمْ ١٢٣", "دیدن رنگین‌کمان پس از باران زیبا است.",
        "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण। १२३", "আমি বাংলায় গান গাই।", "ஆங்கிலம் தமிழ் மொழி.", "తెలుగు భాష చాలా అందమైనది.",
        "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน", "ພາສາລາວ ເປັນພາສາ", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "བོད་སྐད།",
        "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", "いろはにほへと ちりぬるを。カタカナ ﾊﾝｶｸ ヶ々〆〤", "키스의 고유조건은 입술끼리 만나야 하고. \u1112\u1161\u11ab\u1100\u1173\u11af",
        "Tiếng Việt: ngôn ngữ có thanh điệu, ệ ữ ở.", "ქართული ენა", "Հայերեն լեզու", "አማርኛ ቋንቋ", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "Монгол хэл ᠮᠣᠩᠭᠣᠯ",
        "emoji 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☺️ ✈ ①②③ ½ Ⅷ 𝒜𝔅ℂ 𐍈 𠜎𠜱", "e\u0301 a\u0308\u0323 \u0344 \u212B \u2126 \u0958 \uF900 \uFB1D",
        "<think>The capital is Paris.</think>\n<search>who's the \"king\" of\tFrance?</search>",
        "\n\n<information>[HINT]You have 5 turns left.[/HINT]\n\nDoc 1(Title: \"Paris\") Paris is.\r\n\r\n</information>\n\n",
        "<|im_start|>system\nYou are.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|endoftext|><|im_end",
        "def f(x):\n    return {'a': [1, 2, 3], \"b\": x ** 2}  # comment\n\n\tif (a && !b) { c->d = 0x1F; }", "https://example.org/a?b=c&d=%20#e",
        "   leading\t\ttabs \u00A0nbsp\u2003em\u3000ideographic  \n \n  trailing   ", "", " ", "\n", "'", "''s 'S 'T 'LL 'rE 'vE 'm 'D x'sx",
    ];

    /// <summary>
    /// First and last code points of ranges that the Unicode versions of both sides know alike: what is newer is letters for one and
    /// unassigned for the other.
    /// </summary>
    private static readonly (int First, int Last)[] Ranges =
    [
        (0x00, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x17E), (0x180, 0x24F), (0x300, 0x36F), (0x391, 0x3A1), (0x400, 0x4FF), (0x5D0, 0x5EA),
        (0x621, 0x64A), (0x905, 0x939), (0x93E, 0x94C), (0xE01, 0xE3A), (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0x1E00, 0x1EFF),
        (0x2000, 0x200A), (0x2010, 0x2027), (0x2460, 0x2473), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
        (0xFF01, 0xFF5E), (0x1D400, 0x1D454), (0x1F600, 0x1F64F), (0x20000, 0x2A6D6),
    ];

    private static readonly string[] Pieces =
    [
        "the", " of", "ing", " Paris", "'s", "'LL", "n't", "  ", "\n\n", "\r\n", "\t", "...", "!!", "</search>", "<think>", "<|im_end|>",
        "<|im_start|>", "<|endoftext|>", "12", "3.5", "\u200D", "aaaaaaaa", "ab ab ab", "e\u0301\u0323", "\u1100\u1161\u11A8",
    ];

    [Fact]
    public void TheQwenVocabularyGivesTheGoldenIds()
    {
        ITokenizer tokenizer = TokenizerFiles.Load(Peers.QwenVocabulary());
        using JsonDocument golden = JsonDocument.Parse(File.ReadAllBytes(Support.Data("qwen25-tokens.json")));
        int cases = 0;
        foreach (JsonElement test in golden.RootElement.GetProperty("cases").EnumerateArray())
        {
            string text = test.GetProperty("text").GetString()!;
            Assert.Equal(test.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32()), tokenizer.Encode(text));
            cases++;
        }
        Assert.True(cases > 100);
        Assert.Equal(151665, tokenizer.VocabularySize);
    }

    [Fact]
    public void AnotherTokenizerGivesTheSameIdsInManyLanguagesAndForRandomText()
    {
        string folder = Peers.TokenizerPeer();
        string[] texts = [.. Sentences, .. Enumerable.Range(0, RandomStrings).Select(i => RandomText((ulong)i))];
        string input = string.Concat(texts.Select(t => JsonSerializer.Serialize(t) + "\n"));
        (int exit, string output, string error) = Peers.Run("node", ["encode.mjs"], folder, input)!.Value;
        Assert.True(exit == 0, error);
        string[] lines = output.TrimEnd('\n').Split('\n');
        Assert.Equal(texts.Length, lines.Length);
        ITokenizer tokenizer = TokenizerFiles.Load(Peers.QwenVocabulary());
        for (int i = 0; i < texts.Length; i++)
        {
            int[] expected = JsonSerializer.Deserialize<int[]>(lines[i])!;
            int[] actual = tokenizer.Encode(texts[i]);
            Assert.True(expected.SequenceEqual(actual),
                $"{JsonSerializer.Serialize(texts[i])}: expected {lines[i]}, got {JsonSerializer.Serialize(actual)}");
        }
    }

    [Fact]
    public void TheChatTemplateOfQwenIsInTheVocabularysOwnTokens()
    {
        ITokenizer tokenizer = TokenizerFiles.Load(Peers.QwenVocabulary());
        int[] ids = tokenizer.EncodePrompt("hi");
        Assert.Equal("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", tokenizer.Decode(ids));
        Assert.Equal(3, ids.Count(id => id == 151644));
        Assert.Equal(2, ids.Count(id => id == 151645));
    }

    [Theory]
    [InlineData(StoredDtype.Float32, false)]
    [InlineData(StoredDtype.Bfloat16, true)]
    [InlineData(StoredDtype.Float16, true)]
    public void APythonReaderFindsTheNamesShapesAndValuesOfQwen2(StoredDtype dtype, bool sharded)
    {
        foreach (string name in new[] { "qwen2-tiny", "qwen2-tiny-tied" })
        {
            using var folder = new Support.TempFolder();
            Checkpoint loaded = Checkpoint.Load(Support.Data(name));
            var tensors = new Dictionary<string, WeightTensor>(loaded.Weights.Tensors) { ["value_head.fc2.bias"] = new([1], [0.1f]) };
            Checkpoint saved = loaded with
            {
                Weights = new ModelWeights(tensors),
                Tokenizer = new WordLevelTokenizer(
                    [.. Enumerable.Range(0, loaded.Config.VocabularySize).Select(i => $"w{i}")], endOfText: "w2"),
            };
            string path = folder.File("saved");
            saved.Save(path, dtype, sharded ? 20_000 : Checkpoint.DefaultShardBytes);
            string script = Path.Combine(AppContext.BaseDirectory, "peers", "checkpoints", "read.py");
            if (Peers.Run("python3", [script, path], folder.Path) is not { } peer)
            {
                Assert.Skip("python3 is missing (Debian package python3)");
                return;
            }
            Assert.True(peer.Exit == 0, peer.Error);
            using JsonDocument json = JsonDocument.Parse(peer.Output);
            // What is stored, as this side reads it back.
            ModelWeights stored = Checkpoint.Load(path).Weights;
            foreach (JsonProperty tensor in json.RootElement.GetProperty("tensors").EnumerateObject())
                Assert.Equal(stored.Tensors[tensor.Name].Data.Sum(x => (double)x), tensor.Value[2].GetDouble(), 1e-6);
            string[] files = [.. json.RootElement.GetProperty("files").EnumerateArray().Select(f => f.GetString()!)];
            foreach (string file in new[] { "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", Checkpoint.ValueHeadFile })
                Assert.Contains(file, files);
        }
    }

    private static string RandomText(ulong seed)
    {
        var text = new StringBuilder();
        ulong at = 0;
        ulong Draw(int below) => RandomStream.Bits(seed, at++) % (ulong)below;
        for (int parts = (int)Draw(30); parts > 0; parts--)
        {
            if (Draw(3) == 0)
            {
                text.Append(Pieces[Draw(Pieces.Length)]);
                continue;
            }
            (int first, int last) = Ranges[Draw(Ranges.Length)];
            for (int run = 1 + (int)Draw(4); run > 0; run--)
                text.Append(char.ConvertFromUtf32(first + (int)Draw(last - first + 1)));
        }
        return text.ToString();
    }
}
