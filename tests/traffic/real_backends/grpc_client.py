"""ADDRESS [CA [CERTIFICATE KEY]] -> what became of every kind of call, in lines that are the same on every way."""

import queue
import sys
from pathlib import Path

import grpc

TIMEOUT = 20
LARGE = bytes(range(256)) * 8 * 1024


def channel(address, ca=None, certificate=None, key=None):
    if ca is None:
        return grpc.insecure_channel(address)
    files = [Path(file).read_bytes() if file else None for file in (ca, key, certificate)]
    options = (("grpc.ssl_target_name_override", "localhost"),)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options)


def trailers(call):
    """A proxy with a clock gives a `Date` to an answer that has none (RFC 9110 §6.6.1)."""
    return [tuple(pair) for pair in call.trailing_metadata() if pair.key != "date"]


def unary(calls):
    call = calls.unary_unary("/shop.Events/Upper")
    metadata = (("tell", "a value"), ("tell-bin", b"\x00\xff\r\n"))
    answer, done = call.with_call(b"events", metadata=metadata, timeout=TIMEOUT)
    told = {key: value for key, value in done.initial_metadata() if key.startswith("told")}
    yield answer, sorted(told.items()), trailers(done)
    yield call(LARGE, timeout=TIMEOUT) == LARGE.upper()
    yield call(b"packed " * 1000, compression=grpc.Compression.Gzip, timeout=TIMEOUT)[:6]
    yield call(b"", timeout=TIMEOUT)


def client_streaming(calls):
    call = calls.stream_unary("/shop.Events/Join")
    yield call(iter([b"a", b"b", b"c"]), timeout=TIMEOUT)
    yield len(call(iter([LARGE] * 1), timeout=TIMEOUT))
    yield call(iter([]), timeout=TIMEOUT)


def server_streaming(calls):
    call = calls.unary_stream("/shop.Events/Count")
    yield b"".join(call(b"1000", timeout=TIMEOUT))[-6:]
    yield list(call(b"0", timeout=TIMEOUT))
    # One that is given up: the next call works.
    given_up = call(b"1000000", timeout=TIMEOUT)
    yield next(given_up)
    given_up.cancel()


def both_ways(calls):
    """Each message is sent only when the one before it has come back: nothing is held up on the way."""
    to_send = queue.SimpleQueue()
    answers = calls.stream_stream("/shop.Events/Echo")(iter(to_send.get, None), timeout=TIMEOUT)
    for message in (b"1", b"", LARGE, b"last"):
        to_send.put(message)
        yield next(answers) == message
    to_send.put(None)
    yield list(answers)


def failures(calls):
    for method in ("Fail", "Missing"):
        try:
            yield calls.unary_unary(f"/shop.Events/{method}")(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            yield method, error.code().name, error.details(), trailers(error)


def giving_up(calls):
    """The server learns of it."""
    waiting = calls.unary_stream("/shop.Events/Wait")(b"", timeout=TIMEOUT)
    yield next(waiting)
    waiting.cancel()
    yield calls.unary_unary("/shop.Events/IsGivenUp")(b"", timeout=TIMEOUT)
    yield list(calls.unary_stream("/shop.Events/Wait")(b"", timeout=0.5))


def main(arguments):
    with channel(*arguments) as calls:
        for kind in (unary, client_streaming, server_streaming, both_ways, failures, giving_up):
            try:
                for line in kind(calls):
                    print(kind.__name__, line)
            except grpc.RpcError as error:
                # A refusal ends what was tried; which one it was, is the code that the client was given.
                print(kind.__name__, error.code().name)


main(sys.argv[1:])
