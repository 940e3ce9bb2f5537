"""URL [CA [CERTIFICATE KEY]] -> what a conversation came to, in lines that are the same on every way."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

LARGE = bytes(range(256)) * 32 * 1024


def security(ca=None, *credential):
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=ca)
    if credential:
        context.load_cert_chain(*credential)
    return context


async def converse(connection):
    yield connection.subprotocol, connection.response.headers.get("Sec-WebSocket-Extensions")
    for message in ("hello", "grüße 🦀", "", b"\x00\x01", LARGE, LARGE.hex()):
        await connection.send(message)
        yield await connection.recv() == message
    await connection.send("ping me")
    yield await connection.recv()
    yield await (await connection.ping(b"and you?")) >= 0
    # In parts, each a frame of its own.
    await connection.send(["a", "b", "c"])
    yield await connection.recv()


async def main(url, *files):
    options = {"ssl": security(*files), "subprotocols": ["events.v1", "events.v2"], "max_size": None, "open_timeout": 20}
    try:
        async with connect(url, **options) as connection:
            async for line in converse(connection):
                print(line)
            await connection.send("bye")
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                print("the server closed first:", closed.rcvd.code, closed.rcvd.reason, closed.rcvd_then_sent)
        async with connect(url, **options) as connection:
            await connection.send("hello")
            print(await connection.recv())
            await connection.close(4001, "enough")
            print("the client closed first:", connection.close_code, connection.close_reason)
    except InvalidStatus as refused:
        print("refused:", refused.response.status_code)


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
