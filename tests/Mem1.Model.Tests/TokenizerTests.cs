using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

public sealed class TokenizerTests
{
    /// <summary>Characters that meet every branch of the splitter and the normaliser.</summary>
    private static readonly string[] Alphabet =
    [
        "a", "Z", "é", "e\u0301", "가", "\u1100\u1161", "𝒜", "漢", "7", "٣", "½", " ", "  ", "\u00A0", "\t", "\n", "\r\n", "'s", "'LL",
        "'\u017F",
        "'", "!", "...", "<", ">", "</search>", "<|end|>", "😀", "\u200D", "\0", "the", " the", "ing", "\uFFFD",
    ];

    [Fact]
    public void WordLevelRoundTripsEveryRowOfIds()
    {
        var tokenizer = new WordLevelTokenizer(["<pad>", "<search>", "</search>", ";", ".", "Belize", "ant_6", "<odd"]);
        for (ulong seed = 0; seed < 200; seed++)
        {
            int[] ids = Support.RandomTokens((int)(seed % 20), 8, seed);
            Assert.Equal(ids, tokenizer.Encode(tokenizer.Decode(ids)));
        }
        Assert.Equal([1, 5, 2, 3], tokenizer.Encode("<search>Belize</search>\n ;"));
        Assert.Equal("Belize ; ant_6", tokenizer.Decode([5, 3, 6]));
    }

    [Fact]
    public void AnUnknownWordIsNamedOrReplaced()
    {
        var strict = new WordLevelTokenizer(["a", "b"]);
        Assert.Contains("\"c\"", Assert.Throws<ArgumentException>(() => strict.Encode("a c")).Message);
        Assert.Equal([0, 1], new WordLevelTokenizer(["a", "<unk>"], unknown: "<unk>").Encode("a c"));
    }

    [Theory]
    [InlineData("a|a")]
    [InlineData("a||b")]
    [InlineData("a b")]
    public void AVocabularyThatBreaksTheRulesIsRefused(string words) =>
        Assert.Throws<ArgumentException>(() => new WordLevelTokenizer(words.Split('|')));

    [Fact]
    public void BothKindsLoadAsTheyWereSaved()
    {
        using var folder = new Support.TempFolder();
        ITokenizer[] tokenizers =
        [
            new WordLevelTokenizer(["<pad>", "<end>", "a", "\"q\"", "é", "<unk>"], endOfText: "<end>", unknown: "<unk>"),
            BpeTrainer.Train(["the cat sat on the mat", "thé \"cat\" sat"], 290, ["<|end|>"], "<|end|>"),
        ];
        foreach (ITokenizer tokenizer in tokenizers)
        {
            tokenizer.Save(folder.Path);
            byte[] first = File.ReadAllBytes(folder.File("tokenizer.json"));
            ITokenizer loaded = TokenizerFiles.Load(folder.Path);
            Assert.Equal(tokenizer.VocabularySize, loaded.VocabularySize);
            Assert.Equal(tokenizer.EndOfText, loaded.EndOfText);
            foreach (string text in new[] { "a \"q\" é unknown", "the cat <|end|><end> thé" })
                Assert.Equal(tokenizer.Encode(text), loaded.Encode(text));
            loaded.Save(folder.Path);
            Assert.Equal(first, File.ReadAllBytes(folder.File("tokenizer.json")));
        }
    }

    [Theory]
    [InlineData("Hello World", "Hello| World")]
    [InlineData("  leading and   multiple   spaces ", " | leading| and|  | multiple|  | spaces| ")]
    [InlineData("tabs\tand\r\nnewlines\n\n\nend", "tabs|\tand|\r\n|newlines|\n\n\n|end")]
    [InlineData("a \n b", "a| \n| b")]
    [InlineData("123 4.5", "1|2|3| |4|.|5")]
    [InlineData("don't WE'VE '\u017Fx 'x", "don|'t| WE|'VE| '|\u017Fx| '|x")]
    [InlineData("hi!!\n\n(x) $1", "hi|!!\n\n|(x|)| $|1")]
    [InlineData("x\u00A0y", "x|\u00A0y")]
    [InlineData("𝒜b 😀c ½٣", "𝒜b| 😀|c| |½|٣")]
    [InlineData("é漢字", "é漢字")]
    public void TheSplitterCutsAsThePatternOfQwen2(string text, string expected)
    {
        var pieces = new List<string>();
        for (int at = 0; at < text.Length;)
        {
            int length = QwenSplitter.Next(text, at);
            pieces.Add(text.Substring(at, length));
            at += length;
        }
        Assert.Equal(expected, string.Join("|", pieces));
    }

