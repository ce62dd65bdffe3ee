// The shop's parsers of foreign text against generated inputs, 200,000 in all: product and attribute files, responses and actions. Most
// inputs are sound ones with pieces cut, doubled or overwritten, because noise alone never gets past the first check.
using System.IO.Compression;
using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.WebShop;
using Xunit;

namespace Mem1.Environments.Tests.WebShop;

public sealed class ShopFuzzTests
{
    // A buffer of 64 KiB and some objects; a parser that takes more for some hundred bytes has no bound.
    private const long MaxAllocated = 4 << 20;

    private const string Products = """
        [{"asin": "B1", "name": "Oak Chair é \ud83d\ude00", "full_description": "Sits.", "small_description": ["a ", ""], "pricing": "$5.00 - $8.00",
          "category": "garden", "query": "chairs", "product_category": "Home › Chairs", "images": [],
          "customization_options": {"Size": [{"value": "3ft/1m", "image": null}], "Color": null, "Style": []}},
         {"asin": "B2", "name": "Oak Table", "pricing": [15.5], "small_description": "one", "customization_options": ""}]
        """;

    private const string Attributes = """
        {"B1": {"attributes": ["sturdy", "oak"], "instruction": "Find me sturdy chairs", "instruction_attributes": ["sturdy"]}, "B2": {}}
        """;

    private static readonly byte[][] s_pieces =
    [
        .. new[]
        {
            "{", "}", "[", "]", "\"", "\\", ",", ":", "\n", "\\ud800", "\"\\ud800\":", "null", "1e999", "-1", "\"asin\":", "\"B1\"", "\"pricing\":",
            "\"$1.2.3\"", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "true", "/",
        }.Select(Encoding.UTF8.GetBytes), [0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xEF, 0xBB, 0xBF], [0x1F, 0x8B], [0],
    ];

