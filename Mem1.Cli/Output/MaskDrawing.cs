// Keeps: what is drawn is what LayoutSequence answers, pair by pair; runs of tokens are only summarised where every pair agrees.
using System.Globalization;
using System.Net;
using Mem1.Learner;

namespace Mem1.Cli.Output;

/// <summary>Draws who sees whom in a laid-out trajectory, as SVG.</summary>
internal static class MaskDrawing
{
    // Fits a screen; a long episode's tokens become thinner than a pixel, which a vector image can take.
    private const double Side = 720;

    private const double Left = 150, Top = 60, Margin = 20, LabelSize = 11;

    // A label needs about this much room; where runs are thinner every so many are left out.
    private const double LabelRoom = 12;

    private static readonly string[] Colours = ["#6b7280", "#2563eb", "#d97706", "#059669"]; // prompt, state, action, information

    private static readonly string[] Names = ["prompt", "state", "action", "information"];

    /// <summary>The drawing.</summary>
    /// <param name="sequence">What to draw.</param>
    /// <param name="title">Above it.</param>
    public static string Draw(LayoutSequence sequence, string title)
    {
        var runs = Runs(sequence);
        var cell = Side / Math.Max(1, sequence.Tokens.Count);
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        double width = Left + Side + Margin, height = Top + Side + 60;
        Line($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:0} {height:0}\" font-family=\"sans-serif\"");
        Line($"  font-size=\"{LabelSize}\">");
        Line($"<rect width=\"100%\" height=\"100%\" fill=\"white\"/>");
        Line($"<text x=\"{Left}\" y=\"24\" font-size=\"14\">{WebUtility.HtmlEncode(title)}</text>");
        const string caption = "Each row is a token; coloured is what it attends to. The bar on the left is the loss mask.";
        Line($"<text x=\"{Left}\" y=\"44\" fill=\"#444\">{caption}</text>");
        Line($"<rect x=\"{Left}\" y=\"{Top}\" width=\"{Side}\" height=\"{Side}\" fill=\"#f3f4f6\"/>");
        foreach (var q in runs)
        {
            foreach (var k in runs.Where(k => k.From < q.To)) Block(q, k);
        }

        double lastLabel = double.MinValue;
        foreach (var run in runs)
        {
            var y = Top + (run.From * cell);
            Line($"<path d=\"M{Left} {y:0.##}h{Side}M{X(run.From):0.##} {Top}v{Side}\" stroke=\"white\" stroke-width=\"0.5\"/>");
            if (sequence.Tokens[run.From].Loss)
                Line($"<rect x=\"{Left - 8}\" y=\"{y:0.##}\" width=\"5\" height=\"{(run.To - run.From) * cell:0.##}\" fill=\"#dc2626\"/>");
            var middle = y + ((run.To - run.From) * cell / 2) + (LabelSize / 3);
            if (middle - lastLabel < LabelRoom) continue;
            lastLabel = middle;
            Line($"<text x=\"{Left - 12}\" y=\"{middle:0.##}\" text-anchor=\"end\">{Label(sequence.Tokens[run.From])}</text>");
        }

        var x = Left;
        for (var i = 0; i < Names.Length; i++, x += 110)
        {
            Line($"<rect x=\"{x}\" y=\"{Top + Side + 18}\" width=\"12\" height=\"12\" fill=\"{Colours[i]}\"/>");
            Line($"<text x=\"{x + 17}\" y=\"{Top + Side + 28}\">{Names[i]}</text>");
        }

        Line($"<rect x=\"{x}\" y=\"{Top + Side + 18}\" width=\"5\" height=\"12\" fill=\"#dc2626\"/>");
        Line($"<text x=\"{x + 10}\" y=\"{Top + Side + 28}\">loss</text>");
        Line($"</svg>");
        return text.ToString();

        void Block((int From, int To) q, (int From, int To) k)
        {
            var colour = Colours[(int)sequence.Tokens[k.From].Kind];
            var seen = 0;
            for (var a = q.From; a < q.To; a++)
                for (var b = k.From; b < k.To; b++)
                    if (sequence.Sees(a, b)) seen++;
            if (seen == 0) return;
            int rows = q.To - q.From, columns = k.To - k.From;
            if (seen == rows * columns)
            {
                Rectangle(k.From, q.From, columns, rows, colour);
                return;
            }

            var causal = q == k && seen == rows * (rows + 1) / 2;
            for (var a = q.From; causal && a < q.To; a++) causal = sequence.Sees(a, k.From) && sequence.Sees(a, a);
            if (causal)
            {
                // A staircase; as a polygon it is one element however long the run.
                var points = new StringWriter(CultureInfo.InvariantCulture);
                points.Write(FormattableString.Invariant($"{X(q.From):0.##},{Y(q.From):0.##}"));
                for (var a = q.From; a < q.To; a++)
                    points.Write(FormattableString.Invariant($" {X(a + 1):0.##},{Y(a):0.##} {X(a + 1):0.##},{Y(a + 1):0.##}"));
                points.Write(FormattableString.Invariant($" {X(q.From):0.##},{Y(q.To):0.##}"));
                Line($"<polygon points=\"{points}\" fill=\"{colour}\"/>");
                return;
            }

            for (var a = q.From; a < q.To; a++)
            {
                for (var b = k.From; b < k.To; b++)
                {
                    var end = b;
                    while (end < k.To && sequence.Sees(a, end)) end++;
                    if (end > b) Rectangle(b, a, end - b, 1, colour);
                    b = Math.Max(b, end);
                }
            }
        }

        void Rectangle(int column, int row, int columns, int rows, string colour)
        {
            var size = FormattableString.Invariant($"width=\"{columns * cell:0.##}\" height=\"{rows * cell:0.##}\"");
            Line($"<rect x=\"{X(column):0.##}\" y=\"{Y(row):0.##}\" {size} fill=\"{colour}\"/>");
        }

        double X(int token) => Left + (token * cell);

        double Y(int token) => Top + (token * cell);
    }

    /// <summary>What a run of tokens is called: "turn 2 state", with "(copy)" where it is context read again.</summary>
    public static string Label(LayoutToken token) => token.Turn < 0
        ? Names[0]
        : $"{Names[(int)token.Kind]} {token.Turn - (token.Copy ? 1 : 0)}{(token.Copy ? $" in {token.Turn}" : "")}";

    /// <summary>Maximal runs of tokens of one kind, turn and loss.</summary>
    public static List<(int From, int To)> Runs(LayoutSequence sequence)
    {
        var runs = new List<(int From, int To)>();
        for (var i = 0; i < sequence.Tokens.Count; i++)
        {
            var token = sequence.Tokens[i];
            if (runs.Count > 0 && Alike(sequence.Tokens[i - 1], token)) runs[^1] = (runs[^1].From, i + 1);
            else runs.Add((i, i + 1));
        }

        return runs;

        static bool Alike(LayoutToken a, LayoutToken b) => (a.Kind, a.Turn, a.Copy, a.Loss) == (b.Kind, b.Turn, b.Copy, b.Loss);
    }
}
