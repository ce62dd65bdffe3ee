// Keeps: an unknown key is an error that names the line and the nearest known key; what is written can be read back to the same record.
using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;
using YamlDotNet.Serialization;
using YamlDotNet.Serialization.NamingConventions;
using YamlDotNet.Serialization.TypeInspectors;

namespace Mem1.Cli.Configuration;

/// <summary>Reads and writes <see cref="RunConfig"/> as YAML.</summary>
internal static class ConfigFile
{
    // A mix of environments lies six levels deep; the longest config has some thousand lines.
    private const int DeepestLevel = 32, MostCharacters = 1 << 20;

    private static readonly INamingConvention Naming = UnderscoredNamingConvention.Instance;

    /// <summary>Reads a config: a YAML file, then settings of the form key.sub=value on top, over the given defaults.</summary>
    /// <returns>The config, and the full names of the keys that the file or the settings gave.</returns>
    /// <exception cref="UserErrorException">The file is missing or malformed, or has unknown keys.</exception>
    public static (RunConfig Config, IReadOnlySet<string> Given) Load(string? path, IEnumerable<string> settings, RunConfig defaults)
    {
        var root = ToNode(defaults);
        var given = new HashSet<string>(StringComparer.Ordinal);
        if (path is not null) Merge(root, ParseNode(Read(path), path), typeof(RunConfig), "", path, given);
        foreach (var setting in settings) Merge(root, ParseSetting(setting), typeof(RunConfig), "", "--set", given);
        try
        {
            return (Deserialise(root), given);
        }
        catch (YamlException e)
        {
            throw new UserErrorException($"{path ?? "--set"}: {Innermost(e)}", e);
        }
    }

    /// <summary>Reads a config as it stands, without defaults other than the records' own.</summary>
    public static (RunConfig Config, IReadOnlySet<string> Given) Read(string path, IEnumerable<string> settings) =>
        Load(path, settings, new RunConfig());

    /// <summary>Reads a config that <see cref="Write"/> wrote.</summary>
    /// <exception cref="UserErrorException">It is malformed, or has unknown keys.</exception>
    public static RunConfig Parse(string yaml, string source)
    {
        var root = ToNode(new RunConfig());
        Merge(root, ParseNode(yaml, source), typeof(RunConfig), "", source, []);
        return Deserialise(root);
    }

