#!/usr/bin/python3
"""A local double of the HubSpot CRM API (reading): the paths of version 3 and
the dated ones, which have the same bodies; associations of version 4.

	hubspot.py [--port N] [--port-file FILE] [--recorded DIRECTORY]
	           [--seed N] [--contacts N] [--token TOKEN]

Serves contacts, companies, deals and tickets made from the seed.  Either the
static token opens it, or one from the token endpoints, for --client-id,
--client-secret and --refresh-token.  With --recorded, the exchanges of that
directory are served unchanged where they were asked for the same.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows

	{"change": N}		N contacts are changed now
	{"tie": N}		N contacts are changed in one millisecond
	{"archive": N}		N contacts are archived
	{"merge": N}		N contacts lose a merge and are archived
	{"restore": N}		N archived contacts are restored
	{"lag": SECONDS}	how long search shows what was before a change
	{"rate": N}		requests in ten seconds
	{"secondly": N}		searches in a second
	{"daily": N}		requests that are left of this day
	{"window": 10000}	how deep a search can be paged

Time stands still at the start of the double and advances by a second with each
change.
"""

import datetime
import gzip
import json
import os
import random
import time
import uuid

import double

VERSION = r"/crm/(?:v3/objects|objects/\d{4}-\d{2})"
TYPES = {"contacts": ("email", "firstname", "lastname"), "companies": ("domain", "name"), "deals": ("amount", "dealname", "dealstage", "pipeline"),
         "tickets": ("content", "hs_pipeline_stage", "subject")}
NAMES = ("Ann", "José", "Zoë", "Łukasz", "李", "O\"Brien", "Anne-Marie")
EXTRA = {"contacts": ("phone", "numemployees", "hs_is_unworked", "hs_multi_select", "notes"), "companies": ("industry",), "deals": ("closedate",), "tickets": ()}
TOKEN_LIFE = 1800


def modified(kind):
    """The property with the time of the last change."""
    return "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"


