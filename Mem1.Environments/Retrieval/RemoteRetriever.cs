// Invariants: a query ends within its deadline, by an answer, a RetrieverException or the caller's cancellation; one query's failure says
// nothing about the next; memory is bounded by the cache's size and MaxReplyBytes for each request under way.

using System.Buffers;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.Retrieval;

/// <summary>
/// Searches with a service over HTTP: POST {"queries": [query], "topk": k, "return_scores": true}, as the clients of MEM1 and Search-R1 do.
/// Thread-safe.
/// </summary>
public sealed class RemoteRetriever : IRetriever, IDisposable
{
    // Enough of a service's complaint to recognise it.
    private const int QuotedCharacters = 200;

    private readonly Uri _url;
    private readonly RemoteRetrieverOptions _options;
    private readonly TimeProvider _time;
    private readonly HttpClient _client;
    private readonly AnswerCache _cache;
    private readonly string? _authorization;

    /// <summary>Makes a retriever; nothing is sent yet.</summary>
    /// <param name="options">Valid, with an address.</param>
    /// <param name="time">Clock of the deadline and of waits; null for the system's.</param>
    /// <param name="authorization">Header that every request shows, as in <c>Bearer TOKEN</c>; null for none. Never in an error.</param>
    /// <exception cref="ArgumentException">The options contradict themselves or name no address.</exception>
    public RemoteRetriever(RemoteRetrieverOptions options, TimeProvider? time = null, string? authorization = null)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _options = options;
        _url = new Uri(options.Url ?? throw new ArgumentException("retriever.url is missing", nameof(options)));
        _time = time ?? TimeProvider.System;
        _authorization = authorization;
        _cache = new AnswerCache(options.CacheBytes);
        _client = new HttpClient(new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            UseProxy = !_url.IsLoopback,
            MaxConnectionsPerServer = options.MaxConnections,
            // A service behind a name may move; its address is looked up again after this.
            PooledConnectionLifetime = TimeSpan.FromMinutes(5),
        })
        {
            Timeout = Timeout.InfiniteTimeSpan,
        };
    }

    /// <summary>Queries answered from the cache.</summary>
    public long CacheHits => _cache.Hits;

    /// <inheritdoc/>
    /// <exception cref="RetrieverException">The service gave no usable answer in time.</exception>
    public async ValueTask<IReadOnlyList<SearchHit>> RetrieveAsync(string query, int k, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        if (_cache.TryGet(query, k) is { } known)
            return known;
        using var deadline = new CancellationTokenSource(_options.Deadline, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, deadline.Token);
        TimeSpan delay = _options.RetryDelay;
        RetrieverException? last = null;
        try
        {
            for (int attempt = 1; ; attempt++)
            {
                try
                {
                    IReadOnlyList<SearchHit> hits = await AskAsync(query, k, either.Token).ConfigureAwait(false);
                    _cache.Add(query, k, hits);
                    return hits;
                }
                catch (RetrieverException e) when (e.MayPass && attempt < _options.Attempts)
                {
                    last = e;
                }
                await Task.Delay(delay, _time, either.Token).ConfigureAwait(false);
                delay *= 2;
            }
        }
        catch (OperationCanceledException e)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new RetrieverException(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"The search service {_url} gave no answer within {_options.Deadline.TotalSeconds:0.###} s")
                    + (last is null ? "." : $" (before that: {last.Message.TrimEnd('.')})."),
                mayPass: true, inner: last ?? (Exception)e);
        }
    }

    /// <summary>Closes the connections.</summary>
    public void Dispose() => _client.Dispose();

    private async Task<IReadOnlyList<SearchHit>> AskAsync(string query, int k, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, _url) { Content = new ByteArrayContent(Body(query, k)) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        if (_authorization is not null)
            request.Headers.TryAddWithoutValidation("Authorization", _authorization);
        try
        {
            using HttpResponseMessage response = await _client
                .SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken).ConfigureAwait(false);
            ReadOnlyMemory<byte> reply = await ReadAsync(response, cancellationToken).ConfigureAwait(false);
            return response.StatusCode == HttpStatusCode.OK
                ? RetrieverReply.Parse(reply, k)
                : throw Refusal(response.StatusCode, reply.Span);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new RetrieverException($"The search service {_url} cannot be reached or broke off ({e.Message.TrimEnd('.')}).", true, e);
        }
    }

    private async Task<ReadOnlyMemory<byte>> ReadAsync(HttpResponseMessage response, CancellationToken cancellationToken)
    {
        using Stream stream = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        int announced = (int)Math.Clamp(response.Content.Headers.ContentLength ?? 0, 4096, 1 << 20);
        byte[] bytes = new byte[Math.Min(_options.MaxReplyBytes, announced) + 1];
        int length = 0;
        while (true)
        {
            int read = await stream.ReadAsync(bytes.AsMemory(length), cancellationToken).ConfigureAwait(false);
            if (read == 0)
                return bytes.AsMemory(0, length);
            length += read;
            if (length > _options.MaxReplyBytes)
                throw new RetrieverException(
                    $"The search service's reply is longer than {_options.MaxReplyBytes} bytes (retriever.max_reply_bytes).");
            if (length == bytes.Length)
                Array.Resize(ref bytes, (int)Math.Min(2L * bytes.Length, _options.MaxReplyBytes + 1L));
        }
    }

    private RetrieverException Refusal(HttpStatusCode status, ReadOnlySpan<byte> reply)
    {
        string text = System.Text.Encoding.UTF8.GetString(reply[..Math.Min(reply.Length, 4 * QuotedCharacters)])
            .ReplaceLineEndings(" ").Trim();
        text = text.Length > QuotedCharacters ? text[..QuotedCharacters] + "..." : text;
        bool mayPass = status is HttpStatusCode.TooManyRequests or HttpStatusCode.RequestTimeout || (int)status >= 500;
        return new RetrieverException(
            $"The search service {_url} answered with status {(int)status}{(text.Length > 0 ? $": {text}" : "")}.", mayPass);
    }

    private static byte[] Body(string query, int k)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteStartArray("queries");
            json.WriteStringValue(query);
            json.WriteEndArray();
            json.WriteNumber("topk", k);
            json.WriteBoolean("return_scores", true);
            json.WriteEndObject();
        }
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>The answers last used, up to a size.</summary>
    private sealed class AnswerCache(long capacity)
    {
        // What an entry takes beside its texts, roughly: nodes, lists, records.
        private const int EntryCost = 256;

        private readonly Lock _lock = new();
        private readonly Dictionary<(string Query, int K), LinkedListNode<Entry>> _entries = [];
        private readonly LinkedList<Entry> _recent = [];
        private long _size;
        private long _hits;

        public long Hits => Interlocked.Read(ref _hits);

        public IReadOnlyList<SearchHit>? TryGet(string query, int k)
        {
            lock (_lock)
            {
                if (!_entries.TryGetValue((query, k), out LinkedListNode<Entry>? node))
                    return null;
                _recent.Remove(node);
                _recent.AddFirst(node);
                _hits++;
                return node.Value.Hits;
            }
        }

        public void Add(string query, int k, IReadOnlyList<SearchHit> hits)
        {
            long size = EntryCost + (2L * query.Length)
                + hits.Sum(h => EntryCost + (2L * (h.Passage.Id.Length + h.Passage.Contents.Length)));
            lock (_lock)
            {
                if (size > capacity || _entries.ContainsKey((query, k)))
                    return;
                _entries.Add((query, k), _recent.AddFirst(new Entry(query, k, hits, size)));
                for (_size += size; _size > capacity; _recent.RemoveLast())
                {
                    Entry oldest = _recent.Last!.Value;
                    _entries.Remove((oldest.Query, oldest.K));
                    _size -= oldest.Size;
                }
            }
        }

        private sealed record Entry(string Query, int K, IReadOnlyList<SearchHit> Hits, long Size);
    }
}
