using System.Net;
using System.Text;

namespace Mem1.Environments.Tests.Web;

/// <summary>Answers requests without a network, and keeps them.</summary>
internal sealed class FakeHandler(Func<int, HttpResponseMessage> answer) : HttpMessageHandler
{
    public List<(HttpMethod Method, Uri Address, Dictionary<string, string> Headers, string Body)> Requests { get; } = [];

    public HttpClient Client => new(this, disposeHandler: false);

    public static FakeHandler Always(string json) => new(_ => Json(json));

    public static HttpResponseMessage Json(string json, HttpStatusCode status = HttpStatusCode.OK) =>
        new(status) { Content = new StringContent(json, Encoding.UTF8, "application/json") };

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        string body = request.Content is null ? "" : await request.Content.ReadAsStringAsync(cancellationToken);
        Requests.Add((
            request.Method, request.RequestUri!, request.Headers.ToDictionary(h => h.Key, h => string.Join(",", h.Value)), body));
        return answer(Requests.Count);
    }
}
