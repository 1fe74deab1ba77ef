"""Clients and servers of another kind: plain blocking sockets, in threads.

What they see is what the kernel says, with no stream and no event loop between.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import socket
import ssl
import struct
import threading

import anyio.to_thread

#: Seconds after which a socket that waits is a failure. Never the expected end.
BOUND = 60.0

#: With this, ``close`` sends RST.
LINGER = struct.pack("ii", 1, 0)

ENDED = "ended"
RESET = "reset"
REFUSED = "refused"


def connect(address, context=None):
    """A connected socket. With ``context`` it speaks TLS."""
    if isinstance(address, str):
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(BOUND)
            made.connect(address)
        except BaseException:
            made.close()
            raise
    else:
        made = socket.create_connection(address, timeout=BOUND)
    if context is None:
        return made
    try:
        return context.wrap_socket(made, server_hostname=address[0])
    except BaseException:
        made.close()
        raise


def context_of(reachable):
    """What a plain client needs for TLS; ``None`` where there is none."""
    try:
        return reachable.client_ssl_context
    except AttributeError:
        return None


def end_of(sock):
    """What comes after all bytes."""
    try:
        while sock.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        return RESET
    return ENDED


def below_tls(sock):
    """The socket itself; ``ssl`` takes a reset for an end."""
    if not isinstance(sock, ssl.SSLSocket):
        return sock
    raw = socket.socket(fileno=sock.detach())
    raw.settimeout(BOUND)
    return raw


def attempt(address):
    """How a connection ends that says nothing and waits."""
    try:
        made = connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        return REFUSED
    except ConnectionResetError:
        return RESET
    with made:
        return end_of(made)


def close_with_reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    sock.close()


def in_thread(function, *args, **options):
    """Await ``function`` in a worker thread."""
    return anyio.to_thread.run_sync(functools.partial(function, *args, **options))


class Server:
    """Accepts in a thread of its own, and runs a plain function on each connection.

    ::

        with Server(echo) as address: ...
    """

    def __init__(self, handler, address=("127.0.0.1", 0)):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._handler = handler
        self._listening = socket.socket(family)
        self._listening.bind(address)
        self._listening.listen(64)
        self.address = self._listening.getsockname()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info):
        # What wakes a thread in accept(), on every system: a connection.
        self._over = True
        with contextlib.suppress(OSError):
            connect(self.address).close()
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive()

    _over = False

    def _accept(self):
        with self._listening:
            while True:
                accepted, _ = self._listening.accept()
                if self._over:
                    accepted.close()
                    return
                accepted.settimeout(BOUND)
                thread = threading.Thread(target=self._handle, args=(accepted,))
                self._threads.append(thread)
                thread.start()

    def _handle(self, accepted):
        with accepted:
            self._handler(accepted)


def echo(sock):
    with contextlib.suppress(OSError):
        while data := sock.recv(65536):
            sock.sendall(data)


class Recorder:
    """A handler that echoes one message and then tells how its connection ends."""

    def __init__(self):
        self._endings = queue.SimpleQueue()

    def __call__(self, sock):
        sock.sendall(sock.recv(65536))
        self._endings.put(end_of(sock))

    def ending(self):
        return self._endings.get(timeout=BOUND)
