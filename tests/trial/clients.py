"""Clients with certificates: single requests, continuous load, and a slow upload."""

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
    """A persistent connection of a client; without an `identity` it presents no certificate."""

    def __init__(self, pki, address, identity):
        context = ssl.create_default_context(cafile=pki.path("server-ca.pem"))
        if identity:
            context.load_cert_chain(pki.path(f"{identity}.pem"), pki.path(f"{identity}.key"))
        self.http = http.client.HTTPSConnection(address, 8443, timeout=20, context=context)

    def get(self, path, headers=None):
        self.http.request("GET", path, headers=headers or {})
        return Answer(self.http.getresponse())

    def status(self, path):
        """The status; None if the answer is cut off, because its grant was removed while it was sent."""
        try:
            return self.get(path).status
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            self.close()
            return None

    def close(self):
        self.http.close()


class Client:
    """Sends each request on a new connection."""

    def __init__(self, pki, address):
        self.pki, self.address = pki, address

    def connect(self, identity):
        return Connection(self.pki, self.address, identity)

    def get(self, path, identity, headers=None):
        connection = self.connect(identity)
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
    """Continuous requests to all endpoints, on persistent and on new connections. Every request must be answered with 200."""

    PERSISTENT, NEW = 4, 2

    def __init__(self, pki, endpoints):
        self.pki, self.endpoints, self.identity = pki, set(endpoints), "producer"
        self.counts, self.presented, self.failures = {}, {}, []
        self.stopped = threading.Event()
        self.threads = [
            threading.Thread(target=self.send, args=(number, number < self.PERSISTENT))
            for number in range(self.PERSISTENT + self.NEW)
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
        """Ends the load and checks that no request failed."""
        self.end()
        assert not self.failures, f"of {self.requests} requests {len(self.failures)} failed: {self.failures[:5]}"
        assert min(self.counts.values()) > 20, self.counts

    @property
    def requests(self):
        return sum(self.counts.values())

    def present(self, identity):
        """Changes the identity of the clients; returns when every thread has used the new one."""
        self.identity = identity
        while set(self.presented.values()) != {identity}:
            time.sleep(0.01)

    def send(self, number, is_persistent):
        connection, identity, self.counts[number] = None, None, 0
        while not self.stopped.is_set():
            if connection is None or identity != self.identity:
                pod, identity = random.choice(list(self.endpoints)), self.identity
                connection = Connection(self.pki, pod.address, identity)
            try:
                answer = connection.get(f"/echo/{number}/{self.counts[number]}")
                is_right = answer.status == 200 and answer.json()["path"] == f"/echo/{number}/{self.counts[number]}"
                if not is_right:
                    self.failures.append(repr(answer))
                if answer.closes or not is_persistent:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{pod.address}: {error!r}")
                connection = None
            self.counts[number] += 1
            self.presented[number] = identity
            # The pause limits the rate, because pods and clients share the machine.
            time.sleep(0.02)


class SlowUpload:
    """A request whose body is sent in pieces over some seconds."""

    PIECES = 30

    def __init__(self, pki, address, identity, seconds):
        self.connection, self.pause = Connection(pki, address, identity), seconds / self.PIECES
        self.status, self.started = None, False
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
