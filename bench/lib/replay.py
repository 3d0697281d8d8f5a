"""A server that answers from memory, so that a benchmark measures its client.

	replay.py DIRECTORY ORIGIN

What is asked for is fetched from the double at ORIGIN once and remembered;
from then on the same path gets the same bytes.  Besides:

	/document.json			one JSON array of about 100 MB
	/small/…?page=N			page N of 1,000, ten records, after 20 ms

Writes its port to DIRECTORY/replay-port.
"""

import http.client
import json
import os
import socketserver
import sys
import time
import urllib.parse

DOCUMENT = 100 * 1000 * 1000


def document():
    """About 100 MB of records."""
    filler = "x" * 400
    record = '{"id": %%d, "name": "name %%d", "at": "2026-11-01T00:00:00Z", "amount": %%d.25, "note": "%s"}' % filler
    count = DOCUMENT // (len(record) + 12)
    return ("[" + ",\n".join(record % (i, i, i) for i in range(count)) + "]").encode()


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while True:
            line = self.rfile.readline(65537).decode("latin-1")
            if not line.strip():
                return
            path = line.split()[1]
            while self.rfile.readline(65537) not in (b"\r\n", b"\n", b""):
                pass
            self.wfile.write(self.server.answer(path))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that is gone is no matter."""

    def __init__(self, origin):
        super().__init__(("127.0.0.1", 0), Handler)
        self.origin = urllib.parse.urlsplit(origin).netloc
        self.memory = {}

    def answer(self, path):
        if path.startswith("/small/"):
            time.sleep(0.02)
            page = int(path.rsplit("=", 1)[1])
            rows = [{"id": page * 10 + i, "v": i} for i in range(10)] if page <= 1000 else []
            return self.whole(json.dumps(rows).encode())
        if path not in self.memory:
            self.memory[path] = self.whole(document() if path.startswith("/document.json") else self.fetch(path))
        return self.memory[path]

    def fetch(self, path):
        connection = http.client.HTTPConnection(self.origin)
        connection.request("GET", path)
        return connection.getresponse().read()

    @staticmethod
    def whole(body):
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def main():
    directory, origin = sys.argv[1:]
    server = Server(origin)
    port = os.path.join(directory, "replay-port")
    with open(port + ".new", "w", encoding="ascii") as file:
        file.write("%d\n" % server.server_address[1])
    os.rename(port + ".new", port)
    server.serve_forever()


if __name__ == "__main__":
    main()
