// Invariants: no request outlives its deadline; no more than the allowed bytes of an answer are kept; what leaves is a result, a
// WebAccessException, or the caller's own cancellation; neither headers nor queries of a request reach an exception's message.

using System.Net;

namespace Mem1.Environments.Web;

/// <summary>Sends requests with time limits, retries and size limits.</summary>
internal static class BoundedHttp
{
    // A body is read in pieces of this size, so that a small answer costs little.
    private const int Piece = 16 * 1024;

    /// <summary>Sends until there is an answer, or the attempts are used up by 408, 425, 429, 5xx, network faults and time limits.</summary>
    /// <param name="client">Sends.</param>
    /// <param name="what">Names the request in messages: "search service", say.</param>
    /// <param name="make">Makes the request, anew for each attempt.</param>
    /// <param name="read">Reads an answer of any other status; may throw <see cref="WebAccessException"/>, which is final.</param>
    /// <param name="options">The bounds.</param>
    /// <param name="deadline">What is left of the deadline.</param>
    /// <param name="time">Clock.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public static async Task<T> SendAsync<T>(
        HttpClient client, string what, Func<HttpRequestMessage> make, Func<HttpResponseMessage, CancellationToken, Task<T>> read,
        WebRequestOptions options, TimeSpan deadline, TimeProvider time, CancellationToken cancellationToken)
    {
        long start = time.GetTimestamp();
        TimeSpan delay = options.RetryDelay;
        for (int attempt = 1; ; attempt++)
        {
            TimeSpan left = deadline - time.GetElapsedTime(start);
            cancellationToken.ThrowIfCancellationRequested();
            if (left <= TimeSpan.Zero)
                throw new WebAccessException(WebFailure.Timeout, $"The {what} gave no answer within {deadline.TotalSeconds:0.#} s.");
            TimeSpan limit = left < options.AttemptTimeout ? left : options.AttemptTimeout;
            (T? value, WebAccessException? failure, TimeSpan? wait) = await AttemptAsync(
                client, what, make, read, limit, time, cancellationToken);
            if (failure is null)
                return value!;
            TimeSpan pause = wait ?? delay;
            delay *= 2;
            // A wait that ends after the deadline is not worth starting.
            if (attempt >= options.Attempts || pause >= deadline - time.GetElapsedTime(start))
                throw failure;
            await Task.Delay(pause, time, cancellationToken);
        }
    }

    /// <summary>Reads a body up to a number of bytes.</summary>
    /// <returns>The bytes, and whether there were more.</returns>
    public static async Task<(ReadOnlyMemory<byte> Bytes, bool Cut)> ReadAsync(
        HttpContent content, int maxBytes, CancellationToken cancellationToken)
    {
        await using Stream stream = await content.ReadAsStreamAsync(cancellationToken);
        byte[] bytes = new byte[Math.Min(Piece, maxBytes + 1)];
        int length = 0;
        while (true)
        {
            if (length == bytes.Length)
            {
                if (length > maxBytes)
                    return (bytes.AsMemory(0, maxBytes), true);
                Array.Resize(ref bytes, (int)Math.Min(2L * length, maxBytes + 1L));
            }
            int read = await stream.ReadAsync(bytes.AsMemory(length), cancellationToken);
            if (read == 0)
                return (bytes.AsMemory(0, length), false);
            length += read;
        }
    }

    private static async Task<(T? Value, WebAccessException? Passing, TimeSpan? Wait)> AttemptAsync<T>(
        HttpClient client, string what, Func<HttpRequestMessage> make, Func<HttpResponseMessage, CancellationToken, Task<T>> read,
        TimeSpan limit, TimeProvider time, CancellationToken cancellationToken)
    {
        using var late = new CancellationTokenSource(limit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, late.Token);
        try
        {
            using HttpRequestMessage request = make();
            using HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, either.Token);
            if (!IsPassing(response.StatusCode))
                return (await read(response, either.Token), null, null);
            return (default, OfStatus(what, response.StatusCode), RetryAfter(response, time));
        }
        catch (Exception e) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(e.Message, e, cancellationToken);
        }
        catch (Exception) when (late.IsCancellationRequested)
        {
            return (default, new WebAccessException(WebFailure.Timeout, $"The {what} gave no answer within {limit.TotalSeconds:0.#} s."), null);
        }
        catch (Exception e) when (Refusal(e) is { } refusal)
        {
            throw refusal == e ? refusal : new WebAccessException(refusal.Failure, refusal.Message, refusal.Status, e);
        }
        // Bodies that are no valid gzip leave as InvalidDataException; a connection closed under a timer as OperationCanceledException.
        catch (Exception e) when (e is HttpRequestException or IOException or InvalidDataException or OperationCanceledException)
        {
            string reason = e is HttpRequestException { HttpRequestError: not HttpRequestError.Unknown } http
                ? $"{http.HttpRequestError}" : e.GetType().Name;
            return (default, new WebAccessException(WebFailure.Network, $"The {what} cannot be reached ({reason}).", inner: e), null);
        }
    }

    public static WebAccessException OfStatus(string what, HttpStatusCode status) =>
        new(WebFailure.Status, $"The {what} answered with status {(int)status}.", (int)status);

    /// <summary>A refusal of ours that HttpClient wrapped on its way out of the connect callback.</summary>
    private static WebAccessException? Refusal(Exception? e)
    {
        for (; e is not null; e = e.InnerException)
        {
            if (e is WebAccessException refusal)
                return refusal;
        }
        return null;
    }

    private static bool IsPassing(HttpStatusCode status) =>
        status is HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests || (int)status is 425 or >= 500;

    private static TimeSpan? RetryAfter(HttpResponseMessage response, TimeProvider time)
    {
        if (response.Headers.RetryAfter is not { } after)
            return null;
        TimeSpan? wait = after.Delta ?? (after.Date - time.GetUtcNow());
        return wait is { } w && w < TimeSpan.Zero ? TimeSpan.Zero : wait;
    }
}
