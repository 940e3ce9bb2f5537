"""An application as WSGI has it, for gunicorn."""

from http import HTTPStatus

import answers


def application(environ, start_response):
    path = environ["PATH_INFO"].encode("latin-1").decode()
    if path == "/fail":
        raise RuntimeError("on purpose")
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return iter(answers.EVENTS)
    status, headers, body = answer(environ, path)
    if status not in (204, 304):
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def answer(environ, path):
    if path == "/entity":
        return answers.entity(environ.get("HTTP_IF_NONE_MATCH"))
    if path.startswith("/echo/"):
        names = [key for key in environ if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")]
        headers = [(name.removeprefix("HTTP_").replace("_", "-").lower(), environ[name]) for name in sorted(names)]
        body = environ["wsgi.input"].read()
        return answers.echo(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], headers, body)
    return answers.FIXED.get(path, (404, [], b"nothing here"))
