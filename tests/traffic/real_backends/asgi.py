"""An application as ASGI has it, for uvicorn."""

import answers


async def application(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path == "/fail":
        raise RuntimeError("on purpose")
    if path == "/stream":
        await start(send, 200, [("Content-Type", "text/event-stream")])
        for event in answers.EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})
        return
    status, headers, body = await answer(scope, receive, path)
    if status not in (204, 304):
        headers = [*headers, ("Content-Length", str(len(body)))]
    await start(send, status, headers)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def start(send, status, headers):
    headers = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(scope, receive, path):
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    if path == "/entity":
        return answers.entity(dict(headers).get("if-none-match"))
    if path.startswith("/echo/"):
        body = await whole(receive)
        return answers.echo(scope["method"], path, scope["query_string"].decode(), headers, body)
    return answers.FIXED.get(path, (404, [], b"nothing here"))


async def whole(receive):
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
