#!/usr/bin/python3
"""A local double of the AppsFlyer Pull API: raw-data and aggregate reports as
CSV.

	appsflyer.py [--port N] [--port-file FILE] [--recorded DIRECTORY]
	             [--seed N] [--days N] [--rows N] [--app ID] [--token TOKEN]

Serves reports of the last --days days, --rows a day each, made from the seed,
in no order.  With --recorded, the sample report of that directory is served
unchanged as the installs of its app, com.appsflyer.sender.

double.py says how it is started, steered and made to go wrong; besides, POST
/_control knows

	{"late": N}	N rows of each report come in for the last three days
	{"revise": N}	N rows get another media source
	{"quota": N}	raw-data calls that are left of this day, a report
	{"short": N}	aggregate calls that are left of this minute
	{"cut": N}	the most rows of an answer, whatever was asked for
	{"bom": true}	answers begin with a byte order mark
"""

import csv
import datetime
import io
import os
import random

import double

TITLES = (
    "Attributed Touch Type,Attributed Touch Time,Install Time,Event Time,Event Name,Event Value,Event Revenue,Event Revenue Currency,Event Revenue USD,"
    "Event Source,Is Receipt Validated,Partner,Media Source,Channel,Keywords,Campaign,Campaign ID,Adset,Adset ID,Ad,Ad ID,Ad Type,Site ID,Sub Site ID,"
    "Sub Param 1,Sub Param 2,Sub Param 3,Sub Param 4,Sub Param 5,Cost Model,Cost Value,Cost Currency,"
    "Contributor 1 Partner,Contributor 1 Media Source,Contributor 1 Campaign,Contributor 1 Touch Type,Contributor 1 Touch Time,"
    "Contributor 2 Partner,Contributor 2 Media Source,Contributor 2 Campaign,Contributor 2 Touch Type,Contributor 2 Touch Time,"
    "Contributor 3 Partner,Contributor 3 Media Source,Contributor 3 Campaign,Contributor 3 Touch Type,Contributor 3 Touch Time,"
    "Region,Country Code,State,City,Postal Code,DMA,IP,WIFI,Operator,Carrier,Language,AppsFlyer ID,Advertising ID,IDFA,Android ID,Customer User ID,IMEI,IDFV,"
    "Platform,Device Type,OS Version,App Version,SDK Version,App ID,App Name,Bundle ID,Is Retargeting,Retargeting Conversion Type,Attribution Lookback,"
    "Reengagement Window,Is Primary Attribution,User Agent,HTTP Referrer,Original URL").split(",")
# Report → the column its window is of.
RAW = {"installs_report": "Install Time", "organic_installs_report": "Install Time", "in_app_events_report": "Event Time", "organic_in_app_events_report": "Event Time",
       "uninstall_events_report": "Event Time", "reinstalls": "Install Time", "in-app-events-retarget": "Event Time", "installs-retarget": "Install Time"}
AGGREGATES = {"partners_by_date_report": ("Date", "Media Source (pid)"), "geo_by_date_report": ("Date", "Country"), "daily_report": ("Date",)}
EXTRA = {"install_app_store": "Install App Store", "contributor1_match_type": "Contributor 1 Match Type", "gp_referrer": "GP Referrer"}
MAXIMA = (200000, 1000000)
LOOK_BACK = 90
SAMPLE_APP, SAMPLE = "com.appsflyer.sender", "v5_sample_installs_demo.csv"
NOT_FOUND = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>"


