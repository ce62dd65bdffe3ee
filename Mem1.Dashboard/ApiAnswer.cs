// Keeps: what is asked and answered is the same whether it comes over HTTP or over the learner's gRPC port.
using System.Text;

namespace Mem1.Dashboard;

/// <summary>What is asked of a dashboard by GET.</summary>
/// <param name="Path">With a leading slash.</param>
/// <param name="Query">Values by name.</param>
internal sealed record ApiRequest(string Path, IReadOnlyDictionary<string, string> Query)
{
    /// <summary>A value; empty if it is not there.</summary>
    public string this[string name] => Query.GetValueOrDefault(name, "");

    /// <summary>A whole number.</summary>
    public long Number(string name, long otherwise) =>
        long.TryParse(this[name], System.Globalization.CultureInfo.InvariantCulture, out var n) ? n : otherwise;

    /// <summary>How many to list.</summary>
    public int Limit(int most) => (int)Math.Clamp(Number("limit", most), 0, most);
}

/// <summary>What is answered.</summary>
/// <param name="Status">As HTTP has it.</param>
/// <param name="ContentType">Of the body.</param>
/// <param name="Body">The content.</param>
internal sealed record ApiAnswer(int Status, string ContentType, ReadOnlyMemory<byte> Body)
{
    public const string JsonType = "application/json; charset=utf-8";

    public static ApiAnswer Of<T>(T value, int status = 200) => Text(Dashboard.Json.Write(value), JsonType, status);

    public static ApiAnswer Text(string text, string contentType = "text/plain; charset=utf-8", int status = 200) =>
        new(status, contentType, Encoding.UTF8.GetBytes(text));

    public static ApiAnswer Missing(string why) => Of(new { Error = why }, 404);
}

/// <summary>Where a dashboard's answers come from: this process, or a learner elsewhere.</summary>
internal interface IDashboardBackend
{
    /// <summary>Tells the browsers.</summary>
    EventHub Hub { get; }

    /// <summary>Why it has nothing to show yet; null once it has.</summary>
    string? NotReady { get; }

    /// <summary>What a browser is told first, as JSON.</summary>
    string Hello();

    /// <summary>Answers a GET below /api or of /metrics.</summary>
    Task<ApiAnswer> GetAsync(ApiRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// What a command is answered that is not to be read at all: nobody may command here, or this is not the token. Null otherwise.
    /// </summary>
    /// <param name="token">As it was given; null if none was.</param>
    /// <param name="from">Who asks, for the audit log.</param>
    ApiAnswer? Refusal(string? token, string from);

    /// <summary>Does what a command asks for.</summary>
    /// <param name="body">JSON: command, target, value.</param>
    /// <param name="token">As it was given; null if none was.</param>
    /// <param name="from">Who asks, for the audit log.</param>
    /// <param name="cancellationToken">Nobody waits for the answer any more.</param>
    Task<ApiAnswer> CommandAsync(string body, string? token, string from, CancellationToken cancellationToken);
}
