#!/usr/bin/python3
"""A local double of the Socrata open data API, SODA 2.1.

	socrata.py --register CSV.GZ [--soda2017 JSON] [--port N] [--port-file FILE]
	           [--loads DATE,DATE] [--rows N] [--no-gzip]

Serves two data sets, both the San Francisco register of business locations:

	/resource/g8m3-pdis.json	the register of 2023 in today's wire format,
		as it stood at one of --loads: a location that opens later is not
		there yet, one that closes later has no end yet; :updated_at is the
		load that changed the row last
	/resource/g8m3-2017.json	an answer of 2017, byte for byte, or queried

--rows repeats the register's rows with new keys until there are that many.
README.md says which behaviour rests on what evidence.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows {"load": "2021-01-01"}, to serve the register as of this load,
{"replace": 5}, to publish it anew without the last five rows by their keys, as
other rows (all :id and times change), and the faults poison and no_key (a record of an otherwise good page is spoiled)
and drop_column (400).
"""

import bisect
import csv
import gzip
import hashlib
import json
import random
import re
import time

import double
import soql

ID_ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"

# CSV header → (API name, type), in the API's order.
COLUMNS = [
    ("UniqueID", "uniqueid", "text"),
    ("Location Id", "ttxid", "text"),
    ("Business Account Number", "certificate_number", "text"),
    ("Ownership Name", "ownership_name", "text"),
    ("DBA Name", "dba_name", "text"),
    ("Street Address", "full_business_address", "text"),
    ("City", "city", "text"),
    ("State", "state", "text"),
    ("Source Zipcode", "business_zip", "text"),
    ("Business Start Date", "dba_start_date", "floating_timestamp"),
    ("Business End Date", "dba_end_date", "floating_timestamp"),
    ("Location Start Date", "location_start_date", "floating_timestamp"),
    ("Location End Date", "location_end_date", "floating_timestamp"),
    ("Mail Address", "mailing_address_1", "text"),
    ("Mail City", "mail_city", "text"),
    ("Mail Zipcode", "mail_zipcode", "text"),
    ("Mail State", "mail_state", "text"),
    ("NAICS Code", "naic_code", "text"),
    ("NAICS Code Description", "naic_code_description", "text"),
    ("Parking Tax", "parking_tax", "checkbox"),
    ("Transient Occupancy Tax", "transient_occupancy_tax", "checkbox"),
    ("LIC Code", "lic", "text"),
    ("LIC Code Description", "lic_code_description", "text"),
    ("Supervisor District", "supervisor_district", "text"),
    ("Hoods", "neighborhoods_analysis_boundaries", "text"),
    ("Business Corridor", "business_corridor", "text"),
    ("Business Location", "location", "point"),
    ("SF Find Neighborhoods", ":@computed_region_6qbp_sg9q", "number"),
    ("Current Police Districts", ":@computed_region_qgnn_b9vv", "number"),
    ("Current Supervisor Districts", ":@computed_region_26cr_cadq", "number"),
    ("Analysis Neighborhoods", ":@computed_region_ajp5_b2md", "number"),
    ("Neighborhoods", ":@computed_region_jwn9_ihcz", "number"),
]
SYSTEM = {":id": "row_identifier", ":created_at": "fixed_timestamp", ":updated_at": "fixed_timestamp", ":version": "row_version"}


