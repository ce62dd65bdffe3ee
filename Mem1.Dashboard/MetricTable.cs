// Keeps: one row per update in ascending order; a resume that does updates again replaces them; bounded, and what falls out is counted.
using System.Text.Json;

namespace Mem1.Dashboard;

/// <summary>All lines of metrics.jsonl, column by column. Not thread-safe: <see cref="RunModel"/> locks.</summary>
internal sealed class MetricTable
{
    // Ten days of updates of 10 s; 60 columns of it take 45 MB.
    public const int Capacity = 100_000;

    // A histogram over versions is as long as the bound on staleness; a longer array is no histogram that anybody looks at.
    private const int MaxBins = 32;

    private readonly List<long> _updates = [];
    private readonly Dictionary<string, List<double>> _columns = new(StringComparer.Ordinal);

    public int Count => _updates.Count;

    public long Last => _updates.Count == 0 ? 0 : _updates[^1];

    public long Dropped { get; private set; }

    public IReadOnlyList<long> Updates => _updates;

    public IEnumerable<string> Names => _columns.Keys;

    /// <summary>Values of a metric, one per update, NaN where it is missing; null for a metric that never came.</summary>
    public IReadOnlyList<double>? this[string name] => _columns.GetValueOrDefault(name);

    /// <summary>Takes a line.</summary>
    /// <returns>The row, or null if the line is not one of metrics.jsonl.</returns>
    public IReadOnlyDictionary<string, double>? Add(string line)
    {
        var row = new Dictionary<string, double>(StringComparer.Ordinal);
        try
        {
            using var json = JsonDocument.Parse(line);
            if (json.RootElement.ValueKind != JsonValueKind.Object) return null;
            Flatten(json.RootElement, "", row);
        }
        catch (JsonException)
        {
            return null; // a line cut off by a crash
        }

        if (!row.Remove("update", out var number) || !double.IsFinite(number)) return null;
        var update = (long)number;
        while (_updates.Count > 0 && _updates[^1] >= update) RemoveAt(_updates.Count - 1);
        if (_updates.Count == Capacity)
        {
            RemoveAt(0);
            Dropped++;
        }

        foreach (var name in row.Keys.Where(n => !_columns.ContainsKey(n)))
            _columns.Add(name, [.. Enumerable.Repeat(double.NaN, _updates.Count)]);
        _updates.Add(update);
        foreach (var (name, values) in _columns) values.Add(row.GetValueOrDefault(name, double.NaN));
        row["update"] = update;
        return row;
    }

    public void Clear()
    {
        _updates.Clear();
        _columns.Clear();
    }

    /// <summary>Index of the first row after an update.</summary>
    public int After(long update)
    {
        var at = _updates.BinarySearch(update);
        return at >= 0 ? at + 1 : ~at;
    }

    // Parts of the reward and the like are objects, histograms are arrays: their numbers are columns of their own, as in reward.outcome
    // and staleness_tokens.0.
    private static void Flatten(JsonElement of, string prefix, Dictionary<string, double> row)
    {
        void Bins(JsonElement bins, string name)
        {
            var i = 0;
            foreach (var bin in bins.EnumerateArray())
            {
                if (bin.ValueKind == JsonValueKind.Number) row[$"{name}.{i}"] = bin.GetDouble();
                i++;
            }
        }

        foreach (var property in of.EnumerateObject())
        {
            var name = prefix + property.Name;
            if (property.Value.ValueKind == JsonValueKind.Number) row[name] = property.Value.GetDouble();
            else if (property.Value.ValueKind == JsonValueKind.Null) row[name] = double.NaN;
            else if (property.Value.ValueKind == JsonValueKind.Object && prefix.Length == 0) Flatten(property.Value, name + ".", row);
            else if (property.Value.ValueKind == JsonValueKind.Array && prefix.Length == 0 && property.Value.GetArrayLength() <= MaxBins)
                Bins(property.Value, name);
        }
    }

    private void RemoveAt(int index)
    {
        _updates.RemoveAt(index);
        foreach (var values in _columns.Values) values.RemoveAt(index);
    }
}
