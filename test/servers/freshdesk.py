#!/usr/bin/python3
"""A local double of the Freshdesk API, version 2 (reading).

	freshdesk.py [--port N] [--port-file FILE] [--recorded DIRECTORY]
	             [--seed N] [--tickets N] [--contacts N] [--key KEY]

Serves a help desk made from the seed: tickets with their conversations,
contacts, companies, agents, groups, roles, ticket fields, satisfaction
ratings and time entries.  With --recorded, the answers of that directory are
served unchanged, byte for byte, where they answer the request.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows

	{"ceiling": 300}	the last page of a list of tickets
	{"rate": 200}		requests a minute
	{"change": N}		N tickets are changed now, some of them deleted
	{"tie": N}		N tickets are changed in one second
	{"drop": N}		N companies vanish
	{"later": N}		N seconds go by
	{"delete_contacts": N}	N contacts are deleted, which is soft
	{"restore_contacts": N}	N deleted contacts are restored

Time stands still at the start of the double and advances by a second with each
change.
"""

import datetime
import os
import random
import uuid

import double

API = "/api/v2"
WORDS = ("refund", "late", "parcel", "invoice", "login", "crash", "colour", "size", "“quoted”", "naïve", "Ωmega", "back\\slash", "tab\there")
KINDS = ("Question", "Incident", "Problem", "Feature Request", None)
INCLUDES = ("requester", "company", "stats", "description", "conversations")

# Recorded answer → what it answers.
RECORDED = {
    "all_tickets.json": API + "/tickets", "ticket_1.json": API + "/tickets/1", "contacts.json": API + "/contacts", "contact.json": API + "/contacts/1",
    "companies.json": API + "/companies", "company.json": API + "/companies/1", "agents.json": API + "/agents", "agent_1.json": API + "/agents/1",
    "groups.json": API + "/groups", "group_1.json": API + "/groups/1", "roles.json": API + "/roles", "role_1.json": API + "/roles/1",
    "time_entries.json": API + "/time_entries", "solution_categories.json": API + "/solutions/categories",
}


