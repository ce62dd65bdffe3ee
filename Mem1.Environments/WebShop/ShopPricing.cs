// Invariants: numbers are the doubles the original computes; a drawn price or cap depends on nothing but the stream it is drawn from.

using System.Globalization;
using System.Text;

namespace Mem1.Environments.WebShop;

/// <summary>Prices of products and price caps of goals.</summary>
internal static class ShopPricing
{
    /// <summary>The cap of a goal without one: above every price.</summary>
    public const double NoCap = 1000000;

    // What a product without a price costs.
    private const double DefaultPrice = 100;

    // Caps are 10, 20, ..., 990; a goal's is drawn from the first four above the price.
    private const int CapStep = 10;
    private const int LastCap = 990;
    private const int CapCandidates = 4;

    /// <summary>
    /// Reads a price text such as "$1,299.00" or "$19.99 - $27.99": one price, or the first two of several. False when it is not one.
    /// </summary>
    public static bool TryParse(string? text, out IReadOnlyList<double> prices)
    {
        prices = [DefaultPrice];
        if (string.IsNullOrEmpty(text))
            return true;
        string[] parts = text.Split('$');
        var found = new List<double>();
        foreach (string part in parts.Skip(1))
        {
            var digits = new StringBuilder();
            foreach (char c in part)
            {
                if (c == '.')
                    digits.Append(c);
                else if (CharUnicodeInfo.GetDecimalDigitValue(c) is var digit && digit >= 0)
                    digits.Append((char)('0' + digit));
            }
            if (!double.TryParse(digits.ToString(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value)
                || !double.IsFinite(value))
            {
                return false;
            }
            found.Add(value);
        }
        if (found.Count == 0)
            return false;
        prices = found.Count > 2 ? found[..2] : found;
        return true;
    }

    /// <summary>How a page shows a product's price.</summary>
    public static string Text(IReadOnlyList<double> prices) => prices.Count == 1
        ? $"${PythonText.Float(prices[0])}"
        : $"${PythonText.Float(prices[0])} to ${PythonText.Float(prices[1])}";

    /// <summary>The price that counts: of a range, one point is drawn.</summary>
    public static double Draw(IReadOnlyList<double> prices, MersenneTwister random) =>
        prices.Count == 1 ? prices[0] : random.Uniform(prices[0], prices[1]);

    /// <summary>The caps a goal on a product of this price may get, ascending; fewer than two mean that it gets none.</summary>
    public static double[] Candidates(double price)
    {
        var caps = new List<double>(CapCandidates);
        for (int cap = CapStep; cap <= LastCap && caps.Count < CapCandidates; cap += CapStep)
        {
            if (cap > price)
                caps.Add(cap);
        }
        return [.. caps];
    }

    /// <summary>Draws a cap: the larger of two candidates.</summary>
    public static double DrawCap(double price, MersenneTwister random)
    {
        double[] candidates = Candidates(price);
        if (candidates.Length < 2)
            return NoCap;
        (double first, double second) = random.SampleTwo<double>(candidates);
        return Math.Max(first, second);
    }

    /// <summary>How an instruction states its cap; empty without one.</summary>
    public static string CapText(double cap) =>
        cap == NoCap ? "" : string.Create(CultureInfo.InvariantCulture, $", and price lower than {cap:F2} dollars");
}