    [Theory]
    [InlineData(Products, false, 60_000)]
    [InlineData(Attributes, true, 40_000)]
    public void FilesEndInDataOrInOneError(string text, bool isObject, int inputs)
    {
        var random = new Random(inputs);
        byte[] sound = Encoding.UTF8.GetBytes(text);
        (int read, int refused) = (0, 0);
        for (int i = 0; i < inputs; i++)
        {
            byte[] input = i == 0 ? sound : Mutate(random, sound);
            if (random.Next(20) == 0 && input.Length > 0)
                input = Packed(random, input);
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var reader = new JsonEntryReader("file.x", DataStream.Of("file.x", input), "product file", isObject);
                if (isObject)
                {
                    using (reader)
                        ShopFiles.Attributes(reader);
                }
                else
                {
                    var maker = new ShopProductMaker(
                        new Dictionary<string, ShopAttributes>(), new Dictionary<string, IReadOnlyList<ShopWish>>(),
                        new Dictionary<string, IReadOnlyList<string>>());
                    foreach (ShopRecord record in ShopFiles.Records(reader))
                        maker.Make(record)?.SearchText();
                }
                read++;
            }
            catch (DataFormatException e)
            {
                Assert.StartsWith("file.x", e.Message);
                Assert.EndsWith(".", e.Message);
                refused++;
            }
            catch (Exception e) when (e is not Xunit.Sdk.IAssertionException)
            {
                Assert.Fail($"input {i} ({Convert.ToBase64String(input)}): {e}");
            }
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, MaxAllocated);
        }
        // The generator reaches both outcomes, or it tests nothing.
        Assert.InRange(read, inputs / 200, inputs);
        Assert.InRange(refused, inputs / 10, inputs);
    }

    [Fact]
    public void ResponsesAndActionsNeverThrow()
    {
        string[] sound =
        [
            WebShopText.Response("t", "s", "search[oak chair]"), WebShopText.Response("t", "s", "click[b0syn00001]"),
            WebShopText.Response("", "", "click[buy now]"), WebShopText.Response("<b>", "é", "click[next &gt;]"),
        ];
        var random = new Random(3);
        ShopGoals goals = Golden.Goals(false, 7);
        var session = new ShopSession(goals, 0, new ShopRules());
        (int valid, int acted) = (0, 0);
        for (int i = 0; i < 100_000; i++)
        {
            // What a tokenizer decodes may hold halves of surrogate pairs and U+FFFD.
            string text = Encoding.UTF8.GetString(Mutate(random, Encoding.UTF8.GetBytes(sound[random.Next(sound.Length)])));
            if (random.Next(4) == 0)
                text = text.Insert(random.Next(text.Length + 1), ((char)random.Next(0xD800, 0xE000)).ToString());
            string action = text;
            if (WebShopText.IsValid(text))
            {
                valid++;
                action = WebShopText.Action(text);
            }
            acted += ShopAction.Parse(action).Argument is null ? 0 : 1;
            WebShopText.IsOffered(action, session);
            // A search in the golden shop is cheap; a page of it is rendered now and then.
            session.Step(action);
            if (i % 16 == 0)
                Assert.NotEmpty(ShopPages.Render(session, ShopObservation.TextRich));
            if (session.Verdict is not null)
                session = new ShopSession(goals, random.Next(goals.Count), new ShopRules());
        }
        Assert.InRange(valid, 5_000, 95_000);
        Assert.InRange(acted, 5_000, 95_000);
    }

    [Fact]
    public void PackedFilesAreReadAndCutOnesRefusedWithTheirName()
    {
        using var folder = new TempFolder();
        byte[] packed = Gzip(Encoding.UTF8.GetBytes(Products));
        string attributes = folder.Write("ins.json", Attributes), products = folder.File("items.json.gz");
        var paths = new ShopFilePaths { Products = products, Attributes = attributes };
        File.WriteAllBytes(products, packed);
        Assert.Equal(2, ShopCatalogue.Load(paths).Count);
        foreach (int cut in (int[])[packed.Length - 1, packed.Length / 2, 12, 3])
        {
            File.WriteAllBytes(products, packed[..cut]);
            Assert.StartsWith(products, Assert.Throws<DataFormatException>(() => ShopCatalogue.Load(paths)).Message);
        }
        File.WriteAllBytes(products, [.. "[{\"asin\": \"B1\", \"name\": \""u8, 0xC3, 0x28, .. "\"}]"u8]);
        string message = Assert.Throws<DataFormatException>(() => ShopCatalogue.Load(paths)).Message;
        Assert.StartsWith(products, message);
        Assert.Contains("entr", message, StringComparison.Ordinal);
    }

    private static byte[] Mutate(Random random, byte[] sound)
    {
        var bytes = new List<byte>(sound);
        for (int k = random.Next(0, 4); k > 0; k--)
        {
            int at = random.Next(bytes.Count + 1), length = Math.Min(random.Next(1, 30), bytes.Count - at);
            switch (random.Next(5))
            {
                case 0:
                    bytes.RemoveRange(at, length);
                    break;
                case 1:
                    bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, length));
                    break;
                case 2 when at < bytes.Count:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 3 when random.Next(3) == 0:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                default:
                    bytes.InsertRange(at, s_pieces[random.Next(s_pieces.Length)]);
                    break;
            }
        }
        return [.. bytes];
    }

    private static byte[] Packed(Random random, byte[] input)
    {
        byte[] packed = Gzip(input);
        switch (random.Next(3))
        {
            case 0:
                return packed;
            case 1:
                return packed[..random.Next(packed.Length)];
            default:
                packed[random.Next(packed.Length)] ^= (byte)random.Next(1, 256);
                return packed;
        }
    }

    private static byte[] Gzip(byte[] input)
    {
        using var memory = new MemoryStream();
        using (var gzip = new GZipStream(memory, CompressionLevel.Fastest))
            gzip.Write(input);
        return memory.ToArray();
    }
}