    [Fact]
    public void TheSplitterAgreesWithTheRegularExpressionOnTheBasicPlane()
    {
        var regex = new Regex(QwenSplitter.Pattern, RegexOptions.CultureInvariant);
        for (ulong seed = 0; seed < 3000; seed++)
        {
            // Surrogates and the long s are where the runtime's expressions and the reference part.
            string text = RandomText(seed, s => !s.Any(char.IsSurrogate) && !s.Contains('\u017F'));
            var expected = regex.Matches(text).Select(m => m.Value);
            var actual = new List<string>();
            for (int at = 0; at < text.Length; at += actual[^1].Length)
                actual.Add(text.Substring(at, QwenSplitter.Next(text, at)));
            Assert.Equal(expected, actual);
        }
    }

    [Fact]
    public void NormalisationEqualsTheReferenceTable()
    {
        string[][] cases = JsonSerializer.Deserialize<string[][]>(File.ReadAllBytes(Support.Data("nfc-cases.json")))!;
        Assert.True(cases.Length >= 2500);
        foreach (string[] pair in cases)
        {
            Assert.Equal(pair[1], CanonicalComposition.Normalize(pair[0]));
            Assert.Equal(pair[1], CanonicalComposition.Normalize(pair[1]));
        }
        Assert.Equal("\uD800e\u0327", CanonicalComposition.Normalize("\uD800e\u0327").Replace("\u0229", "e\u0327"));
    }

    [Fact]
    public void BpeRoundTripsAnyText()
    {
        ByteLevelBpeTokenizer tokenizer = Trained();
        for (ulong seed = 0; seed < 2000; seed++)
        {
            string text = RandomText(seed, _ => true);
            int[] ids = tokenizer.Encode(text);
            Assert.All(ids, id => Assert.InRange(id, 0, tokenizer.VocabularySize - 1));
            // Each piece between special tokens is composed on its own.
            string expected = string.Join("<|end|>", text.Split("<|end|>").Select(CanonicalComposition.Normalize));
            Assert.Equal(expected, tokenizer.Decode(ids));
        }
    }

    [Fact]
    public void LongPiecesMergeAsShortOnesDo()
    {
        ByteLevelBpeTokenizer tokenizer = Trained();
        Func<string, int[]> naive = NaiveMerge(tokenizer);
        for (ulong seed = 0; seed < 200; seed++)
        {
            // One piece: letters only. Beyond 64 bytes the queue is used; naive merging is the reference.
            string text = string.Concat(Support.RandomTokens(300, 5, seed).Select(i => "thing"[i]));
            Assert.Equal(naive(text), tokenizer.Encode(text));
            Assert.Equal(naive(text[..40]), tokenizer.Encode(text[..40]));
        }
        int[] run = tokenizer.Encode(new string('a', 200_000));
        Assert.Equal(200_000, tokenizer.Decode(run).Length);
    }

    [Fact]
    public void BytesThatAreNoTextDecodeToTheReplacementCharacter()
    {
        ByteLevelBpeTokenizer tokenizer = Trained();
        Assert.Equal("a\uFFFD", tokenizer.Decode(['a', 0xE6]));
        Assert.Equal("漢", tokenizer.Decode([0xE6, 0xBC, 0xA2]));
        Assert.Equal("\uFFFD", tokenizer.Decode([1_000_000]));
    }

    [Fact]
    public void TrainingIsDeterministicAndLearnsTheCommonPairsFirst()
    {
        string[] texts = ["low low low low low lower lower newest newest newest newest newest newest widest widest widest"];
        ByteLevelBpeTokenizer a = BpeTrainer.Train(texts, 266, ["<|end|>"], "<|end|>");
        ByteLevelBpeTokenizer b = BpeTrainer.Train(texts, 266, ["<|end|>"], "<|end|>");
        Assert.Equal(266, a.VocabularySize);
        Assert.Equal(265, a.EndOfText);
        // Counts by hand: es 9, then the bytes' lower ids among st after es = est 9, then lo/ow 7, ...
        Assert.Equal("es", a.Decode([256]));
        Assert.Equal("est", a.Decode([257]));
        using var one = new Support.TempFolder();
        using var two = new Support.TempFolder();
        a.Save(one.Path);
        b.Save(two.Path);
        Assert.Equal(File.ReadAllBytes(one.File("tokenizer.json")), File.ReadAllBytes(two.File("tokenizer.json")));
        Assert.Equal(257, BpeTrainer.Train(["abc"], 5000, ["<x>"]).VocabularySize);
        Assert.Throws<ArgumentException>(() => BpeTrainer.Train(texts, 256, ["<x>"]));
    }

