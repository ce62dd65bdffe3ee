// The rules of hadolint (DL....) that matter for these images, on the instructions of a Dockerfile. Each returns what breaks it.
using System.Text;
using System.Text.RegularExpressions;

namespace Mem1.Deploy.Tests;

/// <summary>One instruction with its continuation lines joined.</summary>
internal sealed record Instruction(int Line, string Name, string Arguments);

internal static partial class Dockerfile
{
    public static IReadOnlyList<Instruction> Parse(string text)
    {
        var found = new List<Instruction>();
        var whole = new StringBuilder();
        var (number, first) = (0, 0);
        foreach (var raw in text.Split('\n'))
        {
            number++;
            var line = raw.Trim();
            if (line.StartsWith('#') || line.Length == 0) continue;
            if (whole.Length == 0) first = number;
            whole.Append(line.EndsWith('\\') ? line[..^1] : line);
            if (line.EndsWith('\\')) continue;
            var parts = whole.ToString().Split((char[]?)null, 2, StringSplitOptions.RemoveEmptyEntries);
            found.Add(new Instruction(first, parts[0].ToUpperInvariant(), parts.ElementAtOrDefault(1)?.Trim() ?? ""));
            whole.Clear();
        }

        return found;
    }

    /// <summary>Everything that is wrong, a sentence each.</summary>
    public static IEnumerable<string> Lint(string text)
    {
        var all = Parse(text);
        var arguments = all.TakeWhile(i => i.Name == "ARG").Select(i => i.Arguments.Split('=', 2)).Where(a => a.Length == 2)
            .ToDictionary(a => a[0], a => a[1], StringComparer.Ordinal);
        var stages = new HashSet<string>(StringComparer.Ordinal);
        var shell = "";
        foreach (var i in all)
        {
            switch (i.Name)
            {
                case "FROM":
                    shell = "";
                    var words = i.Arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries);
                    var image = Variable().Replace(words[0], m => arguments.GetValueOrDefault(m.Groups[1].Value, ""));
                    var tag = image[(image.LastIndexOf('/') + 1)..].Split(':', 2).ElementAtOrDefault(1);
                    if (!stages.Contains(image) && tag is null) yield return $"line {i.Line}: DL3006: {image} has no tag.";
                    if (tag == "latest") yield return $"line {i.Line}: DL3007: {image} moves.";
                    // A whole release: a tag of one number is another image next month.
                    if (tag is not null && !Pinned().IsMatch(tag)) yield return $"line {i.Line}: {image} is not pinned to a release.";
                    if (words.Length == 3 && !stages.Add(words[2])) yield return $"line {i.Line}: DL3024: stage {words[2]} twice.";
                    break;
                case "RUN":
                    if (Regex.IsMatch(i.Arguments, @"\bsudo\b")) yield return $"line {i.Line}: DL3004: sudo.";
                    if (Regex.IsMatch(i.Arguments, @"(^|&&|;)\s*cd\s")) yield return $"line {i.Line}: DL3003: cd instead of WORKDIR.";
                    if (Regex.IsMatch(i.Arguments, @"\bapt-get (dist-)?upgrade\b")) yield return $"line {i.Line}: DL3005: apt-get upgrade.";
                    if (Regex.IsMatch(i.Arguments, @"(^|&&|;)\s*apt\s")) yield return $"line {i.Line}: DL3027: apt instead of apt-get.";
                    if (i.Arguments.Contains("apt-get install", StringComparison.Ordinal))
                    {
                        if (!Regex.IsMatch(i.Arguments, @"apt-get install[^&]*\s-y\b")) yield return $"line {i.Line}: DL3014: no -y.";
                        if (!i.Arguments.Contains("--no-install-recommends", StringComparison.Ordinal))
                            yield return $"line {i.Line}: DL3015: recommended packages too.";
                        if (!i.Arguments.Contains("apt-get update", StringComparison.Ordinal)) yield return $"line {i.Line}: DL3059: old lists.";
                        if (!i.Arguments.Contains("rm -rf /var/lib/apt/lists/*", StringComparison.Ordinal))
                            yield return $"line {i.Line}: DL3009: the package lists stay in the layer.";
                    }

                    // Any pipe that is not ||.
                    if (Regex.IsMatch(i.Arguments, @"(?<!\|)\|(?!\|)") && !shell.Contains("pipefail", StringComparison.Ordinal))
                        yield return $"line {i.Line}: DL4006: a pipe without pipefail.";
                    break;
                case "SHELL":
                    shell = i.Arguments;
                    break;
                case "ADD":
                    yield return $"line {i.Line}: DL3020: ADD instead of COPY.";
                    break;
                case "MAINTAINER":
                    yield return $"line {i.Line}: DL4000: MAINTAINER.";
                    break;
                case "WORKDIR" when !i.Arguments.StartsWith('/'):
                    yield return $"line {i.Line}: DL3000: a relative WORKDIR.";
                    break;
                case "CMD" or "ENTRYPOINT" when !i.Arguments.StartsWith('['):
                    yield return $"line {i.Line}: DL3025: {i.Name} without JSON goes through a shell that swallows signals.";
                    break;
                case "COPY" when i.Arguments.Contains("--from=", StringComparison.Ordinal):
                    var from = Regex.Match(i.Arguments, @"--from=(\S+)").Groups[1].Value;
                    if (!stages.Contains(from)) yield return $"line {i.Line}: DL3022: there is no stage {from}.";
                    break;
            }
        }

        var final = all.Skip(all.ToList().FindLastIndex(i => i.Name == "FROM")).ToList();
        if (final.LastOrDefault(i => i.Name == "USER")?.Arguments is not { } user || user.Split(':')[0] is "root" or "0")
            yield return "DL3002: the last user is root.";
        else if (!Regex.IsMatch(user, @"^\d+:\d+$"))
            yield return "the last user is no number: Kubernetes cannot tell that it is not root.";
        foreach (var once in new[] { "ENTRYPOINT", "CMD", "HEALTHCHECK" })
        {
            if (final.Count(i => i.Name == once) != 1) yield return $"the final stage has {final.Count(i => i.Name == once)} {once}; it must have one.";
        }
    }

    [GeneratedRegex(@"\$\{(\w+)\}")]
    private static partial Regex Variable();

    [GeneratedRegex(@"^v?\d+\.\d+[\w.-]*$")]
    private static partial Regex Pinned();
}
