"""The double of Google Analytics behaves as the table of README.md says."""

import json
import os
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import ga4  # noqa: E402
import house  # noqa: E402

REPORT = {"dimensions": [{"name": "date"}, {"name": "country"}], "metrics": [{"name": "sessions"}, {"name": "totalRevenue"}],
          "dateRanges": [{"startDate": "2026-11-01", "endDate": "2026-11-20"}], "orderBys": [{"dimension": {"dimensionName": "date"}}, {"dimension": {"dimensionName": "country"}}]}


class TestGa4(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        path = os.path.join(directory.name, "key.json")
        cls.double = house.Double("--now", "2026-11-20T09:00:00Z", "--key-file", path, system="ga4")
        cls.addClassCleanup(cls.double.__exit__)
        with open(path, encoding="ascii") as file:
            cls.account = json.load(file)
        # the private key of the seed, to sign as a client would
        cls.key, cls.bearer = ga4.Key(1), None

    def setUp(self):
        self.double.control(fault=None, faults=None, tokens=40000, concurrent=10, sampling=False, thresholding=False, other=False, latency=0)

    def assertion(self, claims=None, header=None, encode=ga4.unpadded):
        now = int(time.time())
        claims = {"iss": self.account["client_email"], "scope": ga4.SCOPE, "aud": self.account["token_uri"], "iat": now, "exp": now + 3600, **(claims or {})}
        message = "%s.%s" % (encode(json.dumps(header or {"alg": "RS256", "typ": "JWT"}).encode()), encode(json.dumps(claims).encode()))
        return "%s.%s" % (message, encode(self.key.sign(message.encode())))

    def token(self, assertion):
        status, _, body = self.double.ask("/token", urllib.parse.urlencode({"grant_type": ga4.GRANT, "assertion": assertion}).encode())
        return status, json.loads(body)

    def signed_in(self):
        """The header with a token, made once."""
        if self.bearer is None:
            type(self).bearer = {"Authorization": "Bearer " + self.token(self.assertion())[1]["access_token"]}
        return self.bearer

    def ask(self, body=None, path=":runReport", number="123456"):
        status, _, answer = self.double.ask("/v1beta/properties/%s%s" % (number, path), body, self.signed_in())
        return status, json.loads(answer)

    def report(self, **more):
        status, answer = self.ask({**REPORT, **more})
        self.assertEqual(status, 200, answer)
        return answer

    def test_the_key_file_is_one_that_openssl_reads(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.account["private_key"])
            file.flush()
            self.assertEqual(os.system("openssl pkey -in %s -check -noout >/dev/null 2>&1" % file.name), 0)

    def test_tokens(self):
        status, answer = self.token(self.assertion())
        self.assertEqual((status, answer["expires_in"], answer["token_type"]), (200, 3599, "Bearer"))
        now = int(time.time())
        for claims, error in (({"exp": now + 3601}, "invalid_grant"), ({"iat": now - 7200, "exp": now - 3600}, "invalid_grant"), ({"aud": "https://example.org"}, "invalid_grant"),
                              ({"iss": "other"}, "invalid_grant"), ({"scope": "x"}, "invalid_scope")):
            self.assertEqual((400, error), (self.token(self.assertion(claims))[0], self.token(self.assertion(claims))[1]["error"]), claims)
        for bad in (self.assertion(header={"alg": "none"}), self.assertion()[:-4] + "AAAA", "x", self.assertion() + "="):
            self.assertEqual(self.token(bad)[0], 400)
        status, _, body = self.double.ask("/v1beta/properties/123456:runReport", REPORT, {"Authorization": "Bearer ya29.x"})
        self.assertEqual((status, json.loads(body)["error"]["status"]), (401, "UNAUTHENTICATED"))

    def test_rows_are_lists_of_values_under_headers(self):
        report = self.report()
        self.assertEqual(report["metricHeaders"], [{"name": "sessions", "type": "TYPE_INTEGER"}, {"name": "totalRevenue", "type": "TYPE_CURRENCY"}])
        rows = [(*[one["value"] for one in row["dimensionValues"]], *[one["value"] for one in row["metricValues"]]) for row in report["rows"]]
        expected = [(row["date"], row["country"], str(row["sessions"]), str(row["totalRevenue"])) for row in self.double.data("date,country:sessions,totalRevenue")]
        self.assertEqual(rows, sorted(expected))
        self.assertEqual(report["rowCount"], 11 * 4)

    def test_pages(self):
        whole = self.report()["rows"]
        pages = [self.report(limit=10, offset=str(offset)) for offset in range(0, 50, 10)]
        self.assertEqual([row for page in pages for row in page["rows"]], whole)
        self.assertEqual({page["rowCount"] for page in pages}, {44}, "of all rows")
        beyond = self.report(offset=44)
        self.assertNotIn("rows", beyond)
        self.assertNotIn("rowCount", self.report(dateRanges=[{"startDate": "2020-01-01", "endDate": "2020-01-02"}]))

    def test_relative_dates_and_ranges(self):
        two = self.report(dateRanges=[{"startDate": "yesterday", "endDate": "yesterday"}, {"startDate": "3daysAgo", "endDate": "2daysAgo"}], orderBys=[])
        self.assertEqual(two["dimensionHeaders"][-1], {"name": "dateRange"})
        self.assertEqual(two["rowCount"], 3 * 4)

    def test_without_an_order_by_the_first_metric(self):
        values = [int(row["metricValues"][0]["value"]) for row in self.report(orderBys=[])["rows"]]
        self.assertEqual(values, sorted(values, reverse=True))

    def test_totals_and_filters(self):
        report = self.report(metricAggregations=["TOTAL"], dimensionFilter={"filter": {"fieldName": "country", "stringFilter": {"value": "Spain"}}})
        self.assertEqual(report["rowCount"], 11)
        self.assertEqual(int(report["totals"][0]["metricValues"][0]["value"]), sum(int(row["metricValues"][0]["value"]) for row in report["rows"]))
        self.assertEqual(report["totals"][0]["dimensionValues"][0]["value"], "RESERVED_TOTAL")

    def test_quotas(self):
        quota = self.report(returnPropertyQuota=True)["propertyQuota"]
        self.assertEqual(quota["tokensPerHour"], {"consumed": 3, "remaining": 39997})
        self.double.control(tokens=3)
        self.report()
        status, answer = self.ask(REPORT)
        self.assertEqual((status, answer["error"]["status"]), (429, "RESOURCE_EXHAUSTED"))

    def test_requests_at_once(self):
        self.double.control(concurrent=2, latency=0.3)
        statuses = []
        bearer = self.signed_in()
        threads = [threading.Thread(target=lambda: statuses.append(self.double.ask("/v1beta/properties/123456:runReport", REPORT, bearer)[0])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(statuses), [200, 200, 429])

    def test_what_makes_numbers_inexact_is_said(self):
        self.double.control(sampling=True, thresholding=True, other=True)
        metadata = self.report()["metadata"]
        self.assertEqual((metadata["samplingMetadatas"][0]["samplesReadCount"], metadata["subjectToThresholding"], metadata["dataLossFromOtherRow"]), ("4000", True, True))
        self.assertIn("(other)", {row["dimensionValues"][1]["value"] for row in self.report()["rows"]})

    def test_late_events_change_the_last_days(self):
        before = {row["date"]: row["sessions"] for row in self.double.data("date:sessions")}
        self.double.control(late=40)
        changed = {row["date"] for row in self.double.data("date:sessions") if row["sessions"] != before[row["date"]]}
        self.assertEqual(changed, {"20261118", "20261119", "20261120"})

    def test_errors(self):
        for body, status, name in (({**REPORT, "metrics": [{"name": "x"}]}, 400, "INVALID_ARGUMENT"), ({**REPORT, "dateRanges": []}, 400, "INVALID_ARGUMENT"),
                                   ({**REPORT, "dateRanges": [{"startDate": "x", "endDate": "y"}]}, 400, "INVALID_ARGUMENT")):
            answer = self.ask(body)
            self.assertEqual((answer[0], answer[1]["error"]["status"]), (status, name))
        self.assertEqual(self.ask(REPORT, number="9")[1]["error"]["status"], "PERMISSION_DENIED")

    def test_batches_and_metadata(self):
        self.assertEqual(len(self.ask({"requests": [REPORT] * 5}, ":batchRunReports")[1]["reports"]), 5)
        self.assertEqual(self.ask({"requests": [REPORT] * 6}, ":batchRunReports")[0], 400)
        self.assertIn({"apiName": "date"}, self.ask(path="/metadata")[1]["dimensions"])

    def test_recorded_answers_are_served_unchanged(self):
        directory = house.recorded("ga4")
        if directory is None:
            self.skipTest(house.no_recording("ga4"))
        with house.Double("--recorded", directory, system="ga4") as double:
            claims = {"aud": double.url + "/token"}
            body = urllib.parse.urlencode({"grant_type": ga4.GRANT, "assertion": self.assertion(claims)}).encode()
            bearer = {"Authorization": "Bearer " + json.loads(double.ask("/token", body)[2])["access_token"]}
            for i, name in enumerate(ga4.RECORDED):
                with open(os.path.join(directory, name), "rb") as file:
                    self.assertEqual(double.ask("/v1beta/properties/%d:runReport" % (1001 + i), REPORT, bearer)[2], file.read())


if __name__ == "__main__":
    unittest.main()
