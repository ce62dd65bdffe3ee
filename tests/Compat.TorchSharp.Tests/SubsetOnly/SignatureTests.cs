// Every public member of the subset must exist in the real package with the same signature: names of parameters, order and default values
// included, because named arguments are part of source compatibility. data/torchsharp-0.107-signatures.txt lists the real ones.
using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using TorchSharp;

namespace Compat.TorchSharp.Tests;

public sealed partial class SignatureTests
{
    // Members the compiler, object or an interface brings along, and members whose type the listing leaves out.
    private static readonly string[] Unlisted = ["Equals", "GetHashCode", "GetType", "ToString", "Finalize", "System."];

    [Fact]
    public void Every_public_member_of_the_subset_is_a_member_of_TorchSharp()
    {
        Dictionary<string, HashSet<string>> real = ReadListing();
        var extra = new List<string>();
        int compared = 0;
        foreach (Type type in typeof(torch).Assembly.GetExportedTypes())
        {
            if (!real.TryGetValue(NameInListing(type), out HashSet<string>? members) || type.IsEnum) continue;
            foreach (string member in Members(type))
            {
                compared++;
                if (!members.Contains(Normalise(member))) extra.Add($"{NameInListing(type)}: {member}");
            }
        }

        Assert.True(compared > 500, $"only {compared} members were compared");
        Assert.True(extra.Count == 0, $"{extra.Count} of {compared} members are not in TorchSharp:\n{string.Join('\n', extra)}");
    }

    private static Dictionary<string, HashSet<string>> ReadListing()
    {
        var listing = new Dictionary<string, HashSet<string>>();
        HashSet<string> current = [];
        foreach (string line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "data", "torchsharp-0.107-signatures.txt")))
        {
            if (line.StartsWith("## ", StringComparison.Ordinal)) listing[line.Split(' ')[1]] = current = [];
            else if (line.StartsWith("  ", StringComparison.Ordinal)) current.Add(Normalise(line));
        }
        return listing;
    }

    private static string NameInListing(Type type) => type.FullName!.Replace('+', '.');

    // Reference nullability is not listed reliably, modifiers of inheritance do not matter to callers, names of tuple elements are lost.
    private static string Normalise(string line)
    {
        string text = Modifiers().Replace(line.Trim(), "");
        foreach (string noise in (string[])["?", "@", " "]) text = text.Replace(noise, "", StringComparison.Ordinal);
        return text;
    }

    [GeneratedRegex(@"\b(virtual|override|abstract|sealed|readonly|const)\b")]
    private static partial Regex Modifiers();

    private static IEnumerable<string> Members(Type type)
    {
        const BindingFlags declared = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        foreach (FieldInfo f in type.GetFields(declared)) yield return $"{(f.IsStatic ? "static " : "")}{Name(f.FieldType)} {f.Name}";
        foreach (ConstructorInfo c in type.GetConstructors(declared)) yield return $"ctor({Parameters(c)})";
        foreach (PropertyInfo p in type.GetProperties(declared))
        {
            bool isStatic = p.GetAccessors(true)[0].IsStatic;
            string accessors = (p.GetGetMethod() is null ? "" : "get; ") + (p.GetSetMethod() is null ? "" : "set; ");
            string name = p.GetIndexParameters().Length == 0 ? p.Name : $"this[{Parameters(p.GetIndexParameters(), false)}]";
            yield return $"{(isStatic ? "static " : "")}{Name(p.PropertyType)} {name} {{ {accessors}}}";
        }
        foreach (MethodInfo m in type.GetMethods(declared))
        {
            if ((m.IsSpecialName && !m.Name.StartsWith("op_", StringComparison.Ordinal)) || Unlisted.Any(m.Name.StartsWith)) continue;
            string generic = m.IsGenericMethod ? $"<{string.Join(",", m.GetGenericArguments().Select(a => a.Name))}>" : "";
            yield return $"{(m.IsStatic ? "static " : "")}{Name(m.ReturnType)} {m.Name}{generic}({Parameters(m)})";
        }
    }

    private static string Parameters(MethodBase method) =>
        Parameters(method.GetParameters(), method.IsDefined(typeof(ExtensionAttribute), false));

    private static string Parameters(ParameterInfo[] parameters, bool extension) => string.Join(", ", parameters.Select((p, k) =>
    {
        var text = new StringBuilder();
        if (extension && k == 0) text.Append("this ");
        if (p.IsDefined(typeof(ParamArrayAttribute), false)) text.Append("params ");
        text.Append(Name(p.ParameterType)).Append(' ').Append(p.Name);
        if (p.HasDefaultValue) text.Append(" = ").Append(Default(p));
        return text.ToString();
    }));

    private static string Default(ParameterInfo p)
    {
        object? value = p.DefaultValue;
        Type type = Nullable.GetUnderlyingType(p.ParameterType) ?? p.ParameterType;
        if (value is null) return p.ParameterType.IsValueType && Nullable.GetUnderlyingType(p.ParameterType) is null ? "default" : "null";
        if (type.IsEnum) return Enum.ToObject(type, value).ToString()!;
        return value switch
        {
            bool b => b ? "true" : "false",
            string s => $"\"{s}\"",
            IFormattable f => f.ToString(null, CultureInfo.InvariantCulture),
            _ => value.ToString()!,
        };
    }

    private static string Name(Type t)
    {
        if (t.IsByRef) return "ref " + Name(t.GetElementType()!);
        if (t.IsArray) return $"{Name(t.GetElementType()!)}[{new string(',', t.GetArrayRank() - 1)}]";
        if (Nullable.GetUnderlyingType(t) is { } inner) return Name(inner) + "?";
        if (t.IsGenericType)
        {
            string arguments = string.Join(", ", t.GetGenericArguments().Select(Name));
            bool tuple = t.Name.StartsWith("ValueTuple", StringComparison.Ordinal);
            string plain = t.Name[..t.Name.IndexOf('`', StringComparison.Ordinal)];
            return tuple && !t.ContainsGenericParameters ? $"({arguments})" : $"{plain}<{arguments}>";
        }
        return t.Name switch
        {
            "Int64" => "long",
            "Int32" => "int",
            "Int16" => "short",
            "Boolean" => "bool",
            "Single" => "float",
            "Double" => "double",
            "Byte" => "byte",
            "SByte" => "sbyte",
            "String" => "string",
            "Object" => "object",
            "Void" => "void",
            _ => t.Name,
        };
    }
}