    /// <summary>The config as YAML.</summary>
    public static string Write(RunConfig config)
    {
        var serializer = new SerializerBuilder().WithNamingConvention(Naming).WithEnumNamingConvention(Naming)
            .WithTypeInspector(inner => new WritableOnly(inner))
            .ConfigureDefaultValuesHandling(DefaultValuesHandling.OmitNull).DisableAliases().Build();
        return serializer.Serialize(config);
    }

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UserErrorException($"The config file {path} cannot be read ({e.Message}).", e);
        }
    }

    private static YamlMappingNode ParseNode(string text, string source)
    {
        try
        {
            RequireModest(text, source);
            var stream = new YamlStream();
            stream.Load(new StringReader(text));
            if (stream.Documents.Count == 0) return new YamlMappingNode();
            return stream.Documents[0].RootNode as YamlMappingNode
                ?? throw new UserErrorException($"{source} does not hold keys and values at its top level.");
        }
        catch (YamlException e)
        {
            throw new UserErrorException($"{source}, line {e.Start.Line}: {Innermost(e)}", e);
        }
    }

    /// <summary>
    /// Refuses what would take the reader much more than it is long: it goes down a level for every level of the file, and writes an anchor's
    /// content again wherever it is named.
    /// </summary>
    private static void RequireModest(string text, string source)
    {
        if (text.Length > MostCharacters) throw new UserErrorException($"{source} has more than {MostCharacters} characters; that is no config.");
        var parser = new Parser(new StringReader(text));
        var depth = 0;
        while (parser.MoveNext())
        {
            switch (parser.Current)
            {
                case AnchorAlias alias:
                    throw new UserErrorException($"{source}, line {alias.Start.Line}: anchors and aliases are not read; write the value out.");
                case MappingStart or SequenceStart when ++depth > DeepestLevel:
                    throw new UserErrorException(
                        $"{source}, line {parser.Current!.Start.Line}: keys lie more than {DeepestLevel} levels deep; no setting does.");
                case MappingEnd or SequenceEnd:
                    depth--;
                    break;
            }
        }
    }

    private static YamlMappingNode ParseSetting(string setting)
    {
        var equals = setting.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0) throw new UserErrorException($"--set {setting} is not of the form key=value (for example --set ppo.clip=0.1).");
        YamlNode value = ParseNode($"v: {setting[(equals + 1)..]}", $"--set {setting}")["v"];
        foreach (var key in setting[..equals].Split('.').Reverse()) value = new YamlMappingNode(new YamlScalarNode(key), value);
        return (YamlMappingNode)value;
    }

    private static YamlMappingNode ToNode(RunConfig config) => ParseNode(Write(config), "defaults");

    private static void Merge(YamlMappingNode into, YamlMappingNode from, Type type, string prefix, string source, HashSet<string> given)
    {
        var known = type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.CanWrite)
            .ToDictionary(p => Naming.Apply(p.Name), p => p.PropertyType, StringComparer.Ordinal);
        foreach (var (keyNode, value) in from.Children)
        {
            var key = (keyNode as YamlScalarNode)?.Value ?? "";
            var where = keyNode.Start.Line > 0 && source != "--set" ? $"{source}, line {keyNode.Start.Line}" : source;
            if (!known.TryGetValue(key, out var propertyType))
            {
                var nearest = known.Keys.MinBy(k => EditDistance.Of(k, key))!;
                throw new UserErrorException($"{where}: there is no key \"{prefix}{key}\"; did you mean \"{prefix}{nearest}\"?");
            }

            var section = propertyType.IsClass && propertyType != typeof(string) && !typeof(IEnumerable).IsAssignableFrom(propertyType);
            if (section)
            {
                if (value is not YamlMappingNode map)
                    throw new UserErrorException($"{where}: \"{prefix}{key}\" must hold keys and values.");
                if (!into.Children.TryGetValue(keyNode, out var existing) || existing is not YamlMappingNode target)
                    into.Children[new YamlScalarNode(key)] = target = new YamlMappingNode();
                Merge(target, map, propertyType, $"{prefix}{key}.", source, given);
                continue;
            }

            given.Add($"{prefix}{key}");
            if (SectionOfList(propertyType) is { } item)
            {
                into.Children[new YamlScalarNode(key)] = Sections(value, item, $"{prefix}{key}", where, source);
                continue;
            }

            CheckScalar(value, propertyType, $"{prefix}{key}", where);
            into.Children[new YamlScalarNode(key)] = value;
        }
    }

    /// <summary>The record of a list of records; null for any other type.</summary>
    private static Type? SectionOfList(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>) && type.GetGenericArguments()[0] is var item
        && item.IsClass && item != typeof(string) ? item : null;

    private static YamlSequenceNode Sections(YamlNode value, Type item, string key, string where, string source)
    {
        if (value is not YamlSequenceNode list || !list.All(i => i is YamlMappingNode))
            throw new UserErrorException($"{where}: \"{key}\" must be a list whose items hold keys and values, as in [{{from_update: 1}}].");
        return new YamlSequenceNode(list.Select((node, i) =>
        {
            var section = new YamlMappingNode();
            Merge(section, (YamlMappingNode)node, item, $"{key}[{i}].", source, []);
            return section;
        }));
    }

    private static void CheckScalar(YamlNode value, Type type, string key, string where)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (typeof(IEnumerable).IsAssignableFrom(type) && type != typeof(string))
        {
            if (value is not YamlSequenceNode list)
                throw new UserErrorException($"{where}: \"{key}\" must be a list, as in [1, 2, 4].");
            foreach (var item in list) CheckScalar(item, type.GetGenericArguments().FirstOrDefault() ?? typeof(string), key, where);
            return;
        }

        if (value is not YamlScalarNode { Value: { } text })
            throw new UserErrorException($"{where}: \"{key}\" must be a single value.");
        var ok = type switch
        {
            _ when type == typeof(int) => int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out _),
            _ when type == typeof(ulong) => ulong.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out _),
            _ when type == typeof(double) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture,
                out var d) && double.IsFinite(d),
            _ when type == typeof(bool) => text is "true" or "false",
            _ when type == typeof(TimeSpan) => TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out _),
            _ when type.IsEnum => Enum.GetNames(type).Select(Naming.Apply).Contains(text, StringComparer.Ordinal),
            _ => true,
        };
        if (ok) return;
        var expected = type switch
        {
            _ when type == typeof(int) => "a whole number",
            _ when type == typeof(ulong) => "a whole number that is not negative",
            _ when type == typeof(double) => "a number",
            _ when type == typeof(bool) => "true or false",
            _ when type == typeof(TimeSpan) => "a time as hh:mm:ss",
            _ when type.IsEnum => string.Join(" or ", Enum.GetNames(type).Select(Naming.Apply)),
            _ => type.Name,
        };
        throw new UserErrorException($"{where}: \"{key}\" is \"{text}\"; it must be {expected}.");
    }

    private static RunConfig Deserialise(YamlMappingNode root)
    {
        var text = new StringBuilder();
        using (var writer = new StringWriter(text, CultureInfo.InvariantCulture))
            new YamlStream(new YamlDocument(root)).Save(writer, assignAnchors: false);
        return new DeserializerBuilder().WithNamingConvention(Naming).WithEnumNamingConvention(Naming)
            .WithTypeMapping<IReadOnlyList<int>, List<int>>().WithTypeMapping<IReadOnlyList<string>, List<string>>()
            .WithTypeMapping<IReadOnlyList<EnvironmentConfig>, List<EnvironmentConfig>>()
            .WithTypeMapping<IReadOnlyList<CurriculumStage>, List<CurriculumStage>>().Build().Deserialize<RunConfig>(text.ToString());
    }

    private static string Innermost(Exception e)
    {
        while (e.InnerException is { } inner) e = inner;
        return e.Message;
    }

    /// <summary>Leaves out properties that follow from others.</summary>
    private sealed class WritableOnly(ITypeInspector inner) : TypeInspectorSkeleton
    {
        public override IEnumerable<IPropertyDescriptor> GetProperties(Type type, object? container) =>
            inner.GetProperties(type, container).Where(p => p.CanWrite);

        public override string GetEnumName(Type enumType, string name) => inner.GetEnumName(enumType, name);

        public override string GetEnumValue(object enumValue) => inner.GetEnumValue(enumValue);
    }
}
