// Keeps: what is served is embedded in this assembly; names that are not among it are not found, whatever they look like.
using System.Collections.Frozen;
using System.Net;
using System.Reflection;

namespace Mem1.Dashboard;

/// <summary>The files of the page, by path under the root.</summary>
internal static class Page
{
    private const string Prefix = "page/";

    private static readonly FrozenDictionary<string, byte[]> s_files = Load();

    /// <summary>Whether Node and npm were there when this was built.</summary>
    public static bool IsBuilt => s_files.ContainsKey("index.html");

    public static bool TryGet(string path, out byte[] content, out string type)
    {
        content = [];
        type = Path.GetExtension(path) switch
        {
            ".html" => "text/html; charset=utf-8",
            ".js" => "text/javascript; charset=utf-8",
            ".css" => "text/css; charset=utf-8",
            ".svg" => "image/svg+xml",
            _ => "application/octet-stream",
        };
        if (path.Length == 0 || path == "index.html")
        {
            (content, type) = (s_files.GetValueOrDefault("index.html") ?? Missing(), "text/html; charset=utf-8");
            return true;
        }

        if (path == "why.txt" || !s_files.TryGetValue(path, out var found)) return false;
        content = found;
        return true;
    }

    private static byte[] Missing()
    {
        var why = s_files.TryGetValue("why.txt", out var text)
            ? System.Text.Encoding.UTF8.GetString(text).Trim() : "Node.js 18 or newer and npm were missing when Mem1 was built.";
        return System.Text.Encoding.UTF8.GetBytes(
            $"""
            <!doctype html><html lang="en"><meta charset="utf-8"><title>Mem1</title>
            <h1>The dashboard's page is not built</h1>
            <p>{WebUtility.HtmlEncode(why)}</p>
            <p>Then build it with <code>rm -f artifacts/stamp.cli</code> and start <code>./mem1</code> again. Everything else works
            without it: <a href="/api/run">/api/run</a>, <a href="/metrics">/metrics</a> and what docs/dashboard.md lists.</p></html>
            """);
    }

    private static FrozenDictionary<string, byte[]> Load()
    {
        var assembly = Assembly.GetExecutingAssembly();
        return assembly.GetManifestResourceNames().Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)).ToFrozenDictionary(
            n => n[Prefix.Length..].Replace('\\', '/'),
            n =>
            {
                using var stream = assembly.GetManifestResourceStream(n)!;
                var bytes = new byte[stream.Length];
                stream.ReadExactly(bytes);
                return bytes;
            },
            StringComparer.Ordinal);
    }
}
