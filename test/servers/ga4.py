#!/usr/bin/python3
"""A local double of the Google Analytics Data API, v1beta, with the token
endpoint that takes a service account's JWT.

	ga4.py [--port N] [--port-file FILE] [--recorded DIRECTORY]
	       [--seed N] [--days N] [--property ID] [--key-file FILE]

Serves runReport and batchRunReports over a table of the last --days days, made
from the seed.  At start it makes a service account and writes its key file to
--key-file, with this server as token_uri.  With --recorded, the answers of
that directory are served unchanged for the properties 1001 to 1004, in the
order of RECORDED.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows

	{"late": N}		N cells of the last three days grow
	{"tokens": N}		tokens that are left of this hour
	{"concurrent": 10}	how many requests may be under way
	{"sampling": true}	answers are sampled and say so
	{"thresholding": true}	rows of few users are left out, as answers say
	{"other": true}		small rows are put together in "(other)"
"""

import base64
import collections
import datetime
import hashlib
import json
import math
import os
import random
import time
import uuid

import double

RECORDED = ("runReport_active_users.json", "runReport_active_users_without_rows.json", "runReport_event_counts.json", "runReport_event_counts_without_rows.json")
SCOPE = "https://www.googleapis.com/auth/analytics.readonly"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFE = 3599
DIMENSIONS = {"sessionDefaultChannelGroup": ("Direct", "Organic Search", "Paid Search", "Referral, \"other\""), "country": ("Spain", "Germany", "Côte d’Ivoire", "(not set)"),
              "deviceCategory": ("desktop", "mobile", "tablet")}
METRICS = {"sessions": "TYPE_INTEGER", "activeUsers": "TYPE_INTEGER", "eventCount": "TYPE_INTEGER", "totalRevenue": "TYPE_CURRENCY"}
MOST = 250000
SMALL = math.prod(range(3, 3000, 2))  # what has no factor in common with this is worth a test


def number_of(data):
    return int.from_bytes(data, "big")