    [Fact]
    public void QwensChatTemplateIsRendered()
    {
        Assert.Equal("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
            ChatTemplate.Recognise("'<|im_start|>system You are Qwen, created by Alibaba Cloud. You are a helpful assistant.'", "f")
                .Render("hi"));
        Assert.Throws<CheckpointException>(() => ChatTemplate.Recognise("[INST]", "f"));
        using var folder = new Support.TempFolder();
        BpeTrainer.Train(["x"], 259, ["<|im_start|>", "<|im_end|>"], "<|im_end|>").Save(folder.Path);
        File.WriteAllText(
            folder.File("tokenizer_config.json"), """{"eos_token":{"content":"<|im_end|>"},"chat_template":"<|im_start|>"}""");
        ITokenizer tokenizer = TokenizerFiles.Load(folder.Path);
        Assert.Equal(tokenizer.Encode("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"), tokenizer.EncodePrompt("hi"));
        Assert.Equal(257, tokenizer.Encode("<|im_end|>").Single());
        Assert.Equal(257, tokenizer.EndOfText);

        // A template in a file of its own goes before the key, and stays with the tokenizer.
        File.WriteAllText(folder.File("chat_template.jinja"), "<|im_start|> You are a helpful assistant.");
        using var copy = new Support.TempFolder();
        TokenizerFiles.Load(folder.Path).Save(copy.Path);
        var loaded = (ByteLevelBpeTokenizer)TokenizerFiles.Load(copy.Path);
        string Prompt(ITokenizer t) => t.Decode(t.EncodePrompt("hi"));
        const string User = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
        Assert.Equal("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + User, Prompt(loaded));
        // What a config asks for goes before what the files say.
        Assert.Equal("hi", Prompt(loaded.WithChat(false)));
        Assert.Equal(User, Prompt(loaded.WithChat(true, "")));
        Assert.Equal("<|im_start|>system\nS<|im_end|>\n" + User, Prompt(loaded.WithChat(true, "S")));
        Assert.Equal(Prompt(loaded), Prompt(loaded.WithChat(true)));
        Assert.Throws<CheckpointException>(() => Trained().WithChat(true));
        // A list of templates has one for chats without tools.
        File.WriteAllText(folder.File("tokenizer_config.json"), """{"chat_template":[{"name":"tool_use","template":"x"},{"name":"default","template":"<|im_start|>"}]}""");
        File.Delete(folder.File("chat_template.jinja"));
        Assert.Equal(User, Prompt(TokenizerFiles.Load(folder.Path)));
    }

    [Fact]
    public void DamagedTokenizerFilesGiveOneSentence()
    {
        using var folder = new Support.TempFolder();
        Trained().Save(folder.Path);
        string good = File.ReadAllText(folder.File("tokenizer.json"));
        foreach ((string from, string to) in new[]
        {
            ("\"BPE\"", "\"Unigram\""), ("\"NFC\"", "\"NFKC\""), ("\"Isolated\"", "\"Removed\""), ("\"vocab\"", "\"vocabulary\""),
            ("\"merges\": [", "\"merges\": [\"zz qq\", "), ("\"id\": ", "\"id\": -"), ("{", "["), ("\"Ā\"", "\"Āx\""),
        })
        {
            Assert.Contains(from, good);
            File.WriteAllText(folder.File("tokenizer.json"), good.Replace(from, to));
            string message = Assert.Throws<CheckpointException>(() => TokenizerFiles.Load(folder.Path)).Message;
            Assert.Contains("tokenizer.json", message);
        }
    }

    private static ByteLevelBpeTokenizer Trained() => BpeTrainer.Train(
        ["the thing is nothing, the king's ring: bring the thing in!", "漢字 the 漢字 thé naïve", "nnnn tttt tintin thinning"],
        330, ["<|end|>"], "<|end|>");

    private static string RandomText(ulong seed, Func<string, bool> allowed)
    {
        string[] parts = [.. Alphabet.Where(allowed)];
        return string.Concat(Support.RandomTokens((int)(seed % 25), parts.Length, seed).Select(i => parts[i]));
    }

    /// <summary>The definition, as slow as it is plain: merge the best-ranked pair, leftmost first, until none is left.</summary>
    private static Func<string, int[]> NaiveMerge(ByteLevelBpeTokenizer tokenizer)
    {
        using var folder = new Support.TempFolder();
        tokenizer.Save(folder.Path);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(folder.File("tokenizer.json")));
        JsonElement model = json.RootElement.GetProperty("model");
        Dictionary<string, int> ids = model.GetProperty("vocab").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt32());
        Dictionary<string, int> rank = model.GetProperty("merges").EnumerateArray().Select((m, i) => (m.GetString()!, i)).ToDictionary();
        return letters =>
        {
            List<string> parts = [.. letters.Select(c => c.ToString())];
            while (true)
            {
                int best = -1, bestRank = int.MaxValue;
                for (int i = 0; i + 1 < parts.Count; i++)
                {
                    if (rank.TryGetValue($"{parts[i]} {parts[i + 1]}", out int r) && r < bestRank)
                        (best, bestRank) = (i, r);
                }
                if (best < 0)
                    return [.. parts.Select(p => ids[p])];
                parts[best] += parts[best + 1];
                parts.RemoveAt(best + 1);
            }
        };
    }
}
