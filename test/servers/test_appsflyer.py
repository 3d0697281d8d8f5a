"""The double of AppsFlyer behaves as the table of README.md says."""

import collections
import csv
import io
import os
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import appsflyer  # noqa: E402
import house  # noqa: E402

TOKEN = {"Authorization": "Bearer appsflyer-token"}
APP = "id123456789"


def multiset(rows):
    return collections.Counter(tuple(row.items()) for row in rows)


class TestAppsflyer(unittest.TestCase):
    def setUp(self):
        self.double = house.Double("--now", "2026-11-20T09:00:00Z", "--rows", 50, system="appsflyer")
        self.addCleanup(self.double.__exit__)

    def ask(self, report, kind="raw-data", app=APP, headers=TOKEN, **query):
        query = {"from": "2026-11-01", "to": "2026-11-20", **query}
        status, headers, body = self.double.ask("/api/%s/export/app/%s/%s/v5?%s" % (kind, app, report, urllib.parse.urlencode(query)), headers=headers)
        return status, headers, body

    def rows(self, report, **query):
        status, headers, body = self.ask(report, **query)
        self.assertEqual(status, 200, body)
        self.assertEqual(headers.get_content_type(), "text/csv")
        return list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")))

    def test_a_report_is_a_csv_of_81_columns(self):
        rows = self.rows("in_app_events_report")
        self.assertEqual(multiset(rows), multiset(self.double.data("in_app_events_report")))
        self.assertEqual((len(rows), len(rows[0])), (11 * 51, 81))
        self.assertTrue(any("\n" in row["Event Value"] and '"' in row["Event Value"] for row in rows))
        self.assertEqual(list(self.rows("installs_report", additional_fields="gp_referrer,install_app_store")[0])[81:], ["GP Referrer", "Install App Store"])
        with self.subTest("in no order"):
            self.assertNotEqual([row["AppsFlyer ID"] for row in rows], [row["AppsFlyer ID"] for row in self.rows("in_app_events_report")])

    def test_windows(self):
        days = [self.rows("in_app_events_report", **{"from": "2026-11-%d" % day, "to": "2026-11-%d" % day}) for day in range(10, 21)]
        self.assertEqual([len(rows) for rows in days], [51] * 11)
        halves = self.rows("in_app_events_report", **{"from": "2026-11-12 00:00:00", "to": "2026-11-12 11:59:59"}) \
            + self.rows("in_app_events_report", **{"from": "2026-11-12 12:00:00", "to": "2026-11-12 23:59:59"})
        self.assertEqual(multiset(halves), multiset(days[2]))
        status, _, body = self.ask("installs_report", **{"from": "2026-08-21"})
        self.assertEqual((status, body), (400, b"Raw reports historical lookback is limited to 90 days"))
        self.assertEqual(self.ask("installs_report", **{"from": "2026-08-22"})[0], 200)
        self.assertEqual(self.ask("installs_report", **{"from": "20 Nov"})[0], 400)

    def test_rows_beyond_the_maximum_are_silently_cut(self):
        self.double.control(cut=40)
        self.assertEqual(len(self.rows("installs_report")), 40)
        for most, status in ((200000, 200), (1000000, 200), (500, 400)):
            self.assertEqual(self.ask("installs_report", maximum_rows=most)[0], status)

    def test_quotas(self):
        self.double.control(quota=1, short=1)
        self.assertEqual(self.ask("installs_report")[0], 200)
        self.assertEqual(self.ask("reinstalls")[0], 200, "each report has its own")
        self.assertEqual(self.ask("installs_report")[::2], (400, b"Your API calls limit has been reached for report type installs_report"))
        self.assertEqual(self.ask("daily_report", "agg-data")[0], 200)
        self.assertEqual(self.ask("daily_report", "agg-data")[::2], (403, b"Limit reached for daily_report"))

    def test_refusals(self):
        self.assertEqual(self.ask("installs_report", headers={})[::2], (401, b"Supplied API token is invalid"))
        for app, report in (("id1", "installs_report"), (APP, "no_report")):
            status, headers, body = self.ask(report, app=app)
            self.assertEqual((status, headers.get_content_type()), (404, "text/html"))
            self.assertIn(b"<html>", body)

    def test_late_rows_and_revisions(self):
        before = multiset(self.double.data("in_app_events_report"))
        self.double.control(late=20)
        late = multiset(self.double.data("in_app_events_report")) - before
        self.assertEqual({dict(row)["Event Time"][:10] for row in late}, {"2026-11-18", "2026-11-19", "2026-11-20"})
        self.double.control(revise=5)
        self.assertEqual(sum(row["Media Source"] == "revised" for row in self.rows("in_app_events_report")), 5)

    def test_aggregates(self):
        rows = list(csv.DictReader(io.StringIO(self.ask("partners_by_date_report", "agg-data")[2].decode())))
        installs = self.double.data("installs_report")
        self.assertEqual(sum(int(row["Installs"]) for row in rows), len(installs))

    def test_a_byte_order_mark(self):
        self.double.control(bom=True)
        self.assertEqual(self.ask("installs_report")[2][:3], b"\xef\xbb\xbf")

    def test_the_recorded_report_is_served_unchanged(self):
        directory = house.recorded("appsflyer")
        if directory is None:
            self.skipTest(house.no_recording("appsflyer"))
        with house.Double("--recorded", directory, system="appsflyer") as double, open(os.path.join(directory, appsflyer.SAMPLE), "rb") as file:
            status, _, body = double.ask("/api/raw-data/export/app/%s/installs_report/v5?from=2016-06-01&to=2016-06-30" % appsflyer.SAMPLE_APP, headers=TOKEN)
            self.assertEqual((status, body), (200, file.read()))
            self.assertEqual(body.splitlines()[0].decode(), ",".join(appsflyer.TITLES))


if __name__ == "__main__":
    unittest.main()
