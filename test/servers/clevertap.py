#!/usr/bin/python3
"""A local double of the CleverTap API: export of events and profiles, and
uploads.

	clevertap.py [--port N] [--port-file FILE] [--recorded DIRECTORY]
	             [--seed N] [--days N] [--events N] [--offset MINUTES]
	             [--account ID] [--passcode CODE]

Serves the events of the last --days days, about --events a day, made from the
seed; days and the times in records are those of the project's zone, --offset
minutes from UTC, which no answer names.  With --recorded, the cassettes of
that directory are served unchanged where they were asked for the same.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows

	{"late": N}	N events of the last three days come in now
	{"busy": N}	how often an export says that it is still in progress
	{"parallel": 3}	how many exports may be under way
"""

import base64
import datetime
import os
import random
import re
import urllib.parse

import double

NAMES = ("App Launched", "Charged", "Product Viewed")
REFUSED = ("Push Impressions", "Notification Sent")
BATCH = 5000


def unfold(text):
    """A YAML scalar in single quotes that goes over several lines."""
    text = re.sub(r"\n[ \t]*\n", "\0", text)
    return re.sub(r"[ \t]*\n[ \t]*", " ", text).replace("\0", "\n").replace("''", "'")


def read_cassette(text):
    """The exchanges of a cassette: (method, path, query, body, status, answer)."""
    for part in text.split("\n- request:")[1:]:
        method, uri = re.search(r"method: (\w+)", part).group(1).upper(), re.search(r"uri: (\S+)", part).group(1)
        bodies = [unfold(body) for body in re.findall(r"string: '((?:[^']|'')*)'", part)]
        status = int(re.search(r"code: (\d+)", part).group(1))
        url = urllib.parse.urlsplit(uri)
        yield method, url.path, dict(urllib.parse.parse_qsl(url.query)), bodies[0], status, bodies[1]


class Project:
    """The events, made from a seed."""

    def __init__(self, options):
        self.random, self.offset, self.now = random.Random(options.seed), datetime.timedelta(minutes=options.offset), options.now
        self.events = []
        today = self.local(self.now).date()
        for back in range(options.days, -1, -1):
            day = today - datetime.timedelta(days=back)
            for _ in range(options.events):
                self.add(day)
            # two events that nothing tells apart are two events
            self.events.append(self.events[-1])

    def local(self, moment):
        return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None) + self.offset

    def add(self, day):
        """An event of a day of the project's zone, not after now."""
        seconds = 86399
        if day == self.local(self.now).date():
            seconds = max((self.local(self.now) - datetime.datetime.combine(day, datetime.time())).seconds - 1, 0)
        moment = datetime.datetime.combine(day, datetime.time()) + datetime.timedelta(seconds=self.random.randint(0, seconds))
        person = self.random.randint(1, 400)
        name = self.random.choice(NAMES)
        record = {"ts": int(moment.strftime("%Y%m%d%H%M%S")),
                  "profile": {"objectId": "__%032x" % self.random.getrandbits(128), "platform": self.random.choice(("Android", "iOS", "Web")),
                              "email": "p%d@example.test" % person, "identity": "cust-%d" % person if person % 5 else "", "name": "Person \u201c%d\u201d" % person,
                              "phone": 919900000000 + person, "profileData": {"plan": self.random.choice(("gold", "free"))}},
                  "event_props": {"Amount": self.random.randint(1, 100000) / 100, "Currency": "INR", "Items": [{"sku": "A%d" % person, "qty": 2}],
                                  "big": 2 ** 53 + self.random.randint(1, 10 ** 6)},
                  "session_props": {"session_source": "Direct"}}
        self.events.append((name, day, record))

    def export(self, name, first, last):
        return [record for event, day, record in self.events if event == name and first <= int(day.strftime("%Y%m%d")) <= last]

    def profiles(self, name, first, last):
        """Those who did this in these days, as they are now."""
        people = {}
        for record in self.export(name, first, last):
            person = people.setdefault(record["profile"]["email"], {**record["profile"], "events": {name: {"count": 0, "first_seen": record["ts"], "last_seen": record["ts"]}}})
            seen = person["events"][name]
            seen.update(count=seen["count"] + 1, first_seen=min(seen["first_seen"], record["ts"]), last_seen=max(seen["last_seen"], record["ts"]))
        return list(people.values())