class App:
    """The reports of an app, made from a seed."""

    def __init__(self, options):
        self.random, self.now, self.app = random.Random(options.seed), options.now.replace(tzinfo=None), options.app
        self.reports = {}
        for report in RAW:
            rows = self.reports[report] = []
            for back in range(options.days, -1, -1):
                rows += [self.row(report, back) for _ in range(options.rows)]
                # two rows that nothing tells apart are two events
                rows.append(dict(rows[-1]))

    def row(self, report, back):
        """A row of so many days ago, as the report shows it."""
        day = self.now.replace(hour=0, minute=0, second=0, microsecond=0) - datetime.timedelta(days=back)
        moment = day + datetime.timedelta(seconds=self.random.randint(0, 86399 if back else max((self.now - day).seconds - 1, 0)))
        install = moment if RAW[report] == "Install Time" else moment - datetime.timedelta(days=self.random.randint(0, 20))
        revenue = "%.2f" % self.random.uniform(0, 99)
        row = dict.fromkeys(TITLES, "")
        row.update({
            "Attributed Touch Type": self.random.choice(("click", "impression", "")), "Install Time": str(install), "Event Time": str(moment),
            "Event Name": "install" if RAW[report] == "Install Time" else self.random.choice(("af_purchase", "af_login", "a \"quoted\" event")),
            "Event Value": '{"af_revenue":"%s","af_currency":"EUR","text":"one\nother"}' % revenue, "Event Revenue": revenue, "Event Revenue Currency": "EUR",
            "Event Source": "SDK", "Partner": self.random.choice(("", "agency, inc")), "Media Source": self.random.choice(("googleadwords_int", "Facebook Ads", "organic")),
            "Campaign": self.random.choice(("Spring, \"big\" sale", "Ünïcode", "N/A", "NULL", "")), "Campaign ID": str(self.random.randint(10 ** 18, 10 ** 19)),
            "Country Code": self.random.choice(("ES", "DE", "US")), "City": self.random.choice(("Zürich", "Łódź", "Canton")), "Postal Code": "%05d" % self.random.randint(0, 99999),
            "WIFI": self.random.choice(("true", "false")), "AppsFlyer ID": "%d-%d" % (self.random.randint(10 ** 12, 10 ** 13), self.random.randint(10 ** 18, 10 ** 19)),
            "Customer User ID": "cust-%d" % self.random.randint(1, 500), "Platform": "android", "OS Version": "14", "App Version": "1.10", "SDK Version": "v6.9",
            "App ID": self.app, "App Name": "Shop", "Bundle ID": self.app, "Is Retargeting": "false", "Attribution Lookback": "7d", "Language": "es-ES",
            "Original URL": "https://app.appsflyer.com/%s?pid=x&c=a,b" % self.app})
        return row

    def window(self, report, first, last):
        return [row for row in self.reports[report] if first <= row[RAW[report]] <= last]

    def aggregate(self, report, first, last):
        """Installs and revenue by the report's keys."""
        keys, sums = AGGREGATES[report], {}
        values = {"Date": lambda row: row["Install Time"][:10], "Media Source (pid)": lambda row: row["Media Source"], "Country": lambda row: row["Country Code"]}
        for row in self.window("installs_report", first, last):
            sums.setdefault(tuple(values[key](row) for key in keys), []).append(float(row["Event Revenue"]))
        return [dict(zip(keys + ("Installs", "Total Revenue"), key + (str(len(found)), "%.2f" % sum(found)))) for key, found in sums.items()]


