// Keeps: what is written is what this build has: signatures from the assemblies themselves, words from the XML docs that the compiler put
// beside them; public types and members alone.
using System.CommandLine;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 api</c>: the public API as Markdown, for those who write environments against it.</summary>
internal static partial class ApiCommand
{
    // In the order in which one meets them.
    private static readonly string[] s_assemblies =
        ["Mem1.Environments", "Mem1.Model", "Mem1.Actors", "Mem1.Learner", "Mem1.Dashboard", "Mem1.Protocol"];

    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    public static Command Create()
    {
        var output = new Option<DirectoryInfo>("--out")
        {
            Description = "Folder to write to",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo(Path.Combine("artifacts", "api")),
        };
        var command = new Command(
            "api",
            """
            Write the public API as Markdown: a file per assembly, with what the XML docs say of every type and member.

            Example:
              ./mem1 api --out artifacts/api
            """)
        {
            output,
        };
        command.SetAction(parse =>
        {
            var folder = parse.GetValue(output)!.FullName;
            Directory.CreateDirectory(folder);
            var index = new StringBuilder("# API of Mem1\n\nMade by `mem1 api` from the XML docs.\n\n");
            foreach (var name in s_assemblies)
            {
                var assembly = Assembly.Load(name);
                var types = assembly.GetExportedTypes().Where(t => !IsGenerated(t))
                    .OrderBy(t => t.FullName, StringComparer.Ordinal).ToList();
                AtomicFile.WriteText(Path.Combine(folder, $"{name}.md"), Text(name, types, Docs(assembly)));
                index.Append($"* [{name}]({name}.md): {types.Count} types\n");
            }

            AtomicFile.WriteText(Path.Combine(folder, "README.md"), index.ToString());
            Console.WriteLine($"the API of {s_assemblies.Length} assemblies is in {folder}");
            return 0;
        });
        return command;
    }

    // What protoc writes is described by the .proto files.
    private static bool IsGenerated(Type type) =>
        type.Namespace == "Mem1.Protocol.V1" || type.IsDefined(typeof(CompilerGeneratedAttribute));

    private static Dictionary<string, XElement> Docs(Assembly assembly)
    {
        var path = Path.ChangeExtension(assembly.Location, ".xml");
        if (!File.Exists(path))
            throw new UserErrorException($"there is no {path}: this program was published without its XML docs; run it from a checkout.");
        return XDocument.Load(path).Descendants("member").ToDictionary(m => m.Attribute("name")!.Value, StringComparer.Ordinal);
    }

    private static string Text(string assembly, List<Type> types, Dictionary<string, XElement> docs)
    {
        var text = new StringBuilder($"# {assembly}\n");
        foreach (var type in types)
        {
            text.Append($"\n## {Name(type)}\n\n`{Kind(type)} {type.Namespace}.{Name(type)}`\n");
            Say(text, docs.GetValueOrDefault($"T:{Id(type)}"), docs, type, null);
            if (type.IsEnum)
            {
                foreach (var value in type.GetFields(BindingFlags.Public | BindingFlags.Static))
                    text.Append($"\n* `{value.Name}`: {Words(docs.GetValueOrDefault($"F:{Id(type)}.{value.Name}")?.Element("summary"))}");
                text.Append('\n');
                continue;
            }

            foreach (var member in type.GetMembers(Declared).Where(IsShown).OrderBy(m => m.MetadataToken))
            {
                text.Append($"\n### `{Signature(member)}`\n");
                Say(text, docs.GetValueOrDefault(Id(member)), docs, type, member);
            }
        }

        return text.ToString();
    }

    private static bool IsShown(MemberInfo member) => !member.IsDefined(typeof(CompilerGeneratedAttribute)) && member switch
    {
        Type => false, // nested ones stand by themselves
        MethodInfo m => !m.IsSpecialName && m.GetBaseDefinition().DeclaringType != typeof(object),
        _ => true,
    };

    private static void Say(StringBuilder text, XElement? doc, Dictionary<string, XElement> docs, Type type, MemberInfo? member)
    {
        if (doc?.Element("inheritdoc") is not null && member is not null && Inherited(docs, type, member) is { } told) doc = told;
        if (doc is null) return;
        foreach (var part in (string[])["summary", "remarks"])
        {
            if (doc.Element(part) is { } words) text.Append($"\n{Words(words)}\n");
        }

        var lines = doc.Elements("param").Concat(doc.Elements("typeparam")).Select(p => $"* `{p.Attribute("name")?.Value}`: {Words(p)}")
            .Concat(doc.Elements("returns").Select(r => $"* returns {Words(r)}"))
            .Concat(doc.Elements("exception").Select(e => $"* throws `{Short(e.Attribute("cref")?.Value)}`: {Words(e)}")).ToList();
        if (lines.Count > 0) text.Append($"\n{string.Join('\n', lines)}\n");
    }

    /// <summary>What an interface or a base class says of a member of that name.</summary>
    private static XElement? Inherited(Dictionary<string, XElement> docs, Type type, MemberInfo member)
    {
        var above = type.GetInterfaces().ToList();
        for (var t = type.BaseType; t is not null; t = t.BaseType) above.Add(t);
        return above.SelectMany(t => (t.IsGenericType ? t.GetGenericTypeDefinition() : t).GetMembers(Declared))
            .Where(m => m.Name == member.Name && m.MemberType == member.MemberType)
            .Select(m => docs.GetValueOrDefault(Id(m))).FirstOrDefault(d => d is not null);
    }

