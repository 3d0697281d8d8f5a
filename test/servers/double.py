"""What the doubles of outside systems share: a server that records what it is
asked, replays recorded answers, and goes wrong when and as it is told.

A double is a Server with an `answer(request)`; it may have, too,

	`data(stream)`	what the system holds of a stream, as GET /_data?stream=…
		gives it: the truth that a test compares with
	`command(name, value)`	what else POST /_control can change
	`move(request)`	changes one record that is still to be read, so that it
		moves to another page
	`first_of(request)`	what the pages of one query have in common
	`query_of(request)`	the same, None for the first page of a query
	`before(request)`	the answer with the page before
	`expire_tokens()`	makes every token that was handed out invalid

A test steers it by POST /_control with a JSON object of

	"fault": {"kind": K, "times": N, "after": M, …} or null
		after M more requests the next N go wrong (without "times": all)
	"faults": {"seed": S, "count": N, "over": M, "kinds": […]} or null
		of the next M requests N go wrong, each in another way; what is left
		over when a fault cannot happen yet (a repeated first page) happens
		at a later request

	"latency": SECONDS	how long each answer waits
	"large": BYTES		how long a body over the limit is

and reads what happened from GET /_control: {"requests": […], "faults":
{kind: count}}, or how many requests there were from GET /_count.  The kinds are in FAULTS and, for one fault at a time, in
SINGLE.  The server listens on the loopback interface, writes its port to
--port-file when it is ready, and ends on SIGTERM.
"""

import argparse
import base64
import datetime
import email.utils
import gzip
import http.server
import json
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse

# What a plan of faults may hold.
FAULTS = {
    "429": "429 without Retry-After",
    "retry_after": "429 with Retry-After in seconds",
    "retry_after_date": "429 with Retry-After as a date",
    "skew": "the same from a server whose clock is hours off",
    "burst": "500, 502 and 503, two or three in a row",
    "reset": "a connection reset in the middle of the body",
    "truncated": "a body cut in the middle, its length as announced",
    "content_type": "a good body with a wrong content type",
    "html": "an HTML page of an error with status 200",
    "repeated": "the page before once more",
    "moved": "a record that moves to another page",
    "endless": "a page that comes again and again, with its cursor",
    "token": "a token that expires between two pages",
    "large": "a body over the limit",
    "drip": "a body that comes in drops",
}
# Further ones, for a single fault: a status as in "404", and
SINGLE = {
    "hang": "no answer at all",
    "close": "the connection is closed before an answer",
    "cut": "the connection is closed in the middle of the body",
    "redirect": "301 to the host in \"location\"",
}
HTML = b"<!DOCTYPE html>\n<html><head><title>Service unavailable</title></head><body><h1>Down for maintenance</h1></body></html>\n"
ENDLESS = 8  # times that an endless page comes again before the server recovers
LARGE = 24 << 20
KEPT_BODY = 10000  # bytes of a request's body that are remembered


def dumps(value):
    """Compact JSON as bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def iso(moment, digits=0, zone="Z"):
    """A moment as 2026-11-20T09:00:00Z, with digits of the second."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return text + (".%06d" % moment.microsecond)[:digits + 1] * (digits > 0) + zone


