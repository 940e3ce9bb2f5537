#!/usr/bin/env bash
# A client that sends a complete request and then closes its sending side (TCP FIN) still waits for the answer. HTTP servers
# react differently, and most servers that close the connection let the handler of the request run to its end. So the end of a
# connection does not tell a proxy that the work of the backend has ended; only an answer does.
#
# Result on 2026-11-30 (Python 3.11, Node.js 20.20), with a handler that runs for two seconds:
#   server               answer                            handler
#   uvicorn 0.54.0       none: closed at once              gets `http.disconnect`; runs on unless it reads that
#   daphne 4.2.3         none: closed at once              gets `http.disconnect`; runs on unless it reads that
#   hypercorn 0.18.0     after the handler's end           gets `http.disconnect`; runs on unless it reads that
#   aiohttp 3.14.5       none: closed at once              gets no event, runs to its end
#   tornado 6.6.1        none: closed at once              gets `on_connection_close`, runs to its end
#   granian 2.8.9, WSGI  none: closed at once              gets no event, runs to its end
#   node:http            none: closed at once              gets `aborted` and `close`, runs to its end
#   gunicorn 27.0.1      after the handler's end           gets no event, runs to its end
#   waitress 3.0.2       after the handler's end           gets no event, runs to its end
#   cheroot 11.1.2       after the handler's end           gets no event, runs to its end
#
# The script needs python3 with venv, node, and a package registry. It writes only into a temporary folder, and exits with 1 if a
# server differs from the table.
source "$(dirname "$0")/environment.sh" uvicorn==0.54.0 hypercorn==0.18.0 daphne==4.2.3 gunicorn==27.0.1 waitress==3.0.2 \
  aiohttp==3.14.5 tornado==6.6.1 granian==2.8.9 cheroot==11.1.2

cat >handlers.py <<'PY'
import asyncio, os, sys, time

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(what + "\n")

def wsgi(environ, start_response):
    note("begins")
    time.sleep(2)
    note("ends")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("HTTP only")
    note("begins")
    await receive()
    left = asyncio.create_task(receive())
    done, _ = await asyncio.wait([left], timeout=2)
    note("told" if done else "not told")
    if done:
        await asyncio.sleep(1)
    left.cancel()
    note("ends")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def on_aiohttp(port):
    from aiohttp import web
    async def handle(request):
        note("begins")
        await asyncio.sleep(2)
        note("ends")
        return web.Response(text="ok")
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()

async def on_tornado(port):
    from tornado.web import Application, RequestHandler
    class Handler(RequestHandler):
        def on_connection_close(self):
            note("told")
        async def get(self):
            note("begins")
            await asyncio.sleep(2)
            note("ends")
            self.write("ok")
    Application([("/", Handler)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()

def on_cheroot(port):
    from cheroot import wsgi as server
    server.Server(("127.0.0.1", port), wsgi).start()

if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "cheroot":
        on_cheroot(port)
    else:
        asyncio.run({"aiohttp": on_aiohttp, "tornado": on_tornado}[name](port))
PY

cat >server.mjs <<'JS'
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
const note = (what) => appendFileSync(process.env.NOTES, what + '\n');
createServer((request, response) => {
  note('begins');
  request.on('aborted', () => note('told'));
  setTimeout(() => { note('ends'); response.end('ok'); }, 2000);
}).listen(Number(process.argv[2]), '127.0.0.1');
JS

cat >client.py <<'PY'
"""Sends one request and FIN; prints the answer and the notes of the handler."""
import os, socket, sys, time

port, notes = int(sys.argv[1]), os.environ["NOTES"]
for _ in range(200):
    try:
        connection = socket.create_connection(("127.0.0.1", port))
        break
    except OSError:
        time.sleep(0.1)
open(notes, "w").close()
read = lambda: open(notes).read().split("\n")[:-1]
connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
deadline = time.time() + 10
while "begins" not in read() and time.time() < deadline:
    time.sleep(0.02)
connection.shutdown(socket.SHUT_WR)
connection.settimeout(5)
try:
    answered = connection.recv(4096)
except OSError:
    answered = b""
worked_on = "ends" not in read()
while "ends" not in read() and time.time() < deadline:
    time.sleep(0.02)
seen = read()
print("answered" if answered else "closed", "told" if "told" in seen else "untold",
      "works-on" if "ends" in seen and (worked_on or answered) else "stopped")
PY

port=19300
failed=0
look() { # NAME EXPECTED COMMAND…, where PORT stands for the port
  local name="$1" expected="$2" seen
  shift 2
  port=$((port + 1))
  export NOTES="$folder/notes-$port"
  "${@//PORT/$port}" >"$folder/$port.log" 2>&1 &
  local server=$!
  seen="$(venv/bin/python client.py "$port")"
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  printf '%-16s %s\n' "$name" "$seen"
  if [ "$seen" != "$expected" ]; then
    echo "  expected: $expected" >&2
    failed=1
  fi
}

look "uvicorn" "closed told works-on" venv/bin/uvicorn --lifespan off --port PORT handlers:asgi
look "daphne" "closed told works-on" venv/bin/daphne -p PORT handlers:asgi
look "hypercorn" "answered told works-on" venv/bin/hypercorn -b 127.0.0.1:PORT handlers:asgi
look "aiohttp" "closed untold works-on" venv/bin/python handlers.py aiohttp PORT
look "tornado" "closed told works-on" venv/bin/python handlers.py tornado PORT
look "granian (WSGI)" "closed untold works-on" venv/bin/granian --interface wsgi --port PORT handlers:wsgi
look "node:http" "closed told works-on" node server.mjs PORT
look "gunicorn" "answered untold works-on" venv/bin/gunicorn -b 127.0.0.1:PORT handlers:wsgi
look "waitress" "answered untold works-on" venv/bin/waitress-serve --listen=127.0.0.1:PORT handlers:wsgi
look "cheroot" "answered untold works-on" venv/bin/python handlers.py cheroot PORT
exit "$failed"
