"""An echo server as a program: ``python -S -I echo_process.py --port 0``.

A line that a client sends as a command is obeyed: ``crash``, ``exit N``, ``say ...``, ``pid``.
"""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
from contextlib import suppress


class Options:
    """Not by argparse, which takes longer to import than all that this does."""

    host = "127.0.0.1"
    port = unix = fd = certfile = keyfile = None
    announce = "listening on {url}"
    grandchild = None  # "plain", "session" or "group"
    fails = False
    deaf = False  # ignores SIGTERM
    silent = False

    def __init__(self, words):
        words = iter(words)
        for word in words:
            name = word.removeprefix("--")
            is_flag = getattr(self, name) in (True, False)
            setattr(self, name, True if is_flag else next(words))


def listening(given):
    if given.fd is not None:
        return socket.socket(fileno=int(given.fd))
    if given.unix is not None:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(given.unix)
    else:
        bound = socket.socket(socket.AF_INET6 if ":" in given.host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((given.host, int(given.port)))
    bound.listen()
    return bound


def url_of(bound):
    name = bound.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"tcp://{host}:{name[1]}"


def obey(command, client):
    verb, _, rest = command.partition(" ")
    if verb == "exit":
        print("as you wish", file=sys.stderr)
        sys.stdout.flush()
        os._exit(int(rest))
    elif verb == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif verb == "say":
        print(rest)
    elif verb == "pid":
        client.sendall(str(os.getpid()).encode())
        return
    client.sendall(command.encode())


def serve(client, context):
    with suppress(OSError):
        if context is not None:
            client = context.wrap_socket(client, server_side=True)
        with client:
            while data := client.recv(65536):
                obey(data.decode(errors="replace"), client)


def fork_and_sleep(how):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if how == "session":
            os.setsid()
        elif how == "group":
            os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(writing, b".")
        while True:
            signal.pause()
    os.read(reading, 1)
    print(f"grandchild {child}")


def main():
    given = Options(sys.argv[1:])
    if given.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.fails:
        print("no configuration", file=sys.stderr)
        sys.exit(3)
    if given.grandchild:
        fork_and_sleep(given.grandchild)
    context = None
    if given.certfile:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certfile, given.keyfile)
        context.num_tickets = 0
    bound = listening(given)
    name = bound.getsockname()
    if not given.silent:
        port = name[1] if isinstance(name, tuple) else ""
        print("starting")
        print(given.announce.format(url=url_of(bound), port=port))
    while True:
        client, _ = bound.accept()
        _thread.start_new_thread(serve, (client, context))


main()