class Crm:
    """The records, made from a seed."""

    def __init__(self, seed, contacts, now):
        self.random, self.now = random.Random(seed), now
        counts = {"contacts": contacts, "companies": max(contacts // 8, 3), "deals": max(contacts // 5, 3), "tickets": max(contacts // 10, 3)}
        self.objects = {kind: {} for kind in TYPES}
        # what search still shows: number → (record before, until when)
        self.stale, self.lag = {}, 0
        for kind, count in counts.items():
            number = 7945143592 if kind == "contacts" else 550000000
            for _ in range(count):
                number += self.random.randint(1, 40)
                self.objects[kind][number] = self.record(kind, number)
        companies = sorted(self.objects["companies"])
        self.links = {number: self.random.sample(companies, self.random.randint(0, min(2, len(companies)))) for number in self.objects["contacts"]}

    def text(self, moment=None):
        return double.iso(moment or self.now, 3)

    def record(self, kind, number):
        created = self.now - datetime.timedelta(seconds=self.random.uniform(86400, 300 * 86400))
        changed = created + (self.now - created) * self.random.random()
        properties = {"createdate": self.text(created), "hs_object_id": str(number), modified(kind): self.text(changed)}
        values = {"email": "c%d@example.test" % number, "firstname": self.random.choice(NAMES), "lastname": "Customer %d" % number, "domain": "d%d.test" % number,
                  "name": "Company %d" % number, "amount": "%.2f" % self.random.uniform(1, 99999), "dealname": "Deal %d" % number, "pipeline": "default",
                  "dealstage": "appointmentscheduled", "content": "It \"broke\"\nagain", "hs_pipeline_stage": "1", "subject": "Ticket %d" % number,
                  "phone": "+34 600 %06d" % (number % 1000000), "numemployees": str(number % 500), "hs_is_unworked": "true", "hs_multi_select": "a;b", "notes": None,
                  "industry": None, "closedate": self.text(created)}
        properties.update({name: values[name] for name in TYPES[kind] + EXTRA[kind]})
        return {"id": str(number), "properties": properties, "createdAt": self.text(created), "updatedAt": self.text(changed), "archived": False}

    def touch(self, number):
        """A contact changes; search learns of it later."""
        record = self.objects["contacts"][number]
        if self.lag:
            self.stale[number] = (record, time.monotonic() + self.lag)
        properties = {**record["properties"], "firstname": self.random.choice(NAMES), "numemployees": str(self.random.randint(0, 9999)), "lastmodifieddate": self.text()}
        self.objects["contacts"][number] = {**record, "properties": properties, "updatedAt": self.text()}

    def live(self):
        return sorted(number for number, record in self.objects["contacts"].items() if not record["archived"])

    def change(self, count, together=False):
        self.now += datetime.timedelta(seconds=1)
        for number in self.random.sample(self.live(), count):
            self.touch(number)
            if not together:
                self.now += datetime.timedelta(seconds=1)

    def archive(self, count, merged=False):
        numbers = self.random.sample(self.live(), count + 1)
        for number in numbers[1:]:
            self.now += datetime.timedelta(seconds=1)
            record = self.objects["contacts"][number]
            self.objects["contacts"][number] = {**record, "archived": True, "archivedAt": self.text(), "updatedAt": self.text()}
            if merged:
                self.touch(numbers[0])
                self.objects["contacts"][numbers[0]]["properties"]["hs_merged_object_ids"] = str(number)

    def restore(self, count):
        for number in sorted(number for number, record in self.objects["contacts"].items() if record["archived"])[:count]:
            self.now += datetime.timedelta(seconds=1)
            self.objects["contacts"][number] = {**{name: value for name, value in self.objects["contacts"][number].items() if name != "archivedAt"}, "archived": False}
            self.touch(number)

    def searched(self, kind):
        """The records as search knows them."""
        for number, record in self.objects[kind].items():
            before = self.stale.get(number) if kind == "contacts" else None
            if before and before[1] > time.monotonic():
                record = before[0]
            if not record["archived"]:
                yield record


class Server(double.Server):
    """The API over the records."""

    name = "HubSpot-double"

    def __init__(self, options):
        super().__init__(options.port)
        self.crm, self.options = Crm(options.seed, options.contacts, options.now), options
        self.tokens, self.window, self.daily = {}, 10000, 250000
        self.rolling, self.secondly = double.Limiter(1000000, 10), double.Limiter(1000000, 1)
        if options.recorded:
            self.replay(options.recorded)

    def replay(self, directory):
        """Exchanges with a live account, and answers of the version 3."""
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if name.endswith(".json.gz"):
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    for one in json.load(file):
                        headers = [(key, value) for key, value in one.get("response_headers", {}).items() if key.startswith("X-HubSpot")]
                        body = b"" if one.get("response_body") in (None, "") else double.dumps(one["response_body"])
                        self.recording.add(one["method"], one["path"], double.Answer(one["status"], body, headers), one.get("query"), one.get("request_body"))
            elif name.startswith("dlt_mock_") and name.endswith("_data.json"):
                with open(path, "rb") as file:
                    self.recording.add("GET", "/crm/v3/objects/" + name[len("dlt_mock_"):-len("_data.json")], double.Answer(200, file.read()))

    def command(self, name, value):
        if name in ("change", "tie"):
            self.crm.change(int(value), name == "tie")
        elif name in ("archive", "merge"):
            self.crm.archive(int(value), name == "merge")
        elif name == "restore":
            self.crm.restore(int(value))
        elif name == "lag":
            self.crm.lag = float(value)
        elif name == "rate":
            self.rolling = double.Limiter(int(value), 10)
        elif name == "secondly":
            self.secondly = double.Limiter(int(value), 1)
        elif name in ("window", "daily"):
            setattr(self, name, int(value))
        else:
            raise ValueError("unknown command %s" % name)

    def data(self, stream):
        return list(self.crm.objects[stream].values())

    def move(self, request):
        self.crm.change(1)

    def query_of(self, request):
        """A search goes on after an id, a list at its cursor."""
        going_on = b'"GT"' in request.body if request.path.endswith("/search") else "after" in request.query
        return request.path if going_on else None

    def place_of(self, request):
        if request.path.endswith("/search") and self.query_of(request):
            return max(int(one["value"]) for group in request.json()["filterGroups"] for one in group["filters"] if one["operator"] == "GT")
        return int(request.query.get("after") or 0)

    def expire_tokens(self):
        self.tokens = {token: 0 for token in self.tokens}

    def possible(self, request, kind):
        return super().possible(request, kind) and (kind != "token" or bool(self.tokens))

    def error(self, status, message, category=None, **more):
        categories = {400: "VALIDATION_ERROR", 401: "INVALID_AUTHENTICATION", 403: "MISSING_SCOPES", 404: "OBJECT_NOT_FOUND", 409: "CONFLICT", 429: "RATE_LIMITS"}
        if status == 429 and not more:
            return self.exceeded("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
        return double.Answer(status, {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), "category": category or categories.get(status, "ERROR"), **more})

    def exceeded(self, policy, name):
        return self.error(429, "You have reached your %s limit." % name, errorType="RATE_LIMIT", policyName=policy)

    def answer(self, request):
        if double.matches(r"/oauth/(v1|v3|\d{4}-\d{2})/token", request.path) and request.method == "POST":
            return self.token(request)
        bearer = request.bearer()
        if bearer != self.options.token and self.tokens.get(bearer, 0) <= time.monotonic():
            expired = bearer in self.tokens
            return self.error(401, "The OAuth token used to make this call expired." if expired else "Authentication credentials not found.",
                              "EXPIRED_AUTHENTICATION" if expired else "INVALID_AUTHENTICATION")
        search = request.path.endswith("/search")
        allowed, left, _ = self.rolling.take()
        self.daily -= 1
        if self.daily < 0:
            return self.exceeded("DAILY", "daily")
        if not allowed:
            return self.exceeded("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
        if search and not self.secondly.take()[0]:
            return self.exceeded("SECONDLY", "secondly")
        try:
            answer = self.route(request)
        except double.Refused as refusal:
            answer = refusal.answer
        except (ValueError, KeyError, TypeError) as error:
            answer = self.error(400, "Invalid input JSON: %s" % error)
        if not search:  # search has no headers of limits
            answer.headers += [("X-HubSpot-RateLimit-Daily", "250000"), ("X-HubSpot-RateLimit-Daily-Remaining", str(self.daily)),
                               ("X-HubSpot-RateLimit-Interval-Milliseconds", "10000"), ("X-HubSpot-RateLimit-Max", str(self.rolling.limit)),
                               ("X-HubSpot-RateLimit-Remaining", str(left))]
        answer.headers.append(("X-HubSpot-Correlation-Id", str(uuid.uuid4())))
        return answer

    def token(self, request):
        """OAuth: everything is in the form."""
        form, options = request.form(), self.options
        if form.get("client_id") != options.client_id or form.get("client_secret") != options.client_secret:
            return double.Answer(400, {"status": "BAD_CLIENT_SECRET", "message": "missing or unknown client secret"})
        if form.get("grant_type") != "client_credentials" and (form.get("grant_type") != "refresh_token" or form.get("refresh_token") != options.refresh_token):
            return double.Answer(400, {"status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token"})
        token = "C" + uuid.uuid4().hex * 10  # real ones have more than 300 characters
        self.tokens[token] = time.monotonic() + TOKEN_LIFE
        return double.Answer(200, {"token_type": "bearer", "access_token": token, "refresh_token": options.refresh_token, "expires_in": TOKEN_LIFE})

    def route(self, request):
        path, method = request.path, request.method
        for pattern, wanted, function in (
                (VERSION + r"/(\w+)", "GET", self.list), (VERSION + r"/(\w+)/search", "POST", self.search), (VERSION + r"/(\w+)/batch/read", "POST", self.batch),
                (VERSION + r"/(\w+)/([^/]+)", "GET", self.one), (r"/crm/v3/properties/(\w+)", "GET", self.properties),
                (r"/crm/v4/objects/contacts/(\d+)/associations/companies", "GET", self.associations),
                (r"/crm/v4/associations/contacts/companies/batch/read", "POST", self.associated)):
            found = double.matches(pattern, path)
            if found is not None and method == wanted:
                if r"(\w+)" in pattern and found[0] not in TYPES:
                    break
                return function(request, *found)
        return self.error(404, "No object type or path %s" % path)

    def shown(self, kind, record, wanted):
        """A record with the properties asked for; these always come."""
        always = {"createdate", "hs_object_id", modified(kind)}
        names = always | set(wanted or TYPES[kind]) | ({"hs_merged_object_ids"} & set(record["properties"]))
        return {**record, "properties": {name: record["properties"].get(name) for name in sorted(names)}}

    def wanted(self, request):
        return [name for name in request.query.get("properties", "").split(",") if name]

    def list(self, request, kind):
        """By id; the cursor is the id of the next record."""
        try:
            size, after = request.number("limit", 10, 1, 100), int(request.query.get("after") or 0)
        except ValueError as error:
            return self.error(400, "Invalid value: %s" % error)
        archived = request.query.get("archived") == "true"
        rows = [record for number, record in sorted(self.crm.objects[kind].items()) if record["archived"] == archived and number >= after]
        body = {"results": [self.shown(kind, record, self.wanted(request)) for record in rows[:size]]}
        if request.query.get("associations") == "companies" and kind == "contacts":
            for record in body["results"]:
                linked = self.crm.links.get(int(record["id"]))
                if linked:
                    record["associations"] = {"companies": {"results": [{"id": str(number), "type": "contact_to_company"} for number in linked]}}
        if len(rows) > size:
            body["paging"] = {"next": {"after": rows[size]["id"], "link": "%s%s?after=%s" % (self.url, request.path, rows[size]["id"])}}
        return double.Answer(200, body, page=bool(body["results"]))

    def one(self, request, kind, key):
        name = request.query.get("idProperty")
        for number, record in self.crm.objects[kind].items():
            if (record["properties"].get(name) if name else str(number)) == key and not record["archived"]:
                return double.Answer(200, self.shown(kind, record, self.wanted(request)))
        return self.error(404, "Object not found.  objectId are usually numeric.")

    def batch(self, request, kind):
        """At most 100 inputs; 207 where some are not there, in no order."""
        body = request.json()
        inputs = [one["id"] for one in body["inputs"]]
        if len(inputs) > 100:
            return self.error(400, "The maximum number of inputs is 100")
        archived, name = request.query.get("archived") == "true", body.get("idProperty")
        known = {record["properties"].get(name) if name else record["id"]: record for record in self.crm.objects[kind].values() if record["archived"] == archived}
        found = [self.shown(kind, known[key], body.get("properties")) for key in inputs if key in known]
        self.crm.random.shuffle(found)
        missing = [key for key in inputs if key not in known]
        answer = {"status": "COMPLETE", "results": found, "startedAt": self.crm.text(), "completedAt": self.crm.text()}
        if missing:
            answer.update(numErrors=1, errors=[{"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects", "context": {"ids": missing}}])
        return double.Answer(207 if missing else 200, answer)

    def properties(self, request, kind):
        names = sorted({"createdate", "hs_object_id", modified(kind)} | set(TYPES[kind] + EXTRA[kind]))
        return double.Answer(200, {"results": [{"name": name, "label": name, "type": "datetime" if name.endswith("date") else "string", "fieldType": "text",
                                                "hasUniqueValue": name in ("email", "hs_object_id"), "archived": False} for name in names]})

    def linked(self, number):
        return [{"toObjectId": str(company), "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": 279, "label": None}]} for company in self.crm.links.get(number, ())]

    def associations(self, request, number):
        return double.Answer(200, {"results": self.linked(int(number))})

    def associated(self, request):
        inputs = [one["id"] for one in request.json()["inputs"]]
        results = [{"from": {"id": key}, "to": self.linked(int(key))} for key in inputs if self.linked(int(key))]
        answer = {"status": "COMPLETE", "results": results}
        if len(results) < len(inputs):
            answer.update(numErrors=1, errors=[{"status": "error", "category": "OBJECT_NOT_FOUND", "message": "No contact is associated with a company"}])
        return double.Answer(200 if len(results) == len(inputs) else 207, answer)

    def search(self, request, kind):
        """Filters, one sort, at most 200 a page and 10,000 a query; in no
        order where records sort alike."""
        body = request.json()
        size, after = int(body.get("limit", 10)), int(body.get("after") or 0)
        if len(request.body) > 3000:
            return self.error(400, "The request body is longer than 3000 characters")
        if not 1 <= size <= 200:
            return self.error(400, "limit must be between 1 and 200")
        if after + size > self.window:
            return self.error(400, "The maximum number of results a search can page through is %d" % self.window)
        groups = body.get("filterGroups", [])
        filters = [one for group in groups for one in group["filters"]]
        if len(groups) > 5 or len(filters) > 18 or len(body.get("sorts", [])) > 1:
            return self.error(400, "Too many filter groups, filters or sorts")
        rows = [record for record in self.crm.searched(kind) if not groups or any(all(holds(one, record) for one in group["filters"]) for group in groups)]
        random.shuffle(rows)
        for sort in body.get("sorts", []):
            name = sort["propertyName"]
            rows.sort(key=lambda record: comparable(record["properties"].get(name) or ""), reverse=sort.get("direction") == "DESCENDING")
        shown = [self.shown(kind, record, body.get("properties")) for record in rows[after:after + size]]
        answer = {"total": len(rows), "results": shown}
        if len(rows) > after + size:
            answer["paging"] = {"next": {"after": str(after + size)}}
        return double.Answer(200, answer, page=bool(shown))


def comparable(text):
    """Numbers by value, moments (ISO or milliseconds) by time, else text."""
    text = str(text)
    if text.lstrip("-").isdigit():
        return (0, int(text), "")
    try:
        return (0, int(double.parse_iso(text).timestamp() * 1000), "")
    except ValueError:
        return (1, 0, text.lower())


def holds(one, record):
    """Does the record pass one filter?"""
    operator, value = one["operator"], record["properties"].get(one["propertyName"])
    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        return (value is not None) == (operator == "HAS_PROPERTY")
    if value is None:
        return operator in ("NEQ", "NOT_IN")
    mine = comparable(value)
    if operator in ("IN", "NOT_IN"):
        return (mine in [comparable(other) for other in one["values"]]) == (operator == "IN")
    other = comparable(one["value"])
    tests = {"EQ": mine == other, "NEQ": mine != other, "LT": mine < other, "LTE": mine <= other, "GT": mine > other, "GTE": mine >= other}
    if operator == "BETWEEN":
        return other <= mine <= comparable(one["highValue"])
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        return (one["value"].strip("*").lower() in str(value).lower()) == (operator == "CONTAINS_TOKEN")
    return tests[operator]


def main():
    parser = double.arguments("A local double of the HubSpot CRM API.")
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--token", default="pat-eu1-test")
    parser.add_argument("--client-id", default="client")
    parser.add_argument("--client-secret", default="client-secret")
    parser.add_argument("--refresh-token", default="refresh-token")
    parser.add_argument("--now", type=double.parse_iso, default=double.start_of_now())
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
