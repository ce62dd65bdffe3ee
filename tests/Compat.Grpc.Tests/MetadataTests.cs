// The plain types: metadata, status, options. No network.

using Grpc.Core;

namespace Compat.Grpc.Tests;

public sealed class MetadataTests
{
    [Theory]
    [InlineData("")]
    [InlineData("a b")]
    [InlineData("ü")]
    [InlineData("a:b")]
    [InlineData(":path")]
    public void A_bad_key_is_refused(string key) => Assert.Throws<ArgumentException>(() => new Metadata { { key, "v" } });

    [Fact]
    public void Keys_and_kinds_must_agree()
    {
        Assert.Throws<ArgumentException>(() => new Metadata.Entry("a-bin", "text"));
        Assert.Throws<ArgumentException>(() => new Metadata.Entry("a", new byte[1]));
        Assert.Throws<ArgumentNullException>(() => new Metadata.Entry(null!, "v"));
        Assert.Throws<ArgumentNullException>(() => new Metadata.Entry("a", (string)null!));
        Assert.Throws<ArgumentNullException>(() => new Metadata.Entry("a-bin", (byte[])null!));
        Assert.Throws<ArgumentNullException>(() => new Metadata().Add(null!));
    }

    [Fact]
    public void Keys_are_lowered_and_found_in_any_case_last_first()
    {
        var metadata = new Metadata { { "ABC.d_e-1", "1" }, { "abc.d_e-1", "2" } };
        Assert.Equal("abc.d_e-1", metadata[0].Key);
        Assert.Equal("2", metadata.GetValue("Abc.D_E-1"));
        Assert.Equal(["1", "2"], metadata.GetAll("ABC.D_E-1").Select(e => e.Value));
        Assert.Null(metadata.Get("x"));
        Assert.Null(metadata.GetValue("x"));
        Assert.Null(metadata.GetValueBytes("x-bin"));
    }

    [Fact]
    public void Bytes_are_copied_in_and_out()
    {
        byte[] bytes = [1, 2];
        var entry = new Metadata.Entry("a-bin", bytes);
        bytes[0] = 9;
        entry.ValueBytes[1] = 9;
        Assert.Equal([1, 2], entry.ValueBytes);
        Assert.True(entry.IsBinary);
        Assert.Throws<InvalidOperationException>(() => entry.Value);
        Assert.Equal([(byte)'v'], new Metadata.Entry("a", "v").ValueBytes);
        Assert.Equal("[Entry: key=a, value=v]", new Metadata.Entry("a", "v").ToString());
    }

    [Fact]
    public void It_is_a_list_and_Empty_is_frozen()
    {
        var metadata = new Metadata { { "a", "1" }, { "b", "2" } };
        var entry = new Metadata.Entry("c", "3");
        metadata.Insert(1, entry);
        Assert.Equal(1, metadata.IndexOf(entry));
        Assert.Contains(entry, metadata);
        metadata[0] = entry;
        metadata.RemoveAt(2);
        Assert.True(metadata.Remove(entry));
        var copy = new Metadata.Entry[1];
        metadata.CopyTo(copy, 0);
        Assert.Same(entry, copy[0]);
        metadata.Clear();
        Assert.Empty(metadata);
        Assert.False(metadata.IsReadOnly);
        Assert.True(Metadata.Empty.IsReadOnly);
        Assert.Equal("Object is read only", Assert.Throws<InvalidOperationException>(() => Metadata.Empty.Add("a", "b")).Message);
    }

    [Fact]
    public void A_status_says_what_it_is()
    {
        var cause = new InvalidOperationException("x");
        Assert.Equal("Status(StatusCode=\"NotFound\", Detail=\"d\")", new Status(StatusCode.NotFound, "d").ToString());
        Assert.Equal(
            "Status(StatusCode=\"NotFound\", Detail=\"d\", DebugException=\"System.InvalidOperationException: x\")",
            new Status(StatusCode.NotFound, "d", cause).ToString());
        Assert.Equal(StatusCode.OK, default(Status).StatusCode);
        var exception = new RpcException(new Status(StatusCode.NotFound, "d", cause));
        Assert.Equal(exception.Status.ToString(), exception.Message);
        Assert.Same(cause, exception.InnerException);
        Assert.Empty(exception.Trailers);
        Assert.Equal("m", new RpcException(Status.DefaultCancelled, "m").Message);
        var trailers = new Metadata { { "a", "b" } };
        Assert.Same(trailers, new RpcException(Status.DefaultSuccess, trailers).Trailers);
    }

    [Fact]
    public void Call_options_are_changed_by_copy()
    {
        var headers = new Metadata();
        var deadline = DateTime.UtcNow;
        using var source = new CancellationTokenSource();
        var write = new WriteOptions(WriteFlags.NoCompress);
        var credentials = CallCredentials.FromInterceptor((_, _) => Task.CompletedTask);
        var none = default(CallOptions);
        var options = none.WithHeaders(headers).WithDeadline(deadline).WithCancellationToken(source.Token)
            .WithWriteOptions(write).WithCredentials(credentials);
        Assert.Same(headers, options.Headers);
        Assert.Equal(deadline, options.Deadline);
        Assert.Equal(source.Token, options.CancellationToken);
        Assert.Same(write, options.WriteOptions);
        Assert.Same(credentials, options.Credentials);
        Assert.Null(none.Headers);
        Assert.Null(none.Deadline);
    }

    [Fact]
    public async Task A_writer_double_without_cancellation_still_writes()
    {
        IAsyncStreamWriter<string> writer = new PlainWriter();
        await writer.WriteAsync("a", CancellationToken.None);
        await Assert.ThrowsAsync<NotSupportedException>(async () =>
        {
            using var source = new CancellationTokenSource();
            await writer.WriteAsync("b", source.Token);
        });
    }

    private sealed class PlainWriter : IAsyncStreamWriter<string>
    {
        public WriteOptions? WriteOptions { get; set; }

        public Task WriteAsync(string message) => Task.CompletedTask;
    }
}
