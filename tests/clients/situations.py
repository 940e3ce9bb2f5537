"""Argument: the stage, `main` or `drain`. Brings Python's clients into every situation of deploy/clients.md.

Prints `CLIENT | SITUATION | RESULT` for each. The environment names the URLs and files: URL, AGED, DRAINED, CA, and the
certificates PRODUCER and CONSUMER, each without `.crt` and `.key`.
"""

import asyncio
import os
import ssl
import sys
import threading

import aiohttp
import grpc
import httpx
import requests

env = os.environ
LIMIT = 60
SIZES = {"upload 70 kB": 70_000, "upload 1 MB": 1_000_000, "upload 10 MB": 10_000_000}


def credential(name):
    return env[name] + ".crt", env[name] + ".key"


def context(name):
    context = ssl.create_default_context(cafile=env["CA"])
    if name:
        context.load_cert_chain(*credential(name))
    return context


def say(client, situation, act):
    try:
        result = act()
    except Exception as error:
        result = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    # One write, because several threads print.
    sys.stdout.write(f"{client} | {situation} | {result}\n")
    sys.stdout.flush()


class Requests:
    name = "requests"

    def __init__(self, who):
        self.session = requests.Session()
        # Without this, a variable of the environment would take the place of `verify`.
        self.session.trust_env = False
        self.session.verify = env["CA"]
        self.session.cert = credential(who) if who else None

    def get(self, url):
        return self.session.get(url, timeout=LIMIT).status_code

    def post(self, url, size):
        return self.session.post(url, data=b"x" * size, timeout=LIMIT).status_code


class Httpx1:
    name, http2 = "httpx", False

    def __init__(self, who):
        self.client = httpx.Client(http2=self.http2, verify=context(who), timeout=LIMIT)

    def get(self, url):
        return self.client.get(url).status_code

    def post(self, url, size):
        return self.client.post(url, content=b"x" * size).status_code


class Httpx2(Httpx1):
    name, http2 = "httpx, HTTP/2", True


class Aiohttp:
    """Each object has a loop of its own, and a session in it."""

    name = "aiohttp"

    def __init__(self, who):
        self.loop = asyncio.new_event_loop()
        self.session = self.loop.run_until_complete(self.open(who))

    async def open(self, who):
        connector = aiohttp.TCPConnector(ssl=context(who))
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LIMIT))

    def ask(self, method, url, data=None):
        async def ask():
            async with self.session.request(method, url, data=data) as answer:
                await answer.read()
                return answer.status

        return self.loop.run_until_complete(ask())

    def get(self, url):
        return self.ask("GET", url)

    def post(self, url, size):
        return self.ask("POST", url, b"x" * size)


def many(statuses):
    good = sum(status == 200 for status in statuses)
    return f"{good} × 200" + ("" if good == len(statuses) else f", others {set(statuses) - {200}}")


async def burst_of_httpx(http2):
    # One connection over HTTP/2. Without a bound httpx would open a connection for each request of HTTP/1.1.
    limits = httpx.Limits(max_connections=1 if http2 else 100)
    client = httpx.AsyncClient(http2=http2, verify=context("PRODUCER"), timeout=LIMIT, limits=limits)
    async with client:
        answers = await asyncio.gather(*(client.get(env["URL"] + "/events") for _ in range(1000)))
    return many([answer.status_code for answer in answers])


async def burst_of_aiohttp():
    connector = aiohttp.TCPConnector(ssl=context("PRODUCER"))

    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask():
            async with session.get(env["URL"] + "/events") as answer:
                await answer.read()
                return answer.status

        return many(await asyncio.gather(*(ask() for _ in range(1000))))


def grpc_call(who, size):
    def read(path):
        with open(path, "rb") as file:
            return file.read()

    files = credential(who) if who else None
    keys = {"private_key": read(files[1]), "certificate_chain": read(files[0])} if files else {}
    trust = grpc.ssl_channel_credentials(root_certificates=read(env["CA"]), **keys)
    with grpc.secure_channel(env["URL"].removeprefix("https://"), trust) as channel:
        call = channel.unary_unary("/shop.Events/Publish")
        try:
            return call(b"x" * size, timeout=LIMIT)
        except grpc.RpcError as error:
            return error.code().name


def main():
    for kind in (Requests, Httpx1, Httpx2, Aiohttp):
        for situation, size in SIZES.items():
            say(kind.name, situation, lambda: kind("CONSUMER").post(env["URL"] + "/events", size))
        say(kind.name, "401 to an upload", lambda: kind(None).post(env["URL"] + "/events", 70_000))
        say(kind.name, "103", lambda: kind("PRODUCER").get(env["URL"] + "/early"))

        def aged():
            client = kind("PRODUCER")
            return f"{client.get(env['AGED'] + '/slow')}, {client.get(env['AGED'] + '/events')}"

        say(kind.name, "age within a request", aged)
    say("httpx", "burst", lambda: asyncio.run(burst_of_httpx(False)))
    say("httpx, HTTP/2", "burst", lambda: asyncio.run(burst_of_httpx(True)))
    say("aiohttp", "burst", lambda: asyncio.run(burst_of_aiohttp()))
    for situation, size in SIZES.items():
        say("grpcio", situation, lambda: grpc_call("CONSUMER", size))
    say("grpcio", "401 to an upload", lambda: grpc_call(None, 70_000))


def drain():
    def ask(kind):
        say(kind.name, "drain within a request", lambda: kind("PRODUCER").get(env["DRAINED"] + "/gated"))

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in (Requests, Httpx1, Httpx2, Aiohttp)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


{"main": main, "drain": drain}[sys.argv[1]]()