class Desk:
    """The data, made from a seed."""

    def __init__(self, seed, tickets, contacts, now):
        self.random, self.now = random.Random(seed), now
        self.companies = {72000300000 + i: self.company(72000300000 + i) for i in range(max(contacts // 10, 3))}
        self.contacts = {81000000000 + i: self.contact(81000000000 + i) for i in range(contacts)}
        self.agents = [{"id": 83000 + i, "available": i % 2 == 0, "occasional": False, "ticket_scope": 1, "group_ids": [84000 + i % 3], "role_ids": [85000],
                        "contact": {"name": "Agent %d" % i, "email": "agent%d@desk.test" % i}, "created_at": self.text(-400), "updated_at": self.text(-10)} for i in range(7)]
        self.groups = [{"id": 84000 + i, "name": "Group %d" % i, "description": None, "created_at": self.text(-400), "updated_at": self.text(-300)} for i in range(3)]
        self.roles = [{"id": 85000 + i, "name": name, "default": True, "created_at": self.text(-400), "updated_at": self.text(-400)} for i, name in enumerate(("Agent", "Admin"))]
        self.fields = [{"id": 86000 + i, "name": name, "label": name.title(), "type": "default_" + name, "position": i} for i, name in enumerate(("subject", "status", "priority"))]
        self.tickets, self.conversations, self.ratings, self.entries = {}, {}, [], []
        for i in range(tickets):
            self.ticket(1001 + i, tickets)

    def text(self, days=0.0):
        return double.iso(self.now + datetime.timedelta(seconds=int(days * 86400)))

    def sentence(self):
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(2, 9)))

    def company(self, number):
        return {"id": number, "name": "Company %d & Söhne" % number, "description": None, "note": None, "domains": ["c%d.test" % number], "health_score": None,
                "account_tier": self.random.choice(("Basic", "Premium", None)), "renewal_date": None, "industry": None,
                "custom_fields": {"cf_vip": self.random.random() < 0.1}, "created_at": self.text(-700), "updated_at": self.text(-self.random.uniform(1, 600))}

    def contact(self, number):
        return {"id": number, "active": True, "address": None, "company_id": self.random.choice(sorted(self.companies)), "description": None,
                "email": "contact%d@customers.test" % number, "job_title": None, "language": "en", "mobile": None, "name": "Contact %d" % number, "phone": None,
                "time_zone": "Madrid", "twitter_id": None, "facebook_id": None, "unique_external_id": "cust-%d" % number, "custom_fields": {}, "tags": [],
                "other_emails": [], "view_all_tickets": False, "created_at": self.text(-600), "updated_at": self.text(-self.random.uniform(0, 500))}

    def ticket(self, number, tickets):
        """A ticket, with its conversations, rating and time entry.  Every
        tenth is of the first of the last 30 days or before."""
        created = -30 - self.random.uniform(0, 300) if number % 10 == 0 else -self.random.uniform(0, 30)
        updated = created + self.random.uniform(0, 1) * min(-created, 20)
        status = self.random.choice((2, 3, 4, 5))
        requester = self.random.choice(sorted(self.contacts))
        self.tickets[number] = {
            "id": number, "subject": self.sentence(), "status": status, "priority": self.random.randint(1, 4), "source": self.random.choice((1, 2, 3, 7, 9, 10)),
            "type": self.random.choice(KINDS), "requester_id": requester, "responder_id": self.random.choice([None] + [agent["id"] for agent in self.agents]),
            "group_id": None, "company_id": self.contacts[requester]["company_id"], "product_id": None, "email_config_id": None, "cc_emails": [], "fwd_emails": [],
            "reply_cc_emails": [], "to_emails": None, "tags": self.random.sample(("late", "vip", "a,b"), self.random.randint(0, 2)), "spam": number % 97 == 0,
            "is_escalated": False, "fr_escalated": False, "custom_fields": {"cf_order_no": "A-%d" % number, "cf_amount": round(self.random.uniform(1, 500), 2)},
            "due_by": self.text(created + 3), "fr_due_by": self.text(created + 1), "created_at": self.text(created), "updated_at": self.text(updated)}
        self.conversations[number] = [
            {"id": number * 100 + i, "body": "<div>%s</div>" % self.sentence(), "body_text": self.sentence(), "incoming": i % 2 == 0, "private": False,
             "user_id": requester, "ticket_id": number, "support_email": None, "to_emails": [], "cc_emails": [], "bcc_emails": [], "from_email": None, "source": 0,
             "attachments": [], "created_at": self.text(created), "updated_at": self.text(created)} for i in range(self.random.choice((0, 1, 1, 2, 3)))]
        if number % 7 == 0:
            self.ratings.append({"id": number, "survey_id": 1, "user_id": requester, "agent_id": None, "group_id": None, "ticket_id": number, "feedback": self.sentence(),
                                 "ratings": {"default_question": self.random.choice((103, 100, -103))}, "created_at": self.text(updated), "updated_at": self.text(updated)})
        if number % 11 == 0:
            self.entries.append({"id": number, "billable": True, "note": None, "timer_running": False, "agent_id": 83000, "ticket_id": number, "time_spent": "00:%02d" % (number % 60),
                                 "executed_at": self.text(updated), "created_at": self.text(updated), "updated_at": self.text(updated)})

    def touch(self, number):
        """The ticket changes now: a reply comes in."""
        ticket = self.tickets[number]
        ticket.update(subject=self.sentence(), status=self.random.choice((2, 3, 4, 5)), updated_at=self.text())
        replies = self.conversations[number]
        replies.append({**(replies[0] if replies else {"ticket_id": number, "private": False, "attachments": []}), "id": number * 100 + 50 + len(replies),
                        "body": "<div>%s</div>" % self.sentence(), "created_at": self.text(), "updated_at": self.text()})

    def tick(self):
        self.now += datetime.timedelta(seconds=1)

    def change(self, count):
        for i, number in enumerate(self.random.sample(sorted(self.tickets), count)):
            self.tick()
            self.touch(number)
            if i % 5 == 4:
                self.tickets[number]["deleted"] = True

    def delete_contacts(self, count, deleted=True):
        chosen = [number for number, contact in sorted(self.contacts.items()) if bool(contact.get("deleted")) != deleted]
        for number in chosen[:count]:
            self.tick()
            self.contacts[number].update(deleted=deleted, updated_at=self.text())

    def tie(self, count):
        self.tick()
        for number in self.random.sample(sorted(self.tickets), count):
            self.touch(number)

    def move(self):
        """The ticket in the middle of the order by change comes last."""
        live = sorted((ticket["updated_at"], number) for number, ticket in self.tickets.items() if not ticket.get("deleted") and not ticket["spam"])
        self.tick()
        self.touch(live[self.random.randrange(len(live) // 4)][1])


class Server(double.Server):
    """The API over the desk."""

    name = "Freshdesk-double"
    impossible = ("token",)

    def __init__(self, options):
        super().__init__(options.port)
        self.desk = Desk(options.seed, options.tickets, options.contacts, options.now)
        self.key, self.ceiling = options.key, 300
        self.limiter = double.Limiter(1000000, 60)
        for name, path in RECORDED.items() if options.recorded else ():
            with open(os.path.join(options.recorded, name), "rb") as file:
                self.recording.add("GET", path, double.Answer(200, file.read(), self.headers(1, 199)))

    def headers(self, cost, left):
        return [("X-Ratelimit-Total", str(self.limiter.limit) if hasattr(self, "limiter") else "200"), ("X-Ratelimit-Remaining", str(left)),
                ("X-Ratelimit-Used-Currentrequest", str(cost)), ("X-Freshdesk-Api-Version", "latest=v2; requested=v2"), ("X-Request-Id", str(uuid.uuid4()))]

    def command(self, name, value):
        if name == "ceiling":
            self.ceiling = int(value)
        elif name == "rate":
            self.limiter = double.Limiter(int(value), 60)
        elif name == "change":
            self.desk.change(int(value))
        elif name == "tie":
            self.desk.tie(int(value))
        elif name in ("delete_contacts", "restore_contacts"):
            self.desk.delete_contacts(int(value), name == "delete_contacts")
        elif name == "later":
            self.desk.now += datetime.timedelta(seconds=int(value))
        elif name == "drop":
            for number in sorted(self.desk.companies)[:int(value)]:
                del self.desk.companies[number]
        else:
            raise ValueError("unknown command %s" % name)

    def data(self, stream):
        desk = self.desk
        streams = {"tickets": [self.shown(ticket, ("stats", "description")) for ticket in desk.tickets.values()], "contacts": list(desk.contacts.values()),
                   "companies": list(desk.companies.values()), "conversations": [reply for replies in desk.conversations.values() for reply in replies],
                   "agents": desk.agents, "groups": desk.groups, "roles": desk.roles, "ticket_fields": desk.fields, "satisfaction_ratings": desk.ratings,
                   "time_entries": desk.entries}
        return streams[stream]

    def move(self, request):
        self.desk.move()

    def first_of(self, request):
        return request.path, request.query.get("filter"), request.query.get("state")

    def query_of(self, request):
        """Tickets go on from a time of change, the rest by the page."""
        first = request.query.get("page", "1") == "1" and not request.query.get("updated_since", "1970") > "1971"
        return None if first else self.first_of(request)

    def place_of(self, request):
        return request.query.get("updated_since", "")

    def before(self, request):
        page = int(request.query.get("page", "1"))
        return self.answer(request.other(page=page - 1)) if page > 1 else super().before(request)

    def error(self, status, message):
        if status == 429:
            return double.Answer(429, {"message": "You have exceeded the limit of requests per minute"}, [("Retry-After", "1")])
        return double.Answer(status, {"code": "error", "message": message})

    def refuse(self, field, message, code="invalid_value"):
        return double.Refused(double.Answer(400, {"description": "Validation failed", "errors": [{"field": field, "message": message, "code": code}]}))

    def answer(self, request):
        basic = request.basic()
        if basic is None or basic[0] != self.key:
            return double.Answer(401, {"code": "invalid_credentials", "message": "You have to be logged in to perform this action."})
        includes = [name for name in request.query.get("include", "").split(",") if name]
        cost = 1 + 2 * len(includes)
        allowed, left, wait = self.limiter.take(cost)
        if not allowed:
            answer = self.error(429, "")
            answer.headers = [("Retry-After", str(int(wait) + 1))]
        elif request.method != "GET":
            answer = double.Answer(405, {"message": "%s method is not allowed. It should be one of these method(s): GET" % request.method})
        else:
            try:
                answer = self.route(request, includes)
            except double.Refused as refusal:
                answer = refusal.answer
        answer.headers += self.headers(cost, left)
        return answer

    def route(self, request, includes):
        if set(includes) - set(INCLUDES):
            raise self.refuse("include", "It should be one of these values: '%s'" % ",".join(INCLUDES))
        desk, path = self.desk, request.path
        lists = {"/companies": list(desk.companies.values()), "/agents": desk.agents, "/groups": desk.groups, "/roles": desk.roles, "/ticket_fields": desk.fields,
                 "/time_entries": desk.entries}
        if path == API + "/tickets":
            return self.tickets(request, includes)
        if path == API + "/search/tickets":
            return self.search(request)
        if path == API + "/contacts":
            return self.page(request, self.contacts(request))
        if path == API + "/surveys/satisfaction_ratings":
            since = self.since(request, "created_since")
            return self.page(request, [rating for rating in desk.ratings if rating["created_at"] >= since])
        if path.startswith(API) and path[len(API):] in lists:
            return self.page(request, lists[path[len(API):]])
        found = double.matches(API + r"/tickets/(\d+)(/conversations|/time_entries|/satisfaction_ratings)?", path)
        if not found or int(found[0]) not in desk.tickets:
            return double.Answer(404, b"")
        number = int(found[0])
        if found[1] is None:
            ticket = self.shown(desk.tickets[number], (*includes, "description"))
            return double.Answer(200, {**ticket, "conversations": desk.conversations[number]} if "conversations" in includes else ticket)
        below = {"/conversations": desk.conversations[number], "/time_entries": desk.entries, "/satisfaction_ratings": desk.ratings}[found[1]]
        return self.page(request, [row for row in below if row["ticket_id"] == number])

    def since(self, request, name):
        """The moment of a parameter, as the API writes moments."""
        if name not in request.query:
            return ""
        try:
            return double.iso(double.parse_iso(request.query[name]))
        except ValueError:
            raise self.refuse(name, "It should be in the 'combined date and time ISO8601' format", "invalid_value") from None

    def page(self, request, rows, ceiling=None):
        """The page asked for, with a Link header where there is a next one."""
        try:
            size = request.number("per_page", 30, 1, 100)
        except ValueError:
            raise self.refuse("per_page", "It should be a Positive Integer less than or equal to 100") from None
        try:
            number = request.number("page", 1, 1)
        except ValueError:
            raise self.refuse("page", "It should be a Positive Integer") from None
        if ceiling and number > ceiling:
            raise self.refuse("page", "You cannot access tickets beyond the %dth page" % ceiling)
        shown = rows[(number - 1) * size:number * size]
        headers = []
        if len(rows) > number * size:
            query = "&".join("%s=%s" % pair for pair in {**request.query, "page": number + 1, "per_page": size}.items())
            headers.append(("Link", '<%s%s?%s>; rel="next"' % (self.url, request.path, query)))
        return double.Answer(200, shown, headers, page=bool(shown))

    def shown(self, ticket, includes):
        """A ticket as the API shows it."""
        ticket = dict(ticket)
        if "stats" in includes:
            ticket["stats"] = {"agent_responded_at": None, "requester_responded_at": None, "first_responded_at": None, "status_updated_at": ticket["created_at"],
                               "reopened_at": None, "resolved_at": None, "closed_at": None, "pending_since": None}
        if "description" in includes:
            ticket["description"] = "<div>%s</div>" % ticket["subject"]
            ticket["description_text"] = ticket["subject"]
        if "requester" in includes:
            contact = self.desk.contacts[ticket["requester_id"]]
            ticket["requester"] = {name: contact[name] for name in ("id", "name", "email", "mobile", "phone")}
        if "company" in includes:
            company = self.desk.companies.get(ticket["company_id"])
            ticket["company"] = {"id": company["id"], "name": company["name"]} if company else None
        return ticket

    def tickets(self, request, includes):
        """Without updated_since only what was created in the last 30 days;
        deleted and spam only when a filter asks for them."""
        since, chosen = self.since(request, "updated_since"), request.query.get("filter")
        recent = "" if since or chosen else self.desk.text(-30)
        if chosen not in (None, "spam", "deleted", "new_and_my_open", "watching"):
            raise self.refuse("filter", "It should be one of these values: 'new_and_my_open,watching,spam,deleted'")
        rows = [ticket for ticket in self.desk.tickets.values() if ticket["updated_at"] >= since and ticket["created_at"] >= recent
                and bool(ticket.get("deleted")) == (chosen == "deleted") and (ticket["spam"] and not ticket.get("deleted")) == (chosen == "spam")]
        order = request.query.get("order_by", "created_at")
        if order not in ("created_at", "due_by", "updated_at", "status"):
            raise self.refuse("order_by", "It should be one of these values: 'created_at,due_by,updated_at,status'")
        rows.sort(key=lambda ticket: (ticket[order], ticket["id"]), reverse=request.query.get("order_type", "desc") == "desc")
        return self.page(request, [self.shown(ticket, includes) for ticket in rows], self.ceiling)

    def contacts(self, request):
        """In no order that the documentation promises."""
        since, state = self.since(request, "_updated_since") or self.since(request, "updated_since"), request.query.get("state")
        rows = [contact for contact in self.desk.contacts.values() if contact["updated_at"] >= since and bool(contact.get("deleted")) == (state == "deleted")]
        return sorted(rows, key=lambda contact: contact["name"][::-1])

    def search(self, request):
        """30 a page, 10 pages; of the query language only "field:value"."""
        field, _, value = request.query.get("query", "").strip('"').partition(":")
        if field not in ("priority", "status"):
            raise self.refuse("query", "Given query is invalid", "invalid_value")
        if int(request.query.get("page", 1)) > 10:
            raise self.refuse("page", "You cannot access pages beyond the 10th page")
        rows = [ticket for ticket in self.desk.tickets.values() if str(ticket[field]) == value]
        number = int(request.query.get("page", 1))
        return double.Answer(200, {"total": len(rows), "results": rows[30 * (number - 1):30 * number]})


def main():
    parser = double.arguments("A local double of the Freshdesk API.")
    parser.add_argument("--tickets", type=int, default=1000)
    parser.add_argument("--contacts", type=int, default=250)
    parser.add_argument("--key", default="freshdesk-key")
    parser.add_argument("--now", type=double.parse_iso, default=double.start_of_now())
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
