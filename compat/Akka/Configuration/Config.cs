// Read-only settings by dotted path. WithFallback merges: what is here wins, objects merge key by key.
using System.Globalization;

namespace Akka.Configuration;

public class Config
{
    public static readonly Config Empty = new([]);

    private readonly Dictionary<string, object> _root;

    internal Config(Dictionary<string, object> root) => _root = root;

    public virtual bool IsEmpty => _root.Count == 0;

    public static implicit operator Config(string str) => ConfigurationFactory.ParseString(str);

    public virtual bool HasPath(string path) => Node(path) is not null;

    public virtual string GetString(string path, string @default = null) => Node(path) is string text ? text : @default;

    public virtual int GetInt(string path, int @default = 0) =>
        Number(path, @default, text => int.Parse(text, CultureInfo.InvariantCulture));

    public virtual long GetLong(string path, long @default = 0) =>
        Number(path, @default, text => long.Parse(text, CultureInfo.InvariantCulture));

    public virtual double GetDouble(string path, double @default = 0) =>
        Number(path, @default, text => double.Parse(text, CultureInfo.InvariantCulture));

    public virtual bool GetBoolean(string path, bool @default = false) => GetString(path) switch
    {
        null => @default,
        "on" or "true" or "yes" => true,
        "off" or "false" or "no" => false,
        var other => throw new ConfigurationException($"{path} is [{other}]; it must be on or off."),
    };

    public virtual IList<string> GetStringList(string path) => Node(path) switch
    {
        List<object> items => items.Select(item => item as string
            ?? throw new ConfigurationException($"{path} holds something else than text.")).ToList(),
        null => [],
        _ => throw new ConfigurationException($"{path} must be a list."),
    };

    public virtual Config GetConfig(string path) => Node(path) is Dictionary<string, object> inside ? new Config(inside) : Empty;

    public virtual TimeSpan GetTimeSpan(string path, TimeSpan? @default = null, bool allowInfinite = true)
    {
        if (GetString(path) is not { } text)
        {
            return @default.GetValueOrDefault();
        }

        text = text.Trim();
        if (allowInfinite && text.Equals("infinite", StringComparison.OrdinalIgnoreCase))
        {
            return Timeout.InfiniteTimeSpan;
        }

        var digits = text.AsSpan().IndexOfAnyExcept("+-.0123456789");
        var unit = digits < 0 ? "ms" : text[digits..].Trim();
        double? factor = unit switch
        {
            "ms" or "millis" or "milliseconds" or "milli" or "millisecond" => 1,
            "s" or "second" or "seconds" => 1e3,
            "m" or "minute" or "minutes" => 60e3,
            "h" or "hour" or "hours" => 3_600e3,
            "d" or "day" or "days" => 86_400e3,
            "us" or "micros" or "microseconds" or "micro" or "microsecond" => 1e-3,
            "ns" or "nanos" or "nanoseconds" or "nano" or "nanosecond" => 1e-6,
            _ => null,
        };
        var number = digits < 0 ? text : text[..digits];
        return factor is { } perUnit && double.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out var value)
            ? TimeSpan.FromTicks((long)Math.Round(value * perUnit * TimeSpan.TicksPerMillisecond))
            : throw new ConfigurationException($"{path} is [{text}]; it must be a duration such as 500ms, 10s or 2 m.");
    }

    public virtual Config WithFallback(Config fallback)
    {
        if (fallback is null || fallback.IsEmpty || ReferenceEquals(fallback, this))
        {
            return this;
        }

        var merged = Copy(fallback._root);
        foreach (var (key, value) in Copy(_root))
        {
            HoconParser.Merge(merged, key, value);
        }

        return new Config(merged);
    }

    /// <summary>A size such as 128000b, 256kB (1000s) or 1MiB (1024s); a bare number is bytes.</summary>
    public virtual long? GetByteSize(string path)
    {
        if (GetString(path)?.Trim() is not { } text)
        {
            return null;
        }

        var digits = text.AsSpan().IndexOfAnyExcept("0123456789");
        var number = digits < 0 ? text : text[..digits];
        long factor = (digits < 0 ? "b" : text[digits..].Trim()) switch
        {
            "b" or "B" or "byte" or "bytes" => 1,
            "kB" or "kilobyte" or "kilobytes" => 1000,
            "MB" or "megabyte" or "megabytes" => 1000 * 1000,
            "K" or "k" or "Ki" or "KiB" or "kibibyte" or "kibibytes" => 1024,
            "M" or "m" or "Mi" or "MiB" or "mebibyte" or "mebibytes" => 1024 * 1024,
            _ => 0,
        };
        return factor != 0 && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var value)
            ? value * factor
            : throw new ConfigurationException($"{path} is [{text}]; it must be a size such as 128000b, 256kB or 1MiB.");
    }

    internal IEnumerable<string> KeysOf(string path) => Node(path) is Dictionary<string, object> inside ? inside.Keys.ToArray() : [];

    private static Dictionary<string, object> Copy(Dictionary<string, object> node) =>
        node.ToDictionary(pair => pair.Key, pair => pair.Value is Dictionary<string, object> inside ? Copy(inside) : pair.Value);

    private T Number<T>(string path, T fallback, Func<string, T> parse)
    {
        if (GetString(path) is not { } text)
        {
            return fallback;
        }

        try
        {
            return parse(text.Trim());
        }
        catch (Exception error) when (error is FormatException or OverflowException)
        {
            throw new ConfigurationException($"{path} is [{text}]; it must be a number.", error);
        }
    }

    private object Node(string path) => HoconParser.Find(_root, HoconParser.SplitPath(path));
}

public class ConfigurationFactory
{
    public static Config Empty => Config.Empty;

    public static Config ParseString(string hocon) =>
        string.IsNullOrWhiteSpace(hocon) ? Config.Empty : new Config(HoconParser.Parse(hocon));

    public static Config Default() => Actor.Defaults.Config;
}
