"""A proxy that is so many milliseconds away in each direction, whatever the bytes: python3 delay.py PORT TARGET MILLISECONDS"""

import queue
import socket
import sys
import threading
import time


def take(source, waiting, delay):
    """Everything that comes, each piece with the time when it has arrived."""
    while piece := source.recv(1 << 18):
        waiting.put((time.monotonic() + delay, piece))
    waiting.put((0, b""))


def give(sink, waiting):
    while True:
        due, piece = waiting.get()
        if not piece:
            return sink.shutdown(socket.SHUT_WR)
        time.sleep(max(0, due - time.monotonic()))
        sink.sendall(piece)


def main():
    port, target, delay = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        client, server = listener.accept()[0], socket.create_connection(("127.0.0.1", target))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, server), (server, client)):
            waiting = queue.SimpleQueue()
            threading.Thread(target=take, args=(source, waiting, delay), daemon=True).start()
            threading.Thread(target=give, args=(sink, waiting), daemon=True).start()


if __name__ == "__main__":
    main()
