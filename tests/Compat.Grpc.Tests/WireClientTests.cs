// The client against answers made by hand: where the status lies, what bad answers become, and what it sends itself.

using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Compat.Grpc.Tests;

public sealed class WireClientTests
{
    private static readonly byte[] s_note = Frames.Message(new Note { Text = "n" }.ToByteArray());

    /// <summary>An answer with this body, status and content type; a null status leaves grpc-status out.</summary>
    private static RequestDelegate Answer(byte[] body, string? status, string? detail = null, bool trailersOnly = false) => async http =>
    {
        http.Response.ContentType = "application/grpc";
        if (trailersOnly)
        {
            if (status is not null)
                http.Response.Headers["grpc-status"] = status;
            if (detail is not null)
                http.Response.Headers["grpc-message"] = detail;
            return;
        }
        await http.Response.StartAsync();
        await http.Response.Body.WriteAsync(body);
        if (status is not null)
            http.Response.AppendTrailer("grpc-status", status);
        if (detail is not null)
            http.Response.AppendTrailer("grpc-message", detail);
    };

    [Theory]
    [InlineData("5", false, StatusCode.NotFound)]
    [InlineData("5", true, StatusCode.NotFound)]
    [InlineData("0", true, StatusCode.Internal)] // OK without the message
    [InlineData("0", false, StatusCode.Internal)]
    [InlineData(null, false, StatusCode.Cancelled)]
    [InlineData("x", false, StatusCode.Cancelled)]
    public async Task A_status_is_found_in_headers_and_trailers(string? status, bool trailersOnly, StatusCode expected)
    {
        await using var host = await TestHost.StartRawAsync(Answer([], status, trailersOnly: trailersOnly));
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(expected);
    }

    [Fact]
    public async Task No_message_but_OK_is_said_to_be_undecodable()
    {
        await using var host = await TestHost.StartRawAsync(Answer([], "0", trailersOnly: true));
        var failure = await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Internal);
        Assert.Equal("Failed to deserialize response message.", failure.Status.Detail);
        // For a stream it is simply the end.
        using var down = host.Client().Down(new Note());
        Assert.False(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal(StatusCode.OK, down.GetStatus().StatusCode);
        await down.ResponseHeadersAsync.Soon();
    }

