// Reads HOCON into a tree: objects (dictionaries), arrays (lists) and strings. Later keys override earlier ones, objects merge,
// ${path} refers to the final value of path in the same text; += and include are not supported, as in the original's subset.
using System.Text;

namespace Akka.Configuration;

internal sealed class HoconParser
{
    private readonly string _text;
    private int _at;

    private HoconParser(string text) => _text = text;

    internal static Dictionary<string, object> Parse(string text)
    {
        var parser = new HoconParser(text);
        parser.SkipBlank();
        var braced = parser.TryTake("{");
        var root = parser.ObjectBody(braced);
        parser.SkipBlank();
        if (parser._at < text.Length)
        {
            throw parser.Error("unexpected text after the end");
        }

        return (Dictionary<string, object>)Resolve(root, root, []);
    }

    internal static void Merge(Dictionary<string, object> into, string key, object value)
    {
        if (value is Dictionary<string, object> newer && into.TryGetValue(key, out var old) && old is Dictionary<string, object> older)
        {
            foreach (var (name, one) in newer)
            {
                Merge(older, name, one);
            }
        }
        else
        {
            into[key] = value;
        }
    }

    internal static List<string> SplitPath(string path)
    {
        var parts = new List<string>();
        var part = new StringBuilder();
        var quoted = false;
        foreach (var c in path)
        {
            if (c == '"')
            {
                quoted = !quoted;
            }
            else if (c == '.' && !quoted)
            {
                parts.Add(part.ToString().Trim());
                part.Clear();
            }
            else
            {
                part.Append(c);
            }
        }

        parts.Add(part.ToString().Trim());
        return parts;
    }

    internal static object Find(object node, IEnumerable<string> path)
    {
        foreach (var key in path)
        {
            if (node is not Dictionary<string, object> inside || !inside.TryGetValue(key, out node))
            {
                return null;
            }
        }

        return node;
    }

    private static object Resolve(object node, Dictionary<string, object> root, HashSet<string> underWay)
    {
        switch (node)
        {
            case Dictionary<string, object> inside:
                foreach (var key in inside.Keys.ToArray())
                {
                    var value = Resolve(inside[key], root, underWay);
                    if (value is null)
                    {
                        inside.Remove(key);
                    }
                    else
                    {
                        inside[key] = value;
                    }
                }

                return inside;
            case List<object> list:
                return list.Select(item => Resolve(item, root, underWay)).Where(item => item is not null).ToList();
            case Parts parts:
                return Join(parts.Pieces
                    .Select(part => part is Reference reference ? Follow(reference, root, underWay) : Resolve(part, root, underWay))
                    .ToList());
            default:
                return node;
        }
    }

    private static object Follow(Reference reference, Dictionary<string, object> root, HashSet<string> underWay)
    {
        if (!underWay.Add(reference.Path))
        {
            throw new ConfigurationException($"The substitution ${{{reference.Path}}} refers to itself.");
        }

        var value = Find(root, SplitPath(reference.Path));
        var found = value is null ? Environment.GetEnvironmentVariable(reference.Path) : Resolve(value, root, underWay);
        underWay.Remove(reference.Path);
        if (found is null && !reference.Optional)
        {
            throw new ConfigurationException($"The substitution ${{{reference.Path}}} refers to a key that does not exist.");
        }

        return found;
    }

    private static object Join(List<object> parts)
    {
        var present = parts.Where(part => part is not null).ToList();
        var significant = present.Where(part => part is not string text || text.Trim().Length > 0).ToList();
        if (significant.Count == 0)
        {
            return present.Count == 0 ? null : string.Concat(present);
        }

        if (significant.TrueForAll(part => part is Dictionary<string, object>))
        {
            var merged = new Dictionary<string, object>();
            foreach (var (key, value) in significant.SelectMany(part => (Dictionary<string, object>)part))
            {
                Merge(merged, key, value);
            }

            return merged;
        }

        if (significant.TrueForAll(part => part is List<object>))
        {
            return significant.SelectMany(part => (List<object>)part).ToList();
        }

        return string.Concat(present);
    }

    private Dictionary<string, object> ObjectBody(bool braced)
    {
        var result = new Dictionary<string, object>();
        while (true)
        {
            SkipBlank(commas: true);
            if (_at == _text.Length)
            {
                return braced ? throw Error("a '}' is missing") : result;
            }

            if (_text[_at] == '}')
            {
                if (!braced)
                {
                    throw Error("unexpected '}'");
                }

                _at++;
                return result;
            }

            var path = Key();
            SkipBlank();
            if (!TryTake("=") && !TryTake(":") && (_at == _text.Length || _text[_at] != '{'))
            {
                throw Error($"key '{string.Join('.', path)}' has no value");
            }

            var value = Value();
            for (var i = path.Count - 1; i > 0; i--)
            {
                value = new Dictionary<string, object> { [path[i]] = value };
            }

            Merge(result, path[0], value);
        }
    }

