"""Clients with certificates: one that asks, some that ask without an end, and one that takes its time."""

import http.client
import json
import random
import ssl
import threading
import time


class Answer:
    def __init__(self, response):
        self.status, self.closes, self.body = response.status, response.will_close, response.read()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Connection:
    """A kept-alive connection of somebody; `who` may be nobody."""

    def __init__(self, pki, address, who):
        context = ssl.create_default_context(cafile=pki.path("server-ca.pem"))
        if who:
            context.load_cert_chain(pki.path(f"{who}.pem"), pki.path(f"{who}.key"))
        self.http = http.client.HTTPSConnection(address, 8443, timeout=20, context=context)

    def get(self, path, headers=None):
        self.http.request("GET", path, headers=headers or {})
        return Answer(self.http.getresponse())

    def status(self, path):
        """Nothing where the answer is broken off: what it was granted by has gone while it ran."""
        try:
            return self.get(path).status
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            self.close()
            return None

    def close(self):
        self.http.close()


class Client:
    """Asks each time on a connection of its own."""

    def __init__(self, pki, address):
        self.pki, self.address = pki, address

    def connect(self, who):
        return Connection(self.pki, self.address, who)

    def get(self, path, who, headers=None):
        connection = self.connect(who)
        try:
            return connection.get(path, headers)
        finally:
            connection.close()

    def server_certificate(self):
        connection = self.connect(None)
        connection.http.connect()
        certificate = connection.http.sock.getpeercert(binary_form=True)
        connection.close()
        return certificate


class Load:
    """Requests without an end, on connections that are kept and on new ones, at whatever pods there are. Each is held to be answered."""

    KEPT, NEW = 4, 2

    def __init__(self, pki, endpoints):
        self.pki, self.endpoints, self.who = pki, set(endpoints), "producer"
        self.counts, self.presented, self.failures = {}, {}, []
        self.stopped = threading.Event()
        self.threads = [
            threading.Thread(target=self.ask_on, args=(number, number < self.KEPT)) for number in range(self.KEPT + self.NEW)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, failed, *_):
        self.end()
        if not failed:
            self.stop()

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def stop(self):
        """Ends, and tells what failed."""
        self.end()
        assert not self.failures, f"of {self.requests} requests {len(self.failures)} failed: {self.failures[:5]}"
        assert min(self.counts.values()) > 20, self.counts

    @property
    def requests(self):
        return sum(self.counts.values())

    def present(self, who):
        """From now on it is somebody else who asks; returns when nobody else is heard of any more."""
        self.who = who
        while set(self.presented.values()) != {who}:
            time.sleep(0.01)

    def ask_on(self, number, keeps):
        connection, who, self.counts[number] = None, None, 0
        while not self.stopped.is_set():
            if connection is None or who != self.who:
                pod, who = random.choice(list(self.endpoints)), self.who
                connection = Connection(self.pki, pod.address, who)
            try:
                answer = connection.get(f"/echo/{number}/{self.counts[number]}")
                good = answer.status == 200 and answer.json()["path"] == f"/echo/{number}/{self.counts[number]}"
                if not good:
                    self.failures.append(repr(answer))
                if answer.closes or not keeps:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{pod.address}: {error!r}")
                connection = None
            self.counts[number] += 1
            self.presented[number] = who
            # Somebody who asks a few dozen times a second: the machine has others to serve.
            time.sleep(0.02)


class SlowUpload:
    """A request whose body comes in pieces over some seconds."""

    PIECES = 30

    def __init__(self, pki, address, who, seconds):
        self.connection, self.pause, self.status, self.started = Connection(pki, address, who), seconds / self.PIECES, None, False
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def send(self):
        http = self.connection.http
        http.putrequest("POST", "/echo/upload")
        http.putheader("Content-Length", str(1000 * self.PIECES))
        http.endheaders()
        for _ in range(self.PIECES):
            http.send(b"x" * 1000)
            self.started = True
            time.sleep(self.pause)
        answer = Answer(http.getresponse())
        self.status = answer.status if answer.json()["length"] == 1000 * self.PIECES else 0

    def answer(self):
        self.thread.join()
        return self.status