class Server(double.Server):
    """The API over the reports."""

    name = "AppsFlyer-double"
    # there are no pages, and a CSV that is cut at the end of its length looks
    # like a shorter one
    impossible = ("token", "truncated", "repeated", "endless")

    def __init__(self, options):
        super().__init__(options.port)
        self.app, self.options, self.accepted = App(options), options, tuple(options.maximum_rows) or MAXIMA
        self.quota, self.short, self.cut, self.bom, self.calls, self.sample = 1000000, 1000000, MAXIMA[-1], False, {}, None
        if options.recorded:
            with open(os.path.join(options.recorded, SAMPLE), "rb") as file:
                self.sample = file.read()

    def command(self, name, value):
        if name == "late":
            for report, rows in self.app.reports.items():
                rows += [self.app.row(report, self.app.random.randint(0, 2)) for _ in range(int(value))]
        elif name == "revise":
            for rows in self.app.reports.values():
                for row in self.app.random.sample(rows, int(value)):
                    row["Media Source"] = "revised"
        elif name in ("quota", "short", "cut"):
            setattr(self, name, int(value))
            self.calls = {}
        elif name == "bom":
            self.bom = bool(value)
        else:
            raise ValueError("unknown command %s" % name)

    def data(self, stream):
        if stream in AGGREGATES:
            return self.app.aggregate(stream, "", "9")
        return self.app.reports[stream]

    def move(self, request):
        """There are no pages; a row comes in late."""
        for report, rows in self.app.reports.items():
            rows.append(self.app.row(report, 1))

    def error(self, status, message):
        return double.Answer(status, {"message": message})

    def text(self, status, message):
        return double.Answer(status, message.encode(), content_type="text/plain;charset=UTF-8")

    def answer(self, request):
        raw = double.matches(r"/api/raw-data/export/app/([^/]+)/([^/]+)/v5", request.path)
        aggregate = double.matches(r"/api/agg-data/export/app/([^/]+)/([^/]+)/v5", request.path)
        app, report = raw or aggregate or (None, None)
        if request.bearer() != self.options.token:
            return self.text(401, "Supplied API token is invalid")
        if app not in (self.app.app, SAMPLE_APP) or report not in (RAW if raw else AGGREGATES) or request.method != "GET":
            return double.Answer(404, NOT_FOUND, content_type="text/html")
        if app == SAMPLE_APP and self.sample is not None and report == "installs_report":
            return double.Answer(200, self.sample, content_type="text/csv", page=True)
        try:
            first, last = self.bounds(request)
            return self.raw(request, report, first, last) if raw else self.aggregated(report, first, last)
        except double.Refused as refusal:
            return refusal.answer

    def bounds(self, request):
        """The window of from and to, days or moments, both inclusive."""
        try:
            texts = [request.query["from"], request.query["to"]]
            ends = [datetime.datetime.fromisoformat(text) for text in texts]
        except (KeyError, ValueError):
            raise double.Refused(self.error(400, "from and to must be dates, YYYY-MM-DD or YYYY-MM-DD HH:MM:SS")) from None
        if len(texts[1]) == 10:
            ends[1] += datetime.timedelta(seconds=86399)
        if request.query.get("timezone", "UTC") != "UTC":
            raise double.Refused(self.error(400, "timezone must be that of the app"))
        if ends[0].date() < (self.app.now - datetime.timedelta(days=LOOK_BACK)).date():
            raise double.Refused(self.text(400, "Raw reports historical lookback is limited to 90 days"))
        return str(ends[0]), str(ends[1])

    def call(self, key, limit):
        """Is this call within its quota?"""
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.calls[key] <= limit

    def raw(self, request, report, first, last):
        if not self.call(report, self.quota):
            return self.text(400, "Your API calls limit has been reached for report type %s" % report)
        try:
            most = int(request.query.get("maximum_rows", self.accepted[0]))
        except ValueError:
            most = None
        if most not in self.accepted:
            return self.error(400, "Invalid limit type")
        more = [name for name in request.query.get("additional_fields", "").split(",") if name]
        if set(more) - set(EXTRA):
            return self.error(400, "Unknown additional field")
        rows = self.app.window(report, first, last)
        random.shuffle(rows)
        # silently cut
        return self.csv(list(TITLES) + [EXTRA[name] for name in more], rows[:min(most, self.cut)])

    def aggregated(self, report, first, last):
        if not self.call("aggregate", self.short):
            return self.text(403, "Limit reached for %s" % report)
        rows = self.app.aggregate(report, first, last)
        return self.csv(list(AGGREGATES[report]) + ["Installs", "Total Revenue"], rows)

    def csv(self, titles, rows):
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, titles, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        body = buffer.getvalue().encode("utf-8-sig" if self.bom else "utf-8")
        return double.Answer(200, body, content_type="text/csv;charset=UTF-8", page=bool(rows))


def main():
    parser = double.arguments("A local double of the AppsFlyer Pull API.")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--app", default="id123456789")
    parser.add_argument("--token", default="appsflyer-token")
    parser.add_argument("--maximum-rows", type=int, nargs="*", default=(), help="accepted values of maximum_rows, instead of those of the real API")
    parser.add_argument("--now", type=double.parse_iso, default=double.start_of_now())
    options = parser.parse_args()
    double.serve(Server(options), options.port_file)


if __name__ == "__main__":
    main()