def row_id(key):
    """An id such as row-a1b2.c3d4~e5f6, the same for the same key."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    letters = "".join(ID_ALPHABET[number >> 5 * i & 31] for i in range(12))
    return "row-%s.%s~%s" % (letters[:4], letters[4:8], letters[8:])


def api_value(text, kind):
    """A cell of the CSV as the API writes it, None for null."""
    if text == "":
        return None
    if kind == "floating_timestamp":
        month, day, year = text.split("/")
        return "%s-%s-%sT00:00:00.000" % (year, month, day)
    if kind == "checkbox":
        return text == "True"
    if kind == "point":
        longitude, latitude = re.fullmatch(r"POINT \((\S+) (\S+)\)", text).groups()
        return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}
    return re.sub(r"^(\d+)\.0$", r"\1", text) if kind == "number" else text


def read_register(path):
    """The register's rows in the API's format, nulls left out."""
    rows = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            row = {name: api_value(line[header], kind) for header, name, kind in COLUMNS}
            # the key holds the account with the leading zeros that pandas ate
            row["certificate_number"] = row["uniqueid"].split("-")[3]
            if row["supervisor_district"]:
                row["supervisor_district"] = row["supervisor_district"].split(".")[0]
            rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def repeat(rows, wanted):
    """The rows, again and again with new keys, until there are that many."""
    result = []
    for i in range(wanted):
        row = rows[i % len(rows)]
        if i >= len(rows):
            row = dict(row, uniqueid="%s-%d" % (row["uniqueid"], i // len(rows)))
        result.append(row)
    return result


def as_of(row, load):
    """The row as it stood then, None if it was not there yet."""
    if row.get("location_start_date", "") > load + "T":
        return None
    return {name: value for name, value in row.items() if not (name.endswith("_end_date") and value > load + "T")}


def register_at(rows, loads, load):
    """The register as of a load, with what each load before it did."""
    result = []
    for row in rows:
        before = created = updated = None
        for date in loads:
            if date > load:
                break
            now = as_of(row, date)
            if now is not None and now != before:
                stamp = "%sT08:00:00.000Z" % date
                created, updated, before = created or stamp, stamp, now
        if before is not None:
            identity = row_id(row["uniqueid"])
            system = {":id": identity, ":created_at": created, ":updated_at": updated, ":version": "rv-" + row_id(identity + updated)[4:]}
            result.append({**system, **before})
    return result


class DataSet:
    """Rows with their columns' types, and indexes made when first needed."""

    def __init__(self, rows, columns, raw=None):
        self.rows, self.columns, self.raw = rows, columns, raw
        self.orders, self.texts = {}, {}

    def ordered(self, order):
        """(rows, keys) sorted by the columns."""
        order = tuple(order)
        if order not in self.orders:
            rows = list(self.rows)
            for name, descending in reversed(order):
                kind = self.columns[name]
                rows.sort(key=lambda row, n=name, k=kind: (n in row, soql.comparable(row[n], k)) if n in row else (False, ""), reverse=descending)
            keys = None
            if len(order) == 2 and not any(descending for _, descending in order):
                (first, _), (second, _) = order
                keys = [(soql.comparable(row.get(first, ""), self.columns[first]), row.get(second, "")) for row in rows]
            self.orders[order] = (rows, keys)
        return self.orders[order]

    def text(self, row, selected, key):
        """The row as JSON; kept for the answer that crawlers ask for."""
        cache = self.texts.setdefault(key, {}) if key in ("*", ":*,*") else {}
        number = id(row)
        if number not in cache:
            cache[number] = json.dumps({alias: row[name] for _, name, alias in selected if name in row}, separators=(",", ":"), ensure_ascii=False)
        return cache[number]

    def find(self, parameters):
        """The rows of $where, $order, $limit, $offset and simple filters."""
        conditions, node = [], None
        if "$where" in parameters:
            node = soql.parse_where(parameters["$where"], self.columns)
        for name, value in parameters.items():
            if not name.startswith("$"):
                soql.Parser(name, self.columns).column(name)
                conditions.append(soql.evaluate(("=", ("column", name), ("value", value)), self.columns))
        rows, keys = list(self.rows), None
        if "$order" in parameters:
            order = soql.parse_order(parameters["$order"], self.columns)
            rows, keys = self.ordered(order)
            after = soql.keyset_after(node) if node and keys else None
            if after and [after[0], after[2]] == [name for name, _ in order]:
                rows = rows[bisect.bisect_right(keys, (soql.comparable(after[1], self.columns[after[0]]), after[3])):]
                node = None
        elif "$group" not in parameters:
            random.shuffle(rows)  # no order is promised, so none is given
        if node:
            conditions.append(soql.evaluate(node, self.columns))
        if conditions:
            rows = [row for row in rows if all(condition(row) for condition in conditions)]
        return rows

    def answer(self, parameters):
        """(columns, rows as JSON texts) of a query."""
        for name in parameters:
            if name.startswith("$") and name not in ("$select", "$where", "$order", "$limit", "$offset", "$group", "$$app_token"):
                raise soql.SoqlError("query.compiler.malformed", "Unrecognized parameter %s" % name)
        try:
            limit, offset = int(parameters.get("$limit", 1000)), int(parameters.get("$offset", 0))
        except ValueError:
            raise soql.SoqlError("query.compiler.malformed", "$limit and $offset must be integers") from None
        wanted = parameters.get("$select", "*")
        selected = soql.parse_select(wanted, self.columns)
        rows = self.find(parameters)
        if any(function for function, _, _ in selected):
            rows = self.group(rows, selected, parameters.get("$group"))
            texts = [json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows[offset:offset + limit]]
            return [alias for _, _, alias in selected], texts
        return [name for _, name, _ in selected], [self.text(row, selected, wanted) for row in rows[offset:offset + limit]]

    def group(self, rows, selected, group):
        """Rows of aggregates; numbers are strings on the wire."""
        names = [soql.Parser(name.strip(), self.columns).column(name.strip()) for name in group.split(",")] if group else []
        groups = {} if names else {(): []}
        for row in rows:
            groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
        result = []
        for members in groups.values():
            line = {}
            for function, name, alias in selected:
                values = [row[name] for row in members if name in row]
                if function == "count":
                    line[alias] = str(len(members) if name == "*" else len(values))
                elif function:
                    if values:
                        line[alias] = (max if function == "max" else min)(values, key=lambda v, k=self.columns[name]: soql.comparable(v, k))
                elif name in members[0]:
                    line[alias] = members[0][name]
            result.append(line)
        return result