class Server(double.Server):
    """The API over the project."""

    name = "CleverTap-double"
    impossible = ("token",)

    def __init__(self, options):
        super().__init__(options.port)
        self.project, self.options = Project(options), options
        # cursor → (what is left, page size, how often it is still in progress,
        # whether there will be a page without records), and the next cursor
        self.exports, self.following, self.began, self.busy, self.parallel, self.uploaded, self.random = {}, {}, {}, 1, 3, [], random.Random(options.seed)
        for name in sorted(os.listdir(options.recorded)) if options.recorded else ():
            with open(os.path.join(options.recorded, name), encoding="utf-8") as file:
                for method, path, query, body, status, answer in read_cassette(file.read()):
                    request = double.Request(method, path + ("?" + urllib.parse.urlencode(query) if query else ""), {}, body.encode())
                    self.recording.add(method, path, double.Answer(status, answer.encode()), query, request.json())

    def command(self, name, value):
        if name == "late":
            for _ in range(int(value)):
                self.project.add(self.project.local(self.project.now).date() - datetime.timedelta(days=self.project.random.randint(0, 2)))
        elif name in ("busy", "parallel"):
            setattr(self, name, int(value))
        else:
            raise ValueError("unknown command %s" % name)

    def data(self, stream):
        """Of an event, of profiles of an event ("profiles:…"), of uploads."""
        if stream == "uploaded":
            return self.uploaded
        kind, _, name = stream.rpartition(":")
        return self.project.profiles(name, 0, 99999999) if kind else self.project.export(name, 0, 99999999)

    def move(self, request):
        """Nothing moves in an export that has begun; one more comes in late."""
        self.command("late", 1)

    def token_of(self, request):
        """The cursor of a request, decoded once, or None."""
        found = re.search(r"(?:^|&)cursor=([^&]*)", request.raw_query)
        return urllib.parse.unquote(found.group(1)) if found else None

    def first_of(self, request):
        """The cursor with which the export began."""
        token = self.token_of(request)
        return self.began.get(token, token)

    def query_of(self, request):
        return self.began.get(self.token_of(request))

    def error(self, status, message):
        return double.Answer(status, {"status": "fail", "error": message, "code": status})

    def answer(self, request):
        headers, path = request.headers, re.sub(r"^/1(?=/)", "", request.path)
        if headers.get("X-CleverTap-Account-Id") != self.options.account:
            return self.error(401, "Account ID is not valid")
        if headers.get("X-CleverTap-Passcode") != self.options.passcode:
            return self.error(401, "Invalid Credentials")
        if path == "/upload" and request.method == "POST":
            return self.upload(request)
        if path == "/getSchema":
            return double.Answer(200, {"status": "success", "events": [{"name": name} for name in NAMES + REFUSED]})
        if path not in ("/events.json", "/profiles.json"):
            return self.error(404, "Not found")
        if self.in_flight > self.parallel:
            return self.error(429, "Too many concurrent requests")
        try:
            return self.begin(request, path) if request.method == "POST" else self.go_on(request)
        except (ValueError, KeyError, TypeError):
            return self.error(400, "Malformed request")

    def begin(self, request, path):
        """A query; its answer is the cursor of an export."""
        size, query = request.number("batch_size", 10, 1, BATCH), request.json()
        name, first, last = query["event_name"], query["from"], query["to"]
        if name in REFUSED:
            return double.Answer(400, {"status": "fail", "error": "Export not allowed for this event", "code": 400})
        if name not in NAMES or not (isinstance(first, int) and isinstance(last, int) and 19700101 <= first <= last):
            raise ValueError(name)
        rows = list((self.project.profiles if path == "/profiles.json" else self.project.export)(name, first, last))
        self.random.shuffle(rows)
        return double.Answer(200, {"status": "success", "cursor": self.cursor(rows, size, self.busy, len(rows) > size)})

    def cursor(self, rows, size, busy, gap):
        """A new cursor, percent-encoded as it comes from the API."""
        token = base64.b64encode(self.random.randbytes(24)).decode() + "/+="
        self.exports[token] = (rows, size, busy, gap)
        return urllib.parse.quote(token, safe="")

    def go_on(self, request):
        """The page of a cursor, which must be encoded just once.  A page may
        be short of the batch size, or have no records and yet not be the
        last."""
        token = self.token_of(request)
        rows, size, busy, gap = self.exports[token]
        if busy > 0:
            self.exports[token] = (rows, size, busy - 1, gap)
            return double.Answer(200, {"status": "fail", "error": "Request still in progress, please retry later", "code": 2})
        if gap and len(rows) <= size:
            return double.Answer(200, {"status": "success", "next_cursor": self.next(token, rows, size, False)})
        count = size if len(rows) <= size else max(size * 3 // 5, size - self.shortage(token, size))
        answer = {"status": "success", "records": rows[:count]}
        if len(rows) > count:
            answer["next_cursor"] = self.next(token, rows[count:], size, gap)
        elif not rows:
            del answer["records"]
        return double.Answer(200, answer, page=bool(rows))

    def shortage(self, token, size):
        """By how much a page is short, the same each time it is asked for."""
        return sum(token.encode()) % (size // 3 + 1)

    def next(self, token, rows, size, gap):
        """The next cursor, the same each time the page is asked for."""
        if token not in self.following:
            self.following[token] = self.cursor(rows, size, 0, gap)
            self.began[urllib.parse.unquote(self.following[token])] = self.began.get(token, token)
        return self.following[token]

    def upload(self, request):
        """Counts what is good, and gives back what is not."""
        try:
            records = request.json()["d"]
        except (ValueError, KeyError, TypeError):
            return self.error(400, "Malformed request")
        if self.in_flight > 15:
            return self.error(429, "Too many concurrent requests")
        bad = []
        for i, record in enumerate(records):
            if record.get("type") == "event" and not record.get("evtName"):
                bad.append({"status": "fail", "code": 509, "record": record,
                            "error": "Event Name is incorrect. ErrorCode: 509 - Event name is mandatory. Skipped record number : %d" % (i + 1)})
            elif "dryRun" not in request.query or request.query["dryRun"] == "0":
                self.uploaded.append(record)
        status = "success" if not bad else "partial" if len(bad) < len(records) else "fail"
        return double.Answer(200, {"status": status, "processed": len(records) - len(bad), "unprocessed": bad})


def main():
    parser = double.arguments("A local double of the CleverTap API.")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--offset", type=int, default=330)
    parser.add_argument("--account", default="TEST-R78-4KZ")
    parser.add_argument("--passcode", default="passcode")
    parser.add_argument("--now", type=double.parse_iso, default=double.start_of_now())
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