def parse_iso(text):
    """The moment of an ISO text, UTC unless it says otherwise; ValueError."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or datetime.timezone.utc).astimezone(datetime.timezone.utc)


class Refused(Exception):
    """Raised by a double to answer with an error."""

    def __init__(self, answer):
        super().__init__(answer.status)
        self.answer = answer


class Answer:
    """What goes back: the body is bytes, or a value that becomes JSON.  A
    page is an answer that brings records and so can be repeated."""

    def __init__(self, status, body=b"", headers=(), content_type="application/json;charset=utf-8", page=False):
        self.status, self.headers, self.content_type, self.page = status, list(headers), content_type, page
        self.body = body if isinstance(body, bytes) else dumps(body)


class Request:
    """What was asked."""

    def __init__(self, method, target, headers, body):
        url = urllib.parse.urlsplit(target)
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.path, self.raw_query = url.path, url.query
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))

    def json(self):
        """The body as JSON; ValueError where it is none."""
        return json.loads(self.body)

    def form(self):
        return dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def bearer(self):
        """The token of an Authorization: Bearer header, or None."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else None

    def basic(self):
        """(user, password) of an Authorization: Basic header, or None."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
        except ValueError:
            return None
        return (user, password) if kind.lower() == "basic" and colon else None

    def other(self, **changes):
        """The same request with other parameters."""
        query = urllib.parse.urlencode({**self.query, **changes})
        return Request(self.method, "%s?%s" % (self.path, query), self.headers, self.body)

    def number(self, name, default, low=None, high=None):
        """A whole number of the query; ValueError outside its bounds."""
        value = int(self.query.get(name, default))
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError("%s must be between %s and %s" % (name, low, high))
        return value


class Faults:
    """Which request goes wrong, and how; counts what happened."""

    def __init__(self):
        self.single, self.plan, self.late, self.queue, self.counts, self.seen = None, {}, [], [], {}, 0
        self.random = random.Random(0)

    def set(self, fault):
        self.single = dict(fault) if fault else None

    def schedule(self, plan):
        """Deal the kinds out over the coming requests."""
        self.plan, self.late, self.queue, self.counts, self.seen = {}, [], [], {}, 0
        if not plan:
            return
        self.random = random.Random(plan["seed"])
        kinds = [kind for kind in plan.get("kinds", FAULTS)]
        unknown = set(kinds) - set(FAULTS)
        if unknown:
            raise ValueError("no such kind of fault: %s" % ", ".join(sorted(unknown)))
        self.random.shuffle(kinds)
        places = sorted(self.random.sample(range(plan["over"]), plan["count"]))
        self.plan = {place: kinds[i % len(kinds)] for i, place in enumerate(places)}

    def next(self, possible):
        """The fault of this request, {"kind": …}, or None.  possible(kind)
        says whether it can happen now."""
        fault = self.single
        if fault:
            if fault.get("after", 0) > 0:
                fault["after"] -= 1
                return None
            if "times" in fault:
                fault["times"] -= 1
                if fault["times"] <= 0:
                    self.single = None
            return fault
        if self.queue:
            return self.queue.pop(0)
        if self.seen in self.plan:
            self.late.append(self.plan[self.seen])
        self.seen += 1
        for kind in self.late:
            if possible(kind):
                self.late.remove(kind)
                self.counts[kind] = self.counts.get(kind, 0) + 1
                return self.start(kind)
        return None

    def start(self, kind):
        """The first fault of a kind; those that follow from it are queued."""
        if kind == "burst":
            self.queue = [{"kind": self.random.choice(("500", "502", "503"))} for _ in range(self.random.randint(1, 2))]
            return {"kind": self.random.choice(("500", "502", "503"))}
        if kind == "endless":
            self.queue = [{"kind": "repeated"}] * ENDLESS
            return {"kind": "repeated"}
        return {"kind": kind, "drops": 20, "delay": 0.01} if kind == "drip" else {"kind": kind}


class Recording:
    """Recorded exchanges, looked up by what was asked; those that were asked
    for more than once come in their order, the last one again and again."""

    def __init__(self):
        self.exchanges = {}

    @staticmethod
    def key(method, path, query, body):
        return method, path, tuple(sorted(query.items())), json.dumps(body, sort_keys=True) if body else ""

    def add(self, method, path, answer, query=None, body=None):
        self.exchanges.setdefault(self.key(method, path, query or {}, body), []).append(answer)

    def find(self, request):
        """The recorded answer, or None."""
        try:
            body = request.json() if request.body else None
        except ValueError:
            return None
        answers = self.exchanges.get(self.key(request.method, request.path, request.query, body))
        if not answers:
            return None
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Limiter:
    """So many requests in so many seconds."""

    def __init__(self, limit, seconds):
        self.limit, self.seconds, self.taken, self.start = limit, seconds, 0, time.monotonic()

    def take(self, cost=1):
        """(allowed, how many are left, seconds until there are new ones)."""
        now = time.monotonic()
        if now - self.start >= self.seconds:
            self.start, self.taken = now, 0
        self.taken += cost
        return self.taken <= self.limit, max(self.limit - self.taken, 0), self.start + self.seconds - now


class Server(http.server.ThreadingHTTPServer):
    """What every double does."""

    daemon_threads = True
    request_queue_size = 64
    name = "double"
    gzip = False
    # faults that this system's wire format cannot show, or that it has no use for
    impossible = ()

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.lock, self.faults, self.requests, self.previous = threading.RLock(), Faults(), [], {}
        self.recording, self.large, self.latency, self.in_flight = Recording(), LARGE, 0, 0
        self.url = "http://127.0.0.1:%d" % self.server_address[1]

    def handle_error(self, request, address):
        """A client that went away is no error of the double's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)

    def answer(self, request):
        raise NotImplementedError

    def command(self, name, value):
        raise ValueError("unknown command %s" % name)

    def data(self, stream):
        raise ValueError("unknown stream %s" % stream)

    def move(self, request):
        pass

    def expire_tokens(self):
        pass

    def state(self):
        """What GET /_control tells besides requests and faults."""
        return {}

    def error(self, status, message):
        """An error in the system's own form."""
        return Answer(status, {"message": message})

    def control(self, command):
        for name, value in command.items():
            if name == "fault":
                self.faults.set(value)
                self.requests = []
            elif name == "faults":
                self.faults.schedule(value)
                self.requests, self.previous = [], {}
            elif name == "large":
                self.large = int(value)
            elif name == "latency":
                self.latency = float(value)
            else:
                self.command(name, value)

    def internal(self, request):
        """Answers a test's own request."""
        try:
            if request.path == "/_count":
                return Answer(200, {"requests": len(self.requests)})
            if request.path == "/_data":
                return Answer(200, self.data(request.query.get("stream", "")))
            if request.method == "POST":
                self.control(request.json())
                return Answer(200, b"{}")
            return Answer(200, {"requests": self.requests, "faults": self.faults.counts, **self.state()})
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            return Answer(400, {"message": "%s: %s" % (type(error).__name__, error)})

    def enter(self, count):
        """A request comes in, or has been answered."""
        with self.lock:
            self.in_flight += count

    def possible(self, request, kind):
        """Can this fault happen at this request?"""
        if kind in self.impossible:
            return False
        if kind not in ("repeated", "endless"):
            return True
        answer = self.before(request)
        return answer is not None and answer.page

    def first_of(self, request):
        """The query that this is the first page of."""
        return request.path

    def query_of(self, request):
        return self.first_of(request)

    def before(self, request):
        """What was answered last to the same query, for a page that begins
        before this one: a client may have asked ahead and died."""
        query, place = self.query_of(request), self.place_of(request)
        pages = {} if query is None else self.previous.get(query, {})
        earlier = [other for other in pages if place is None or other < place]
        return pages[max(earlier)] if earlier else None

    def place_of(self, request):
        """Where in its query a page begins, to be compared; None: not known,
        and then pages come one after the other."""
        return None

    def respond(self, request):
        """(answer, fault) of a request to the system."""
        with self.lock:
            self.requests.append({"method": request.method, "path": request.target, "headers": dict(request.headers),
                                  "body": request.body[:KEPT_BODY].decode("utf-8", "replace"), "at": time.time()})
            fault = self.faults.next(lambda kind: self.possible(request, kind))
            kind = fault["kind"] if fault else None
            if kind == "moved":
                self.move(request)
            elif kind == "token":
                self.expire_tokens()
            early = self.replace(request, fault) if fault else None
            if early is not None:
                return early, fault
            try:
                answer = self.recording.find(request) or self.answer(request)
            except Refused as refusal:
                answer = refusal.answer
            if answer.page and fault is None:
                pages = self.previous.setdefault(self.query_of(request) or self.first_of(request), {})
                place = self.place_of(request)
                pages[0 if place is None else place] = answer
            return answer, fault

    def replace(self, request, fault):
        """The answer that stands for the system's, or None."""
        kind = fault["kind"]
        if kind == "429":
            return self.throttled([])
        if kind.isdigit():
            return self.error(int(kind), fault.get("message", "The double was told so"))
        if kind == "retry_after":
            return self.throttled([("Retry-After", str(fault.get("value", 1)))])
        if kind in ("retry_after_date", "skew"):
            now = time.time() + (self.faults.random.choice((-5, 7)) * 3600 if kind == "skew" else 0)
            return self.throttled([("Date", email.utils.formatdate(now, usegmt=True)), ("Retry-After", email.utils.formatdate(now + 1, usegmt=True))])
        if kind == "redirect":
            return Answer(301, b"", [("Location", fault["location"] + request.target)])
        if kind == "html":
            return Answer(200, HTML, content_type="text/html; charset=utf-8")
        if kind == "repeated":
            return self.before(request)
        if kind == "large":
            return Answer(200, b'[{"id":"' + b"x" * fault.get("bytes", self.large) + b'"}]')
        return None

    def throttled(self, headers):
        answer = self.error(429, "Too many requests")
        answer.headers = [(name, value) for name, value in answer.headers if name.lower() != "retry-after"] + headers
        return answer


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = sys_version = "double"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format, *args):  # noqa: A002
        pass

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers, body)
        if request.path in ("/_control", "/_data", "/_count"):
            with self.server.lock:
                answer = self.server.internal(request)
            self.send(answer)
            return
        self.server.enter(1)
        try:
            answer, fault = self.server.respond(request)
            time.sleep(self.server.latency)
            self.deliver(answer, fault or {"kind": None})
        finally:
            self.server.enter(-1)

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = handle_one

    def deliver(self, answer, fault):
        """Send the answer, spoiled as the fault says."""
        kind = fault["kind"]
        if kind == "hang":
            time.sleep(3600)
        elif kind == "close":
            self.close_connection = True
        elif kind in ("cut", "reset"):
            self.send_head(answer, len(answer.body), chunked=False)
            self.wfile.write(answer.body[:len(answer.body) // 2])
            self.wfile.flush()
            if kind == "reset":
                # with a linger of no time a close is a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
        elif kind == "truncated":
            answer = Answer(answer.status, answer.body[:len(answer.body) // 2], answer.headers, answer.content_type)
            self.send(answer)
        elif kind == "content_type":
            self.send(Answer(answer.status, answer.body, answer.headers, "text/html"))
        elif kind == "drip":
            self.drip(answer, fault.get("drops"), fault.get("delay", 0.2))
        else:
            self.send(answer)

    def drip(self, answer, drops, delay):
        """The first drops one byte at a time, then the rest; no number of
        drops: all of it."""
        drops = len(answer.body) if drops is None else min(drops, len(answer.body))
        self.send_head(answer, len(answer.body), chunked=False)
        for i in range(drops):
            self.wfile.write(answer.body[i:i + 1])
            self.wfile.flush()
            time.sleep(delay)
        self.wfile.write(answer.body[drops:])

    def send_head(self, answer, length, chunked):
        self.send_response_only(answer.status)
        names = {name.lower() for name, _ in answer.headers}
        if "date" not in names:
            self.send_header("Date", self.date_time_string())
        self.send_header("Server", self.server.name)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send(self, answer):
        body = answer.body
        bodiless = answer.status in (204, 304) or self.command == "HEAD"
        if self.server.gzip and len(body) > 1000 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1)
            answer = Answer(answer.status, body, answer.headers + [("Content-Encoding", "gzip")], answer.content_type)
        chunked = self.server.gzip and answer.status not in (204, 304)
        self.send_head(answer, len(body), chunked)
        if bodiless:
            return
        if chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self.wfile.write(body)


def arguments(description):
    """The options that all doubles have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file")
    parser.add_argument("--recorded", help="directory with recorded answers, which are replayed unchanged")
    parser.add_argument("--seed", type=int, default=1, help="what the generated data depends on")
    return parser


def start_of_now():
    """The default of an option --now."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def serve(server, port_file=None):
    """Say that the server is ready, and serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if port_file:
        with open(port_file + ".new", "w", encoding="ascii") as file:
            file.write("%d\n" % server.server_address[1])
        os.rename(port_file + ".new", port_file)
    try:
        server.serve_forever()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)


def matches(pattern, path):
    """The groups of a path that matches as a whole, or None."""
    match = re.fullmatch(pattern, path)
    return match.groups() if match else None
