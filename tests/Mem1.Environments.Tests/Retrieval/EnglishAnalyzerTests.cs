using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests.Retrieval;

public sealed class EnglishAnalyzerTests
{
    private static string Terms(string text)
    {
        var analyzer = new EnglishAnalyzer();
        analyzer.Reset(text);
        List<string> terms = [];
        while (analyzer.Next())
            terms.Add((analyzer.IsStopWord ? "-" : "") + analyzer.Term.ToString());
        return string.Join(' ', terms);
    }

    [Theory]
    [InlineData("Women's T-Shirts, 6.5\" wide!", "women t shirt 6.5 wide")]
    [InlineData("wi-fi USB3.0 3.5mm & co.", "wi fi usb3.0 3.5mm co")]
    [InlineData("The U.S.A. of 1,000 easy_clean __ o'clock", "-the u.s.a -of 1,000 easy_clean o'clock")]
    [InlineData("don’t Beyoncé’s CAFÉ Đà Nẵng naïve", "don’t beyonc cafe da nang naiv")]
    [InlineData("東京 タワー 10x12", "東 京 タワー 10x12")]
    [InlineData("a\u0301 e\u0301t", "-a et")]
    [InlineData(" .,;:'_ \uD800 \0", "")]
    public void ReadsTermsAsLuceneDoes(string text, string expected) => Assert.Equal(expected, Terms(text));

    /// <summary>The examples of the article, rule by rule, as stems of the whole algorithm.</summary>
    [Theory]
    [InlineData("caresses ponies ties caress cats", "caress poni ti caress cat")]
    [InlineData("feed agreed plastered bled motoring sing", "feed agre plaster bled motor sing")]
    [InlineData("conflated troubled sized hopping tanned falling hissing fizzed failing filing", "conflat troubl size hop tan fall hiss fizz fail file")]
    [InlineData("happy sky relational conditional rational valenci digitizer", "happi sky relat condit ration valenc digit")]
    [InlineData("radicalli differentli vileli analogousli vietnamization predication operator", "radic differ vile analog vietnam predic oper")]
    [InlineData("feudalism decisiveness hopefulness callousness formaliti sensitiviti sensibiliti", "feudal decis hope callous formal sensit sensibl")]
    [InlineData("triplicate formative formalize electriciti electrical hopeful goodness", "triplic form formal electr electr hope good")]
    [InlineData("revival allowance inference airliner gyroscopic adjustable defensible irritant", "reviv allow infer airlin gyroscop adjust defens irrit")]
    [InlineData("replacement adjustment dependent adoption homologou communism activate", "replac adjust depend adopt homolog commun activ")]
    [InlineData("angulariti homologous effective bowdlerize probate rate cease controll roll", "angular homolog effect bowdler probat rate ceas control roll")]
    [InlineData("generalizations oscillators archaeology possibly yyyy sss", "gener oscil archaeolog possibl yyyi sss")]
    public void StemsAsPorterDoes(string words, string stems) => Assert.Equal(stems, Terms(words));

    [Fact]
    public void AnyTextGivesSoundTerms()
    {
        var random = new Random(5);
        var analyzer = new EnglishAnalyzer();
        string alphabet = "aeiouyylsstzbdnging..''_-:,;’é́東ア1 2\uD83D\uDE00\uD800ÀŁ";
        for (int i = 0; i < 50_000; i++)
        {
            char[] text = new char[random.Next(i % 100 == 0 ? 2000 : 30)];
            for (int j = 0; j < text.Length; j++)
                text[j] = random.Next(8) == 0 ? (char)random.Next(0x10000) : alphabet[random.Next(alphabet.Length)];
            analyzer.Reset(new string(text));
            while (analyzer.Next())
            {
                Assert.InRange(analyzer.Term.Length, 1, 257);
                Assert.True(System.Text.Unicode.Utf8.FromUtf16(analyzer.Term, new byte[1024], out _, out _, false) == System.Buffers.OperationStatus.Done);
            }
        }
    }
}
