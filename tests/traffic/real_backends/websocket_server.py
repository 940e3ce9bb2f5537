"""A WebSocket server that gives every message back; `bye` makes it close the connection."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        if message == "bye":
            await connection.close(4000, "as you like")
            return
        if message == "ping me":
            delay = await (await connection.ping(b"are you there?"))
            message = "pong" if delay >= 0 else "never"
        await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, subprotocols=["events.v2"], max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on 127.0.0.1:{port}", file=sys.stderr)
        await server.serve_forever()


asyncio.run(main())
