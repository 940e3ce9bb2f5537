"""A gRPC server whose messages are bytes: what is promised of them does not depend on how they are packed."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc


def upper(request, context):
    """Tells what it was told of: metadata comes back as metadata, at both ends of the answer."""
    told = dict(context.invocation_metadata())
    context.send_initial_metadata((("told", told.get("tell", "-")), ("told-bin", told.get("tell-bin", b"-"))))
    context.set_trailing_metadata((("length", str(len(request))),))
    return request.upper()


def join(requests, _):
    return b",".join(requests)


def count(request, _):
    for number in range(int(request)):
        yield str(number).encode()


def echo(requests, _):
    yield from requests


def fail(_, context):
    context.set_trailing_metadata((("hint", "17"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such event: 100 % größer")


def wait(_, context):
    """Says so, and ends only when the client does not wait any longer."""
    ended = Event()
    # Called even where this generator is not: a call that ends while it is held up at `yield` never comes back to it.
    context.add_callback(ended.set)
    context.add_callback(given_up.set)
    yield b"waiting"
    ended.wait()


def is_given_up(_, __):
    given_up.wait()
    return b"given up"


given_up = Event()
handlers = {
    "Upper": grpc.unary_unary_rpc_method_handler(upper),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_stream_rpc_method_handler(wait),
    "IsGivenUp": grpc.unary_unary_rpc_method_handler(is_given_up),
}
server = grpc.server(ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Events", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{port}", file=sys.stderr)
server.wait_for_termination()
