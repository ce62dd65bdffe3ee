// No plotting library is on the feeds this is built from; a line chart of two panels needs about a hundred lines of SVG.
using System.Globalization;
using System.Security;
using System.Text;

namespace Mem1.Cli.Output;

/// <summary>One line of a chart.</summary>
/// <param name="Name">Shown in the legend.</param>
/// <param name="Points">x ascending; y finite.</param>
internal sealed record Series(string Name, IReadOnlyList<(double X, double Y)> Points);

/// <summary>One panel: series over a shared x axis.</summary>
internal sealed record Panel(string Title, string XLabel, string YLabel, double MinY, double MaxY, IReadOnlyList<Series> Series);

/// <summary>Draws panels one under the other as a stand-alone SVG that reads well in light and dark viewers.</summary>
internal static class LinePlot
{
    // Okabe and Ito's palette: told apart by readers with any colour vision.
    private static readonly string[] Colours =
        ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f"];

    private const double Width = 760, PanelHeight = 300, Left = 64, Right = 130, Top = 40, Bottom = 44;

    public static string Draw(IReadOnlyList<Panel> panels)
    {
        var svg = new StringBuilder();
        var height = panels.Count * PanelHeight;
        svg.Append(CultureInfo.InvariantCulture, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{height}\" ")
            .Append(CultureInfo.InvariantCulture, $"viewBox=\"0 0 {Width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n")
            .Append("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
        for (var i = 0; i < panels.Count; i++) DrawPanel(svg, panels[i], i * PanelHeight);
        return svg.Append("</svg>\n").ToString();
    }

    private static void DrawPanel(StringBuilder svg, Panel panel, double y0)
    {
        var points = panel.Series.SelectMany(s => s.Points).ToList();
        double minX = points.Count == 0 ? 0 : points.Min(p => p.X), maxX = points.Count == 0 ? 1 : points.Max(p => p.X);
        if (maxX <= minX) maxX = minX + 1;
        double X(double x) => Left + ((x - minX) / (maxX - minX) * (Width - Left - Right));
        double Y(double y) =>
            y0 + Top + ((panel.MaxY - Math.Clamp(y, panel.MinY, panel.MaxY)) / (panel.MaxY - panel.MinY) * (PanelHeight - Top - Bottom));

        Text(svg, Left, y0 + 24, panel.Title, "start", "font-weight=\"bold\" font-size=\"14\"");
        for (var k = 0; k <= 5; k++)
        {
            var value = panel.MinY + ((panel.MaxY - panel.MinY) * k / 5);
            Line(svg, Left, Y(value), Width - Right, Y(value), "#dddddd");
            Text(svg, Left - 8, Y(value) + 4, value.ToString("0.##", CultureInfo.InvariantCulture), "end");
        }

        var step = Math.Max(1, Math.Ceiling((maxX - minX) / 6)); // x counts updates: whole numbers, each once
        for (var x = minX; x <= maxX; x += step)
            Text(svg, X(x), y0 + PanelHeight - Bottom + 18, x.ToString("0", CultureInfo.InvariantCulture), "middle");

        Line(svg, Left, y0 + PanelHeight - Bottom, Width - Right, y0 + PanelHeight - Bottom, "#333333");
        Text(svg, (Left + Width - Right) / 2, y0 + PanelHeight - 8, panel.XLabel, "middle");
        Text(svg, 14, y0 + (PanelHeight / 2), panel.YLabel, "middle",
            string.Create(CultureInfo.InvariantCulture, $"transform=\"rotate(-90 14 {y0 + (PanelHeight / 2):0.#})\""));
        for (var s = 0; s < panel.Series.Count; s++)
        {
            var colour = Colours[s % Colours.Length];
            var path = string.Join(' ', panel.Series[s].Points.Select(p =>
                string.Create(CultureInfo.InvariantCulture, $"{X(p.X):0.#},{Y(p.Y):0.#}")));
            svg.Append(CultureInfo.InvariantCulture,
                $"<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{(s == 0 ? 2 : 1.5)}\" points=\"{path}\"/>\n");
            if (panel.Series[s].Points.Count == 1) // a line of one point would not show
            {
                var (x, y) = panel.Series[s].Points[0];
                svg.Append(CultureInfo.InvariantCulture, $"<circle cx=\"{X(x):0.#}\" cy=\"{Y(y):0.#}\" r=\"3\" fill=\"{colour}\"/>\n");
            }

            var legendY = y0 + Top + 8 + (s * 18);
            Line(svg, Width - Right + 12, legendY - 4, Width - Right + 32, legendY - 4, colour);
            Text(svg, Width - Right + 38, legendY, panel.Series[s].Name, "start");
        }
    }

    private static void Line(StringBuilder svg, double x1, double y1, double x2, double y2, string colour) =>
        svg.Append(CultureInfo.InvariantCulture,
            $"<line x1=\"{x1:0.#}\" y1=\"{y1:0.#}\" x2=\"{x2:0.#}\" y2=\"{y2:0.#}\" stroke=\"{colour}\"/>\n");

    private static void Text(StringBuilder svg, double x, double y, string text, string anchor, string attributes = "") =>
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{x:0.#}\" y=\"{y:0.#}\" text-anchor=\"{anchor}\" {attributes}>")
            .Append(SecurityElement.Escape(text)).Append("</text>\n");
}
