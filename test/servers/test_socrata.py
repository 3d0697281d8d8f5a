"""The double of the Socrata API behaves as connectors.md and the recorded
answer of 2017 say."""

import gzip
import hashlib
import json
import os
import sys
import unittest
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import house  # noqa: E402

SET = "/resource/g8m3-pdis.json"


class TestSocrata(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double()
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(load="2021-01-01", fault=None)

    def get(self, path, headers=None, **parameters):
        """(status, headers, body) of a request; parameters without their $."""
        query = urllib.parse.urlencode({"$" + name: value for name, value in parameters.items()})
        request = urllib.request.Request(self.double.url + path + ("?" + query if query else ""), headers=headers or {})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def rows(self, **parameters):
        status, _, body = self.get(SET, **parameters)
        self.assertEqual(status, 200, body)
        return json.loads(body)

    def test_answer_of_2017_is_served_unchanged(self):
        _, _, body = self.get("/resource/g8m3-2017.json")
        with open(os.path.join(house.EXAMPLE, "soda_2017-12-11.json"), "rb") as file:
            self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(file.read()).digest())

    def test_default_limit_is_1000(self):
        self.assertEqual(len(self.rows()), 1000)

    def test_limit_and_offset_cut_an_order(self):
        whole = [row["uniqueid"] for row in self.rows(order=":id", limit=50)]
        parts = [row["uniqueid"] for i in range(5) for row in self.rows(order=":id", limit=10, offset=10 * i)]
        self.assertEqual(parts, whole)

    def test_no_order_is_promised_without_order(self):
        self.assertNotEqual([row["uniqueid"] for row in self.rows()], [row["uniqueid"] for row in self.rows()])

    def test_system_fields_only_when_selected(self):
        self.assertFalse([name for name in self.rows(limit=1)[0] if name in (":id", ":updated_at", ":created_at")])
        self.assertTrue({":id", ":updated_at", ":created_at", "uniqueid"} <= set(self.rows(select=":*,*", limit=1)[0]))

    def test_nulls_are_left_out(self):
        rows = self.rows(limit=5000)
        self.assertFalse([row for row in rows if None in row.values()])
        self.assertGreater(len({frozenset(row) for row in rows}), 1)

    def test_numbers_are_strings(self):
        self.assertEqual(self.rows(select="count(*)"), [{"count": "3010"}])
        row = self.rows(select=":@computed_region_6qbp_sg9q", where=":@computed_region_6qbp_sg9q is not null", limit=1)[0]
        self.assertIsInstance(row[":@computed_region_6qbp_sg9q"], str)

    def test_where(self):
        everything = self.rows(limit=5000)
        for where, test in (
                ("city = 'San Francisco'", lambda row: row.get("city") == "San Francisco"),
                ("city != 'San Francisco'", lambda row: row.get("city", "San Francisco") != "San Francisco"),
                ("location_end_date is null", lambda row: "location_end_date" not in row),
                ("location_start_date between '2020-01-01T00:00:00' and '2020-06-30T00:00:00'",
                 lambda row: "2020-01-01T00:00:00" <= row["location_start_date"] <= "2020-06-30T00:00:00.000"),
                ("starts_with(dba_name, 'A') and parking_tax = false", lambda row: row.get("dba_name", "").startswith("A") and row["parking_tax"] is False),
                ("supervisor_district in ('1', '2')", lambda row: row.get("supervisor_district") in ("1", "2")),
                ("dba_name like '%O''%'", lambda row: "O'" in row.get("dba_name", ""))):
            with self.subTest(where=where):
                expected = {row["uniqueid"] for row in everything if test(row)}
                self.assertTrue(expected, "the test has rows to find")
                self.assertEqual({row["uniqueid"] for row in self.rows(where=where, limit=5000)}, expected)

    def test_keyset_goes_on_where_the_page_ended(self):
        whole = self.rows(select=":id,:updated_at", order=":updated_at,:id", limit=5000)
        at = whole[1234]
        where = "(:updated_at > '%s') OR (:updated_at = '%s' AND :id > '%s')" % (at[":updated_at"], at[":updated_at"], at[":id"])
        self.assertEqual(self.rows(select=":id,:updated_at", order=":updated_at,:id", where=where, limit=5000), whole[1235:])

    def test_unknown_column_is_the_error_of_socrata(self):
        status, _, body = self.get(SET, select="no_such")
        self.assertEqual((status, json.loads(body)["code"]), (400, "query.soql.no-such-column"))
        self.assertEqual(json.loads(body)["data"]["column"], "no_such")

    def test_malformed_query(self):
        status, _, body = self.get(SET, where="city =")
        self.assertEqual((status, json.loads(body)["code"]), (400, "query.compiler.malformed"))

    def test_unknown_data_set(self):
        status, _, body = self.get("/resource/q8m3-pdis.json")
        self.assertEqual((status, json.loads(body)["error"]), (404, True))

    def test_headers_name_fields_and_types(self):
        _, headers, _ = self.get(SET, select=":id,uniqueid,location", limit=1)
        self.assertEqual(json.loads(headers["X-SODA2-Fields"]), [":id", "uniqueid", "location"])
        self.assertEqual(json.loads(headers["X-SODA2-Types"])[1:], ["text", "point"])

    def test_etag(self):
        _, headers, _ = self.get(SET, order=":id", limit=1)
        self.assertEqual(self.get(SET, order=":id", limit=1, headers={"If-None-Match": headers["ETag"]})[0], 304)

    def test_gzip_when_asked_for(self):
        _, headers, body = self.get(SET, order=":id", headers={"Accept-Encoding": "gzip"})
        self.assertEqual(headers["Content-Encoding"], "gzip")
        self.assertEqual(json.loads(gzip.decompress(body)), self.rows(order=":id"))

    def test_the_second_load_changes_what_opened_and_closed(self):
        before = {row["uniqueid"]: row for row in self.rows(select=":*,*", limit=9999)}
        self.double.control(load="2023-03-10")
        after = {row["uniqueid"]: row for row in self.rows(select=":*,*", limit=9999)}
        self.assertEqual((len(before), len(after)), (3010, 4659))
        for key, row in after.items():
            same = key in before and before[key] == row
            self.assertEqual(row[":updated_at"], "2021-01-01T08:00:00.000Z" if same else "2023-03-10T08:00:00.000Z")
            if key in before and not same:
                self.assertTrue({"location_end_date", "dba_end_date"} & (set(row) - set(before[key])))

    def test_a_replace_makes_other_rows_of_the_same_content(self):
        before = self.rows(select=":*,*", order="uniqueid", limit=9999)
        self.double.control(replace=10)
        after = self.rows(select=":*,*", order="uniqueid", limit=9999)
        self.assertEqual([{name: value for name, value in row.items() if name[:1] != ":" or "@" in name} for row in after],
                         [{name: value for name, value in row.items() if name[:1] != ":" or "@" in name} for row in before[:-10]])
        self.assertFalse({row[":id"] for row in before} & {row[":id"] for row in after})
        self.assertEqual(len({row[":updated_at"] for row in after}), 1)
        self.double.control(load="2021-01-01")
        self.assertEqual(self.rows(select=":*,*", order="uniqueid", limit=9999), before)

    def test_faults(self):
        for kind, status in (("500", 500), ("404", 404), ("html", 200)):
            with self.subTest(kind=kind):
                self.double.fault(kind, times=1, after=1)
                self.assertEqual([self.get(SET, limit=1)[0] for _ in range(3)], [200, status, 200])


if __name__ == "__main__":
    unittest.main()
