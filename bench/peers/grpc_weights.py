#!/usr/bin/env python3
"""Weights over grpcio's C core: one server and N receivers, each in a process of its own, bytes in chunks without protobuf.

Prints {"seconds": S}: from the moment all receivers are ready until the last has everything. Needs Debian's python3-grpcio.
"""
import argparse
import json
import multiprocessing
import time
from concurrent import futures

import grpc

METHOD = "/mem1.bench.Weights/Pull"
OPTIONS = [("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26), ("grpc.so_reuseport", 0)]


def serve(ready, stop, size, chunk, receivers):
    blob = bytes(chunk)

    def pull(request, context):
        left = size
        while left > 0:
            part = min(chunk, left)
            yield blob if part == chunk else blob[:part]
            left -= part

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_stream_rpc_method_handler(pull) if details.method == METHOD else None

    server = grpc.server(futures.ThreadPoolExecutor(receivers), options=OPTIONS)
    server.add_generic_rpc_handlers((Handler(),))
    ready.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    stop.wait()
    server.stop(None)


def receive(port, barrier, size):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        barrier.wait()
        got = sum(len(part) for part in channel.unary_stream(METHOD)(b""))
    if got != size:
        raise SystemExit(f"{got} of {size} bytes arrived")
    barrier.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receivers", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=256 << 20)
    parser.add_argument("--chunk", type=int, default=64 << 10)
    wanted = parser.parse_args()
    context = multiprocessing.get_context("spawn")  # the C core does not survive a fork
    ready, stop, barrier = context.Queue(), context.Event(), context.Barrier(wanted.receivers + 1)
    server = context.Process(target=serve, args=(ready, stop, wanted.bytes, wanted.chunk, wanted.receivers), daemon=True)
    server.start()
    port = ready.get(timeout=60)
    receivers = [context.Process(target=receive, args=(port, barrier, wanted.bytes), daemon=True) for _ in range(wanted.receivers)]
    for receiver in receivers:
        receiver.start()
    barrier.wait(timeout=120)
    start = time.perf_counter()
    barrier.wait(timeout=600)
    seconds = time.perf_counter() - start
    stop.set()
    server.join(10)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
