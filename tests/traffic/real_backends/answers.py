"""What the Python applications answer: the paths of real_backends.rs that need nothing of the request."""

import gzip
import hashlib
import json

EVENTS = [b"data: 1\n\n", b"id: 2\ndata: 2\n\n", b": the end\n\n"]
ENTITY = b"the first version"
ETAG = '"v1"'

FIXED = {
    "/old": (302, [("Location", "/echo/new?x=1")], b""),
    "/cookies": (200, [("Set-Cookie", "a=1; Path=/; HttpOnly"), ("Set-Cookie", "b=2; SameSite=Lax")], b"two"),
    "/gzip": (200, [("Content-Encoding", "gzip")], gzip.compress(b"event " * 5000, mtime=0)),
    "/empty": (204, [], b""),
    "/early": (413, [("Connection", "close")], b"too large"),
    "/download": (200, [("Content-Type", "application/octet-stream")], bytes(range(256)) * 16 * 1024),
}


def entity(if_none_match):
    """A resource that has a version."""
    if if_none_match == ETAG:
        return 304, [("ETag", ETAG)], b""
    return 200, [("ETag", ETAG), ("Cache-Control", "max-age=60")], ENTITY


def echo(method, path, query, headers, body):
    """The request as the application got it. Of several fields of one name their values in order."""
    said = {
        "method": method,
        "path": path,
        "query": query,
        "headers": {name: ", ".join(value for key, value in headers if key == name) for name, _ in headers},
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return 200, [("Content-Type", "application/json")], json.dumps(said).encode()