    private static string Words(XElement? element)
    {
        if (element is null) return "";
        var text = new StringBuilder();
        foreach (var node in element.Nodes())
        {
            text.Append(node switch
            {
                XText t => t.Value,
                XElement { Name.LocalName: "see" or "seealso" } see =>
                    $"`{see.Attribute("langword")?.Value ?? Short(see.Attribute("cref")?.Value ?? see.Value)}`",
                XElement { Name.LocalName: "paramref" or "typeparamref" } reference => $"`{reference.Attribute("name")?.Value}`",
                XElement { Name.LocalName: "c" or "code" } code => $"`{code.Value}`",
                XElement other => Words(other),
                _ => "",
            });
        }

        return Blanks().Replace(text.ToString(), " ").Trim();
    }

    private static string Short(string? cref) => cref is null ? "" : Regex.Replace(cref, @"^\w:|\(.*$|`+\d+", "").Split('.')[^1];

    private static string Kind(Type type) => type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsValueType ? "struct"
        : typeof(Delegate).IsAssignableFrom(type) ? "delegate" : type is { IsAbstract: true, IsSealed: true } ? "static class" : "class";

    private static string Name(Type type)
    {
        if (type.IsGenericParameter) return type.Name;
        if (type.IsByRef) return Name(type.GetElementType()!);
        if (type.IsArray) return $"{Name(type.GetElementType()!)}[{new string(',', type.GetArrayRank() - 1)}]";
        if (Nullable.GetUnderlyingType(type) is { } value) return $"{Name(value)}?";
        var known = Type.GetTypeCode(type) switch
        {
            _ when type.IsEnum => null,
            TypeCode.Boolean => "bool",
            TypeCode.Byte => "byte",
            TypeCode.Int32 => "int",
            TypeCode.Int64 => "long",
            TypeCode.UInt32 => "uint",
            TypeCode.UInt64 => "ulong",
            TypeCode.Single => "float",
            TypeCode.Double => "double",
            TypeCode.String => "string",
            _ => type == typeof(void) ? "void" : type == typeof(object) ? "object" : null,
        };
        if (known is not null) return known;
        var plain = type.Name.Split('`')[0];
        var outer = type.IsNested ? $"{Name(type.DeclaringType!).Split('<')[0]}." : "";
        return type.IsGenericType ? $"{outer}{plain}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : outer + plain;
    }

    private static string Signature(MemberInfo member)
    {
        static string Parameter(ParameterInfo p) => (p.IsOut ? "out " : p.ParameterType.IsByRef ? "ref " : "")
            + $"{Name(p.ParameterType)} {p.Name}{(p.HasDefaultValue ? $" = {p.DefaultValue ?? "default"}" : "")}";
        static string Parameters(MethodBase m) => string.Join(", ", m.GetParameters().Select(Parameter));
        return member switch
        {
            ConstructorInfo c => $"{Name(c.DeclaringType!)}({Parameters(c)})",
            MethodInfo m => $"{(m.IsStatic ? "static " : "")}{Name(m.ReturnType)} {m.Name}"
                + $"{(m.IsGenericMethod ? $"<{string.Join(", ", m.GetGenericArguments().Select(Name))}>" : "")}({Parameters(m)})",
            PropertyInfo p => $"{Name(p.PropertyType)} {p.Name} {{ {(p.GetMethod?.IsPublic == true ? "get; " : "")}{Setter(p)}}}",
            FieldInfo f => $"{(f.IsLiteral ? "const " : f.IsStatic ? "static " : "")}{Name(f.FieldType)} {f.Name}",
            EventInfo e => $"event {Name(e.EventHandlerType!)} {e.Name}",
            _ => member.Name,
        };
    }

    private static string Setter(PropertyInfo property) => property.SetMethod is not { IsPublic: true } set ? ""
        : set.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit)) ? "init; " : "set; ";

    // The names that the compiler gives in XML docs (C# language specification, annex D.4.2).
    private static string Id(Type type) => (type.FullName ?? type.Name).Replace('+', '.');

    private static string Id(MemberInfo member)
    {
        var owner = Id(member.DeclaringType!);
        return member switch
        {
            MethodBase m => $"M:{owner}.{m.Name.Replace('.', '#')}{(m.IsGenericMethod ? $"``{m.GetGenericArguments().Length}" : "")}"
                + Listed(m.GetParameters())
                + (m.Name is "op_Implicit" or "op_Explicit" ? $"~{IdOfUse(((MethodInfo)m).ReturnType)}" : ""),
            PropertyInfo p => $"P:{owner}.{p.Name}{Listed(p.GetIndexParameters())}",
            EventInfo => $"E:{owner}.{member.Name}",
            _ => $"F:{owner}.{member.Name}",
        };

        static string Listed(ParameterInfo[] parameters) =>
            parameters.Length == 0 ? "" : $"({string.Join(',', parameters.Select(p => IdOfUse(p.ParameterType)))})";
    }

    private static string IdOfUse(Type type)
    {
        if (type.IsGenericParameter) return (type.DeclaringMethod is null ? "`" : "``") + type.GenericParameterPosition;
        if (type.IsByRef) return IdOfUse(type.GetElementType()!) + "@";
        if (type.IsArray) return IdOfUse(type.GetElementType()!) + "[]";
        if (!type.IsGenericType) return Id(type);
        var definition = Id(type.GetGenericTypeDefinition());
        return $"{Regex.Replace(definition, @"`\d+", "")}{{{string.Join(',', type.GetGenericArguments().Select(IdOfUse))}}}";
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Blanks();
}