    private List<string> Key()
    {
        var start = _at;
        var quoted = false;
        while (_at < _text.Length && (quoted || !":={}[],\n\r#".Contains(_text[_at], StringComparison.Ordinal)))
        {
            quoted ^= _text[_at] == '"';
            _at++;
        }

        var key = _text[start.._at].Trim();
        return key.Length > 0 ? SplitPath(key) : throw Error("a key is missing");
    }

    private object Value()
    {
        SkipBlank();
        var parts = new List<object>();
        while (_at < _text.Length && !",}]\n\r#".Contains(_text[_at], StringComparison.Ordinal) && !At("//"))
        {
            if (TryTake("\"\"\""))
            {
                var end = _text.IndexOf("\"\"\"", _at, StringComparison.Ordinal);
                if (end < 0)
                {
                    throw Error("a triple quote is not closed");
                }

                parts.Add(_text[_at..end]);
                _at = end + 3;
            }
            else if (_text[_at] == '"')
            {
                parts.Add(Quoted());
            }
            else if (TryTake("${"))
            {
                var end = _text.IndexOf('}', _at);
                if (end < 0)
                {
                    throw Error("a substitution is not closed");
                }

                var path = _text[_at..end];
                parts.Add(new Reference(path.TrimStart('?').Trim(), path.StartsWith('?')));
                _at = end + 1;
            }
            else if (TryTake("{"))
            {
                parts.Add(ObjectBody(braced: true));
            }
            else if (TryTake("["))
            {
                parts.Add(Array());
            }
            else
            {
                parts.Add(Unquoted());
            }
        }

        // Blanks around the whole value do not belong to it.
        if (parts.Count > 0 && parts[^1] is Bare last)
        {
            parts[^1] = new Bare(last.Text.TrimEnd());
        }

        for (var i = 0; i < parts.Count; i++)
        {
            parts[i] = parts[i] is Bare bare ? bare.Text : parts[i];
        }

        return parts.Exists(part => part is Reference or Parts) ? new Parts(parts)
            : parts.Count == 1 ? parts[0]
            : parts.Count == 0 ? ""
            : Join(parts);
    }

    private List<object> Array()
    {
        var items = new List<object>();
        while (true)
        {
            SkipBlank(commas: true);
            if (_at == _text.Length)
            {
                throw Error("a ']' is missing");
            }

            if (TryTake("]"))
            {
                return items;
            }

            items.Add(Value());
        }
    }

    private string Quoted()
    {
        var result = new StringBuilder();
        for (_at++; _at < _text.Length && _text[_at] != '"'; _at++)
        {
            if (_text[_at] != '\\' || _at + 1 == _text.Length)
            {
                result.Append(_text[_at]);
                continue;
            }

            _at++;
            result.Append(_text[_at] switch
            {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\b',
                'f' => '\f',
                var other => other,
            });
        }

        if (_at == _text.Length)
        {
            throw Error("a quote is not closed");
        }

        _at++;
        return result.ToString();
    }

    private Bare Unquoted()
    {
        var start = _at;
        while (_at < _text.Length && !",}]{[\n\r#\"".Contains(_text[_at], StringComparison.Ordinal) && !At("//") && !At("${"))
        {
            _at++;
        }

        return new Bare(_text[start.._at]);
    }

    private void SkipBlank(bool commas = false)
    {
        while (_at < _text.Length)
        {
            if (_text[_at] == '#' || At("//"))
            {
                while (_at < _text.Length && _text[_at] != '\n')
                {
                    _at++;
                }
            }
            else if (char.IsWhiteSpace(_text[_at]) || (commas && _text[_at] == ','))
            {
                _at++;
            }
            else
            {
                return;
            }
        }
    }

    private bool At(string token) => string.CompareOrdinal(_text, _at, token, 0, token.Length) == 0;

    private bool TryTake(string token)
    {
        if (!At(token))
        {
            return false;
        }

        _at += token.Length;
        return true;
    }

    private ConfigurationException Error(string what)
    {
        var line = _text.AsSpan(0, Math.Min(_at, _text.Length)).Count('\n') + 1;
        return new ConfigurationException($"Invalid configuration text, line {line}: {what}.");
    }

    /// <summary>A value put together from pieces, one of which is a reference.</summary>
    private sealed record Parts(List<object> Pieces);

    private sealed record Reference(string Path, bool Optional);

    /// <summary>Text without quotes: blanks inside it count, blanks at its end do not.</summary>
    private sealed record Bare(string Text);
}