    [Fact]
    public async Task An_error_after_the_message_wins()
    {
        await using var host = await TestHost.StartRawAsync(Answer(s_note, "10", "%E2%98%BA%zz"));
        var failure = await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Aborted);
        Assert.Equal("☺%zz", failure.Status.Detail);
    }

    [Theory]
    [InlineData(new byte[] { 0, 0, 0, 0, 4, 1 }, StatusCode.Internal)] // truncated
    [InlineData(new byte[] { 0, 0, 0 }, StatusCode.Internal)]
    [InlineData(new byte[] { 1, 0, 0, 0, 0 }, StatusCode.Internal)] // compressed without grpc-encoding
    [InlineData(new byte[] { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, StatusCode.Internal)] // two messages
    [InlineData(new byte[] { 0, 0, 64, 0, 1 }, StatusCode.ResourceExhausted)] // over 4 MiB
    public async Task Bad_bodies_end_the_call_with_a_status(byte[] body, StatusCode expected)
    {
        await using var host = await TestHost.StartRawAsync(Answer(body, "0"));
        var client = host.Client();
        using var unary = client.UnaryAsync(new Note());
        await unary.ResponseAsync.FailsWith(expected);
        Assert.Equal(expected, unary.GetStatus().StatusCode);
        if (body.Length == 10)
            return;
        using var down = client.Down(new Note());
        await down.ResponseStream.MoveNext().FailsWith(expected);
    }

    [Theory]
    [InlineData(400, StatusCode.Internal)]
    [InlineData(401, StatusCode.Unauthenticated)]
    [InlineData(403, StatusCode.PermissionDenied)]
    [InlineData(404, StatusCode.Unimplemented)]
    [InlineData(429, StatusCode.Unavailable)]
    [InlineData(502, StatusCode.Unavailable)]
    [InlineData(503, StatusCode.Unavailable)]
    [InlineData(504, StatusCode.Unavailable)]
    [InlineData(500, StatusCode.Unknown)]
    public async Task An_HTTP_error_becomes_a_status(int http, StatusCode expected)
    {
        await using var host = await TestHost.StartRawAsync(context =>
        {
            context.Response.StatusCode = http;
            return Task.CompletedTask;
        });
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(expected);
        using var up = host.Client().Up();
        await up.ResponseAsync.FailsWith(expected);
    }

    [Fact]
    public async Task The_grpc_status_of_an_HTTP_error_wins()
    {
        await using var host = await TestHost.StartRawAsync(context =>
        {
            context.Response.StatusCode = 500;
            context.Response.Headers["grpc-status"] = "9";
            return Task.CompletedTask;
        });
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.FailedPrecondition);
    }

    [Fact]
    public async Task A_web_page_is_no_answer()
    {
        await using var host = await TestHost.StartRawAsync(context => context.Response.WriteAsync("<html>"));
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Cancelled);
    }

    [Theory]
    [InlineData(2, StatusCode.Internal)]
    [InlineData(7, StatusCode.Unavailable)]
    [InlineData(8, StatusCode.Cancelled)]
    [InlineData(11, StatusCode.ResourceExhausted)]
    [InlineData(12, StatusCode.PermissionDenied)]
    public async Task A_reset_becomes_a_status(int code, StatusCode expected)
    {
        await using var host = await TestHost.StartRawAsync(async context =>
        {
            // The whole request first: HttpClient does not tell the code of a reset that meets a request under way.
            while (await context.Request.Body.ReadAsync(new byte[100]) > 0)
            {
            }
            // Refused streams are tried again by HttpClient unless the response has started.
            context.Response.ContentType = "application/grpc";
            await context.Response.StartAsync();
            await context.Response.Body.FlushAsync();
            context.Features.Get<IHttpResetFeature>()!.Reset(code);
        });
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(expected);
        using var both = host.Client().Both();
        await both.RequestStream.CompleteAsync();
        await both.ResponseStream.MoveNext().FailsWith(expected);
    }

    [Fact]
    public async Task A_message_is_delivered_before_the_error_behind_it()
    {
        await using var host = await TestHost.StartRawAsync(Answer([.. s_note, .. s_note, 0, 0, 0, 0, 9], "0"));
        using var down = host.Client().Down(new Note());
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal("n", down.ResponseStream.Current.Text);
        await down.ResponseStream.MoveNext().FailsWith(StatusCode.Internal);
        await down.ResponseStream.MoveNext().FailsWith(StatusCode.Internal);
        Assert.Null(down.ResponseStream.Current);
    }

    [Fact]
    public async Task Responses_may_be_cut_anywhere()
    {
        await using var host = await TestHost.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            foreach (var b in (byte[])[.. s_note, .. Frames.Message([]), .. s_note])
            {
                await http.Response.Body.WriteAsync(new[] { b });
                await http.Response.Body.FlushAsync();
            }
            http.Response.AppendTrailer("grpc-status", "0");
        });
        using var down = host.Client().Down(new Note());
        var texts = new List<string>();
        await foreach (var note in down.ResponseStream.ReadAllAsync())
            texts.Add(note.Text);
        Assert.Equal(["n", "", "n"], texts);
    }

    [Fact]
    public async Task Requests_carry_the_headers_of_the_protocol()
    {
        IHeaderDictionary? seen = null;
        string? path = null;
        await using var host = await TestHost.StartRawAsync(async http =>
        {
            (seen, path) = (http.Request.Headers, http.Request.Path);
            Assert.Null(http.Request.ContentLength);
            await Answer(s_note, "0")(http);
        });
        var headers = new Metadata { { "x-a", "1" }, { "x-b-bin", new byte[] { 255, 0 } } };
        await host.Client().UnaryAsync(new Note(), headers, DateTime.UtcNow.AddSeconds(100)).ResponseAsync.Soon();
        Assert.Equal("/mem1.kit.Kit/Unary", path);
        Assert.Equal("trailers", seen!["te"]);
        Assert.Equal("application/grpc", seen["content-type"]);
        Assert.Contains("gzip", (string?)seen["grpc-accept-encoding"], StringComparison.Ordinal);
        Assert.StartsWith("grpc-dotnet/", seen["user-agent"]);
        Assert.Equal("1", seen["x-a"]);
        Assert.Equal("/wA", ((string?)seen["x-b-bin"])!.TrimEnd('='));
        Assert.Contains((string?)seen["grpc-timeout"], (string?[])["100S", "99900m", "99800m", "99700m", "99600m", "99500m"]);
    }

    [Fact]
    public async Task Compressed_responses_are_inflated()
    {
        await using var host = await TestHost.StartRawAsync(async http =>
        {
            http.Response.Headers["grpc-encoding"] = "gzip";
            await Answer(Frames.Message(Frames.Gzip(new Note { Text = "packed" }.ToByteArray()), flag: 1), "0")(http);
        });
        Assert.Equal("packed", (await host.Client().UnaryAsync(new Note()).ResponseAsync.Soon()).Text);
    }

    [Fact]
    public async Task A_connection_cut_in_the_middle_is_unavailable_or_internal()
    {
        await using var host = await TestHost.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            await http.Response.Body.WriteAsync(s_note);
            await http.Response.Body.FlushAsync();
            http.Abort();
        });
        using var down = host.Client().Down(new Note());
        var failure = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (await down.ResponseStream.MoveNext().Soon())
            {
            }
        });
        Assert.Contains(failure.StatusCode, (StatusCode[])[StatusCode.Unavailable, StatusCode.Internal]);
    }
}
