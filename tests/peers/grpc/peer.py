#!/usr/bin/env python3
"""The Kit service of Compat.Grpc.Tests on gRPC's C core (Debian package python3-grpcio), as a server and as a client.

    peer.py server             prints "port N", serves until its standard input closes
    peer.py client ADDRESS     checks a .NET server; prints "ok NAME" per check, stops at the first failure
    peer.py client ADDRESS CA  the same over TLS, trusting the certificate in the file CA

Messages are encoded by hand, so no generated stubs are needed: Note { text = 1 (string), data = 2 (bytes), number = 3 (int32) }.
"""
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "mem1.kit.Kit"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001F608\t\n"


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def note(text="", number=0, data=b""):
    out = b""
    if text:
        raw = text.encode()
        out += b"\x0a" + varint(len(raw)) + raw
    if data:
        out += b"\x12" + varint(len(data)) + data
    if number:
        out += b"\x18" + varint(number)
    return out


def parse(message):
    fields = {1: b"", 2: b"", 3: 0}
    at = 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = read()
        if tag & 7 == 2:
            size = read()
            fields[tag >> 3] = message[at:at + size]
            at += size
        else:
            fields[tag >> 3] = read()
    return fields[1].decode(), fields[3], fields[2]


class Kit(grpc.GenericRpcHandler):
    """Answers by the text of the first message; the .NET side scripts its own Kit the same way."""

    def service(self, details):
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }
        service, _, method = details.method.rpartition("/")
        return handlers.get(method) if service == "/" + SERVICE else None

    def __init__(self):
        self.cancelled = threading.Event()

    def unary(self, message, context):
        text, number, data = parse(message)
        for key, value in context.invocation_metadata():
            if key == "x-echo":
                context.send_initial_metadata((("x-echo", value),))
            if key == "x-echo-bin":
                context.set_trailing_metadata((("x-echo-bin", value), ("x-echo-bin", b"\x01")))
        if text == "fail":
            context.abort(grpc.StatusCode.NOT_FOUND, SPECIAL)
        if text == "sleep":
            context.add_callback(self.cancelled.set)
            time.sleep(2)
        if text == "cancelled?":
            return note(number=int(self.cancelled.wait(10)))
        if text == "deadline":
            return note(number=int(context.time_remaining()))
        return message

    def up(self, messages, context):
        return note(number=sum(parse(m)[1] for m in messages))

    def down(self, message, context):
        for i in range(parse(message)[1]):
            yield note(number=i, data=bytes(1000))

    def both(self, messages, context):
        for message in messages:
            if parse(message)[0] == "fail":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
            yield message


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((Kit(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print("port", port, flush=True)
    sys.stdin.read()
    server.stop(0)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def expect(code, call, detail=None):
    try:
        call()
    except grpc.RpcError as error:
        check(error.code() == code, f"{code} expected, got {error.code()}: {error.details()}")
        check(detail is None or error.details() == detail, f"detail {error.details()!r}")
        return error
    raise AssertionError(f"{code} expected, got a result")


def client(address, ca):
    options = [("grpc.max_receive_message_length", 64 << 20)]
    if ca:
        with open(ca, "rb") as file:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()), options)
    else:
        channel = grpc.insecure_channel(address, options)
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    up = channel.stream_unary(f"/{SERVICE}/Up")
    down = channel.unary_stream(f"/{SERVICE}/Down")
    both = channel.stream_stream(f"/{SERVICE}/Both")

    def echo_unary():
        check(parse(unary(note("h\u00e9", 7))) == ("h\u00e9", 7, b""), "echo")
        check(unary(b"") == b"", "empty message")

    def client_stream():
        check(parse(up(iter([note(number=i) for i in range(1, 101)])))[1] == 5050, "sum")
        check(up(iter([])) == b"", "no messages")

    def server_stream():
        check([parse(m)[1] for m in down(note(number=50))] == list(range(50)), "order")
        check(list(down(note())) == [], "no messages")

    def duplex():
        sent = [note(str(i), i, bytes(i * 300)) for i in range(100)]
        check(list(both(iter(sent))) == sent, "echo")

    def status():
        error = expect(grpc.StatusCode.NOT_FOUND, lambda: unary(note("fail")), SPECIAL)
        check(("x-why", "because") in [tuple(m) for m in error.trailing_metadata()], "trailers of an error")
        expect(grpc.StatusCode.FAILED_PRECONDITION, lambda: list(both(iter([note("a"), note("fail")]))), "as asked")
        expect(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary(f"/{SERVICE}/Nothing")(b""), "Method is unimplemented.")
        expect(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary("/no.Such/Thing")(b""), "Service is unimplemented.")

    def metadata():
        response, call = unary.with_call(note(), metadata=(("x-echo", "v"), ("x-echo-bin", b"\x00\xff")))
        check(("x-echo", "v") in [tuple(m) for m in call.initial_metadata()], "initial metadata")
        check(("x-echo-bin", b"\x00\xff") in [tuple(m) for m in call.trailing_metadata()], "trailing metadata")

    def compression():
        check(parse(unary(note("z" * 50000), compression=grpc.Compression.Gzip))[0] == "z" * 50000, "gzip")
        check(parse(unary(note("z" * 50000), compression=grpc.Compression.Deflate))[0] == "z" * 50000, "deflate")

    def deadline():
        expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: unary(note("sleep"), timeout=0.3))
        check(parse(unary(note("cancelled?")))[1] == 1, "the handler's token has fired")
        check(55 <= parse(unary(note("deadline"), timeout=60))[1] <= 60, "deadline as the server sees it")

    def cancellation():
        responses = both(iter(lambda: time.sleep(0.01) or note("tick"), None))
        next(responses)
        responses.cancel()
        expect(grpc.StatusCode.CANCELLED, lambda: [None for _ in responses])

    def sizes():
        big = note(data=bytes(range(256)) * 12000)
        check(unary(big) == big, "3 MB")
        expect(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: unary(note(data=bytes(5 << 20))))

    def parallel():
        calls = [unary.future(note(number=i)) for i in range(300)]
        check([parse(c.result())[1] for c in calls] == list(range(300)), "answers")

    for run in (echo_unary, client_stream, server_stream, duplex, status, metadata, compression, deadline, cancellation, sizes, parallel):
        run()
        print("ok", run.__name__, flush=True)
    channel.close()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve()
    else:
        client(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