class Server(double.Server):
    """What is served."""

    name = "Socrata-double"

    def __init__(self, options):
        super().__init__(options.port)
        self.gzip, self.loads, self.current, self.replaced = not options.no_gzip, options.loads, None, False
        rows = read_register(options.register)
        self.register = repeat(rows, options.rows) if options.rows else rows
        self.types = {**SYSTEM, **{name: kind for _, name, kind in COLUMNS}}
        self.sets = {}
        if options.soda2017:
            with open(options.soda2017, "rb") as file:
                raw = file.read()
            rows = [{":id": row_id(str(i)), **row} for i, row in enumerate(json.loads(raw))]
            names = {name: "text" for row in rows for name in row}
            self.sets["g8m3-2017"] = DataSet(rows, {**names, ":id": "row_identifier"}, raw)
        self.load(self.loads[0])

    def load(self, date):
        """Serve the register as of a load."""
        if date not in self.loads:
            raise ValueError("no load of %s; there are %s" % (date, ", ".join(self.loads)))
        if date != self.current or self.replaced:
            self.sets["g8m3-pdis"] = DataSet(register_at(self.register, self.loads, date), self.types)
            self.current, self.replaced = date, False

    def publish(self, gone):
        """A publisher's replace: every row is another one, with an id and times
        of its own, and of the last rows so many are gone."""
        data = self.sets["g8m3-pdis"]
        rows = sorted(data.rows, key=lambda row: row["uniqueid"])[:len(data.rows) - gone]
        stamp = max(row[":updated_at"] for row in rows)[:10] + "T23:00:00.000Z"
        self.sets["g8m3-pdis"] = DataSet([{**row, ":id": row_id(row[":id"] + stamp), ":version": "rv-" + row_id(row[":id"])[4:],
                                           ":created_at": stamp, ":updated_at": stamp} for row in rows], data.columns)
        self.replaced = True

    def command(self, name, value):
        commands = {"load": self.load, "replace": self.publish}
        if name not in commands:
            raise ValueError("unknown command %s" % name)
        commands[name](value)

    def state(self):
        return {"load": self.current}

    def data(self, stream):
        return self.sets[stream or "g8m3-pdis"].rows

    def move(self, request):
        """Touch a row, so that it comes last in the order of :updated_at."""
        data = self.sets["g8m3-pdis"]
        rows = list(data.rows)
        chosen = self.faults.random.randrange(len(rows))
        stamp = "%sT09:%02d:%02d.000Z" % (self.current, self.faults.seen // 60 % 60, self.faults.seen % 60)
        rows[chosen] = {**rows[chosen], ":updated_at": stamp, ":version": "rv-" + row_id(rows[chosen][":id"] + stamp)[4:]}
        self.sets["g8m3-pdis"] = DataSet(rows, data.columns)

    def query_of(self, request):
        """Pages go on by an offset, or after a row's id."""
        where, offset = request.query.get("$where", ""), request.query.get("$offset", "0")
        return None if offset == "0" and ":id >" not in where else request.path

    def place_of(self, request):
        """The last row's time of change and id, in a keyset."""
        found = re.search(r"= '([^']*)' AND :id > '([^']*)'", request.query.get("$where", ""))
        return found.groups() if found else ("", "")

    def before(self, request):
        """By offset pages may be asked for in any order."""
        offset, size = int(request.query.get("$offset", 0)), int(request.query.get("$limit", 1000))
        return self.answer(request.other(**{"$offset": max(offset - size, 0)})) if offset else super().before(request)

    def error(self, status, message, code=None, **data):
        codes = {404: "dataset.missing", 403: "permission_denied", 429: "too_many_requests"}
        return self.headed(double.Answer(status, {"code": code or codes.get(status, "internal"), "error": True, "message": message, "data": data}))

    def headed(self, answer):
        answer.headers.append(("X-Socrata-RequestId", "%032x" % random.getrandbits(128)))
        return answer

    def answer(self, request):
        match = re.fullmatch(r"/resource/([a-z0-9]{4}-[a-z0-9]{4})\.json", request.path)
        metadata = re.fullmatch(r"/api/views/([a-z0-9]{4}-[a-z0-9]{4})\.json", request.path)
        data = self.sets.get((match or metadata).group(1)) if match or metadata else None
        if request.method not in ("GET", "HEAD"):
            return self.error(405, "This double only reads", "method_not_allowed")
        if data is None:
            return self.error(404, "Not found")
        return self.headed(self.metadata(metadata.group(1), data) if metadata else self.resource(data, request))

    def resource(self, data, request):
        if data.raw is not None and not request.query:
            return double.Answer(200, data.raw)
        try:
            names, texts = data.answer(request.query)
        except soql.SoqlError as error:
            return self.error(400, str(error), error.code, **error.data)
        body = ("[" + "\n,".join(texts) + "]\n").encode()
        headers = [("X-SODA2-Fields", json.dumps(names)), ("X-SODA2-Types", json.dumps([data.columns.get(name, "number") for name in names]))]
        if sum(len(value) for _, value in headers) > 4096:
            headers = []
        tag = 'W/"%s"' % hashlib.sha256(body).hexdigest()[:32]
        headers += [("ETag", tag), ("X-SODA2-Data-Out-Of-Date", "false"), ("Last-Modified", "%s 08:00:00 GMT" % self.current)]
        if request.headers.get("If-None-Match") == tag:
            return double.Answer(304, b"", headers)
        return double.Answer(200, body, headers, page=bool(texts))

    def metadata(self, name, data):
        columns = [{"fieldName": column, "dataTypeName": kind} for column, kind in data.columns.items() if not column.startswith(":")]
        return double.Answer(200, {"id": name, "name": "Registered Business Locations - San Francisco", "columns": columns,
                                   "rowsUpdatedAt": int(time.mktime(time.strptime(self.current, "%Y-%m-%d")))})

    def replace(self, request, fault):
        if fault["kind"] == "drop_column":
            return self.error(400, "Query coordinator error: query.soql.no-such-column; No such column: naic_code", "query.soql.no-such-column",
                              column="naic_code", query="select naic_code")
        if fault["kind"] in ("poison", "no_key"):
            answer = self.answer(request)
            return double.Answer(answer.status, spoil(fault["kind"], answer.body), answer.headers, answer.content_type)
        return super().replace(request, fault)


def spoil(kind, body):
    """A record that cannot be taken in, in an otherwise good page."""
    if kind == "poison":
        return body.replace(b'"dba_name":"', b'"dba_name":"\\u0000', 1)
    return re.sub(rb'"uniqueid":"[^"]*",', b"", body, count=1)


def main():
    parser = double.arguments("A local double of the Socrata open data API.")
    parser.add_argument("--register", required=True)
    parser.add_argument("--soda2017")
    parser.add_argument("--loads", type=lambda text: text.split(","), default=["2021-01-01", "2023-03-10"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--no-gzip", action="store_true")
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