class Key:
    """A key pair of RSA, made from a seed; good for tests only."""

    EXPONENT = 65537

    def __init__(self, seed, bits=2048):
        chance = random.Random(seed)
        self.p, self.q = self.prime(chance, bits // 2), self.prime(chance, bits // 2)
        self.n, self.d = self.p * self.q, pow(self.EXPONENT, -1, (self.p - 1) * (self.q - 1))

    def prime(self, chance, bits):
        while True:
            number = chance.getrandbits(bits) | 3 << bits - 2 | 1
            if math.gcd(number, SMALL) == 1 and number % self.EXPONENT != 1 and pow(2, number - 1, number) == 1:
                return number

    def pem(self):
        """The private key as PKCS #8."""
        def tagged(tag, content):
            size = len(content)
            length = bytes([size]) if size < 128 else bytes([128 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
            return bytes([tag]) + length + content

        def integer(value):
            return tagged(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))

        d, p, q = self.d, self.p, self.q
        key = tagged(0x30, b"".join(map(integer, (0, self.n, self.EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)))))
        rsa = tagged(0x30, bytes.fromhex("06092a864886f70d0101010500"))
        text = base64.b64encode(tagged(0x30, integer(0) + rsa + tagged(4, key))).decode()
        lines = [text[i:i + 64] for i in range(0, len(text), 64)]
        return "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % "\n".join(lines)

    def verify(self, message, signature):
        """RSASSA-PKCS1-v1_5 with SHA-256."""
        size = (self.n.bit_length() + 7) // 8
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        expected = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
        return len(signature) == size and pow(number_of(signature), self.EXPONENT, self.n) == number_of(expected)

    def sign(self, message):
        size = (self.n.bit_length() + 7) // 8
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
        return pow(number_of(padded), self.d, self.n).to_bytes(size, "big")


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_part(text):
    """A part of a JWT; ValueError where it is padded or no base64url."""
    if "=" in text:
        raise ValueError("padded base64")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Refusal(Exception):
    """An error in Google's envelope."""

    def __init__(self, code, status, message):
        super().__init__(message)
        self.answer = double.Answer(code, {"error": {"code": code, "message": message, "status": status}})


class Table:
    """Cells of a day, a channel, a country and a device, made from a seed."""

    def __init__(self, options):
        self.random, self.now = random.Random(options.seed), options.now
        self.cells = {}
        for back in range(options.days, -1, -1):
            day = (self.now - datetime.timedelta(days=back)).strftime("%Y%m%d")
            for channel in DIMENSIONS["sessionDefaultChannelGroup"]:
                for country in DIMENSIONS["country"]:
                    for device in DIMENSIONS["deviceCategory"]:
                        sessions = self.random.randint(1, 300)
                        self.cells[day, channel, country, device] = [sessions, sessions - sessions // 3, sessions * 7, round(self.random.uniform(0, 999), 2)]

    def late(self, count):
        last = {(self.now - datetime.timedelta(days=back)).strftime("%Y%m%d") for back in range(3)}
        for key in self.random.sample(sorted(key for key in self.cells if key[0] in last), count):
            self.cells[key] = [self.cells[key][0] + 1, self.cells[key][1] + 1, self.cells[key][2] + 5, round(self.cells[key][3] + 0.1, 2)]

    def day(self, text):
        """A date of a request as YYYYMMDD."""
        if text == "today":
            return self.now.strftime("%Y%m%d")
        if text == "yesterday":
            text = "1daysAgo"
        if text.endswith("daysAgo"):
            return (self.now - datetime.timedelta(days=int(text[:-7]))).strftime("%Y%m%d")
        return datetime.date.fromisoformat(text).strftime("%Y%m%d")

    def rows(self, dimensions, metrics, ranges):
        """{dimension values: sums of the metrics}."""
        places = {"date": 0, "sessionDefaultChannelGroup": 1, "country": 2, "deviceCategory": 3}
        columns = [list(METRICS).index(name) for name in metrics]
        sums = collections.defaultdict(lambda: [0] * len(columns))
        for i, (first, last) in enumerate(ranges):
            for key, values in self.cells.items():
                if first <= key[0] <= last:
                    row = sums[tuple("date_range_%d" % i if name == "dateRange" else key[places[name]] for name in dimensions)]
                    for place, column in enumerate(columns):
                        row[place] = round(row[place] + values[column], 2)
        return dict(sums)


class Server(double.Server):
    """The API over the table."""

    name = "GA4-double"

    def __init__(self, options):
        super().__init__(options.port)
        self.table, self.options, self.key, self.email = Table(options), options, Key(options.seed), "reader@project.iam.gserviceaccount.com"
        self.tokens, self.left, self.concurrent, self.recorded = {}, 40000, 10, {}
        self.sampling = self.thresholding = self.other = False
        self.token_uri = self.url + "/token"
        if options.key_file:
            with open(options.key_file, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                json.dump({"type": "service_account", "project_id": "project", "private_key_id": "k1", "private_key": self.key.pem(),
                           "client_email": self.email, "client_id": "1", "token_uri": self.token_uri}, file)
        for i, name in enumerate(RECORDED if options.recorded else ()):
            with open(os.path.join(options.recorded, name), "rb") as file:
                self.recorded[str(1001 + i)] = file.read()

    def command(self, name, value):
        if name == "late":
            self.table.late(int(value))
        elif name == "tokens":
            self.left = int(value)
        elif name in ("concurrent", "sampling", "thresholding", "other"):
            setattr(self, name, value)
        else:
            raise ValueError("unknown command %s" % name)

    def data(self, stream):
        """Of "date,country:sessions": dimensions and metrics of a report."""
        dimensions, metrics = (part.split(",") for part in stream.split(":"))
        rows = self.table.rows(dimensions, metrics, [("0", "9")])
        return [{**dict(zip(dimensions, key)), **dict(zip(metrics, values))} for key, values in rows.items()]

    def move(self, request):
        self.table.late(1)

    def before(self, request):
        """The page before by offset; pages may be asked for in any order."""
        try:
            body = request.json()
            offset, limit = int(body.get("offset", 0)), int(body.get("limit", 10000))
        except (ValueError, AttributeError):
            return None
        if not offset:
            return None
        body["offset"] = str(max(offset - limit, 0))
        return self.answer(double.Request(request.method, request.target, request.headers, double.dumps(body)))

    def expire_tokens(self):
        self.tokens = {token: 0 for token in self.tokens}

    def possible(self, request, kind):
        return super().possible(request, kind) and (kind != "token" or bool(self.tokens) and request.path != "/token")

    def error(self, status, message):
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
        return Refusal(status, names.get(status, "UNKNOWN"), message).answer

    def answer(self, request):
        if request.path == "/token":
            return self.token(request)
        found = double.matches(r"/v1beta/properties/(\d+)(:runReport|:batchRunReports|/metadata)", request.path)
        try:
            if request.bearer() is None or self.tokens.get(request.bearer(), 0) <= time.monotonic():
                raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
            if found is None:
                raise Refusal(404, "NOT_FOUND", "The requested URL was not found on this server.")
            if found[0] in self.recorded:
                return double.Answer(200, self.recorded[found[0]])
            if found[0] != self.options.property:
                raise Refusal(403, "PERMISSION_DENIED", "User does not have sufficient permissions for this property.")
            if found[1] == "/metadata":
                return double.Answer(200, {"name": "properties/%s/metadata" % found[0], "dimensions": [{"apiName": name} for name in ("date", *DIMENSIONS)],
                                           "metrics": [{"apiName": name, "type": kind} for name, kind in METRICS.items()]})
            body = request.json()
            if found[1] == ":runReport":
                report = self.report(body)
                return double.Answer(200, report, page=bool(report.get("rows")))
            if not 1 <= len(body.get("requests", ())) <= 5:
                raise Refusal(400, "INVALID_ARGUMENT", "A batch has one to five requests.")
            return double.Answer(200, {"reports": [self.report(one) for one in body["requests"]], "kind": "analyticsData#batchRunReports"})
        except Refusal as refusal:
            return refusal.answer
        except (ValueError, KeyError, TypeError) as error:
            return self.error(400, "Invalid JSON payload received: %s" % error)

    def token(self, request):
        """A token for a JWT of the service account."""
        form = request.form()
        try:
            if form.get("grant_type") != GRANT:
                return double.Answer(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type: %s" % form.get("grant_type")})
            header, claims, signature = form["assertion"].split(".")
            message = ("%s.%s" % (header, claims)).encode()
            if json.loads(decode_part(header)).get("alg") != "RS256" or not self.key.verify(message, decode_part(signature)):
                return double.Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
            claims = json.loads(decode_part(claims))
            if claims["iss"] != self.email or claims["aud"] != self.token_uri:
                return double.Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT: iss or aud is not what was expected."})
            if not 0 < claims["exp"] - claims["iat"] <= 3600 or not claims["iat"] - 300 <= time.time() <= claims["exp"]:
                return double.Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."})
            if SCOPE not in claims.get("scope", "").split():
                return double.Answer(400, {"error": "invalid_scope", "error_description": "Invalid OAuth scope or ID token audience provided."})
        except (KeyError, ValueError, TypeError):
            return double.Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT."})
        token = "ya29." + uuid.uuid4().hex * 4
        self.tokens[token] = time.monotonic() + TOKEN_LIFE
        return double.Answer(200, {"access_token": token, "expires_in": TOKEN_LIFE, "token_type": "Bearer"})

    def spend(self, cost):
        if self.in_flight > self.concurrent:
            raise Refusal(429, "RESOURCE_EXHAUSTED", "Exhausted concurrent requests quota. Please send fewer requests concurrently.")
        if self.left < cost:
            raise Refusal(429, "RESOURCE_EXHAUSTED", "Exhausted property tokens for a project per hour. These quota tokens will return in under an hour.")
        self.left -= cost

    def report(self, body):
        """One report: the values of headers' names, in rows of lists."""
        dimensions = [one["name"] for one in body.get("dimensions", ())]
        metrics = [one["name"] for one in body.get("metrics", ())]
        for name in dimensions:
            if name not in ("date", *DIMENSIONS):
                raise Refusal(400, "INVALID_ARGUMENT", "Field %s is not a valid dimension." % name)
        for name in metrics:
            if name not in METRICS:
                raise Refusal(400, "INVALID_ARGUMENT", "Field %s is not a valid metric." % name)
        ranges = [(self.table.day(one["startDate"]), self.table.day(one["endDate"])) for one in body.get("dateRanges", ())]
        if len(dimensions) > 9 or len(metrics) > 10 or not metrics or not 1 <= len(ranges) <= 4:
            raise Refusal(400, "INVALID_ARGUMENT", "A report has up to 9 dimensions, 1 to 10 metrics and 1 to 4 date ranges.")
        if len(ranges) > 1:
            dimensions.append("dateRange")
        limit, offset = int(body.get("limit", 10000)), int(body.get("offset", 0))
        if limit < 1 or offset < 0:
            raise Refusal(400, "INVALID_ARGUMENT", "limit must be positive, offset must not be negative.")
        self.spend(3)
        rows = self.ordered(self.filtered(self.table.rows(dimensions, metrics, ranges), dimensions, metrics, body), dimensions, metrics, body.get("orderBys", ()))
        report = {"dimensionHeaders": [{"name": name} for name in dimensions], "metricHeaders": [{"name": name, "type": METRICS[name]} for name in metrics]}
        shown = rows[offset:offset + min(limit, MOST)]
        if shown:  # absent, not empty
            report["rows"] = [self.row(key, values) for key, values in shown]
        if "TOTAL" in body.get("metricAggregations", ()):
            report["totals"] = [self.row(("RESERVED_TOTAL",) * len(dimensions), [round(sum(column), 2) for column in zip(*(values for _, values in rows))])]
        if rows:
            report["rowCount"] = len(rows)
        report.update(metadata=self.metadata(), kind="analyticsData#runReport")
        if body.get("returnPropertyQuota"):
            report["propertyQuota"] = {
                "tokensPerDay": {"consumed": 3, "remaining": 199997}, "tokensPerHour": {"consumed": 3, "remaining": self.left},
                "concurrentRequests": {"remaining": self.concurrent}, "serverErrorsPerProjectPerHour": {"remaining": 10},
                "potentiallyThresholdedRequestsPerHour": {"remaining": 120}, "tokensPerProjectPerHour": {"consumed": 3, "remaining": self.left}}
        return report

    def row(self, key, values):
        return {"dimensionValues": [{"value": value} for value in key], "metricValues": [{"value": str(value)} for value in values]}

    def metadata(self):
        metadata = {"currencyCode": "EUR", "timeZone": "Europe/Madrid"}
        if self.sampling:
            metadata["samplingMetadatas"] = [{"samplesReadCount": "4000", "samplingSpaceSize": "40000"}]
        if self.other:
            metadata["dataLossFromOtherRow"] = True
        if self.thresholding:
            metadata["subjectToThresholding"] = True
        return metadata

    def filtered(self, rows, dimensions, metrics, body):
        """The rows of an exact filter of one dimension, and what sampling,
        thresholds and an "(other)" row make of them."""
        chosen = body.get("dimensionFilter", {}).get("filter")
        if chosen:
            place = dimensions.index(chosen["fieldName"])
            rows = {key: values for key, values in rows.items() if key[place] == chosen["stringFilter"]["value"]}
        if self.sampling:
            rows = {key: [value // 10 * 10 for value in values] for key, values in rows.items()}
        if self.thresholding and metrics:
            rows = {key: values for key, values in rows.items() if values[0] >= 50}
        if self.other and "country" in dimensions:
            place, merged = dimensions.index("country"), {}
            for key, values in rows.items():
                if key[place] != "Spain":
                    key = key[:place] + ("(other)",) + key[place + 1:]
                merged[key] = [round(one + more, 2) for one, more in zip(merged.get(key, [0] * len(values)), values)]
            rows = merged
        return rows

    def ordered(self, rows, dimensions, metrics, order):
        """By orderBys, else by the first metric descending; else no order."""
        rows = list(rows.items())
        random.shuffle(rows)
        if not order:
            rows.sort(key=lambda row: row[1][0], reverse=True)
        for one in reversed(order):
            if "dimension" in one:
                place = dimensions.index(one["dimension"]["dimensionName"])
                rows.sort(key=lambda row, p=place: row[0][p], reverse=bool(one.get("desc")))
            else:
                place = metrics.index(one["metric"]["metricName"])
                rows.sort(key=lambda row, p=place: row[1][p], reverse=bool(one.get("desc")))
        return rows


def main():
    parser = double.arguments("A local double of the Google Analytics Data API.")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--property", default="123456")
    parser.add_argument("--key-file", help="where the key file of the service account is written")
    parser.add_argument("--now", type=double.parse_iso, default=double.start_of_now())
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
