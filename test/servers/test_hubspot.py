"""The double of HubSpot behaves as the table of README.md says."""

import gzip
import json
import os
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import house  # noqa: E402

OBJECTS = "/crm/v3/objects/contacts"
PAT = {"Authorization": "Bearer pat-eu1-test"}


def by_id(after):
    """A search in the order of ids, after one of them."""
    return {"filterGroups": [{"filters": [{"propertyName": "hs_object_id", "operator": "GT", "value": str(after)}]}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}], "limit": 200}


class TestHubspot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double("--contacts", 600, system="hubspot")
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(fault=None, faults=None, rate=1000000, secondly=1000000, daily=250000, window=10000, lag=0)

    def ask(self, path, body=None, headers=PAT):
        status, headers, answer = self.double.ask(path, body, headers)
        return status, headers, json.loads(answer)

    def good(self, path, body=None):
        status, _, answer = self.ask(path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def live(self):
        return [record for record in self.double.data("contacts") if not record["archived"]]

    def test_the_list_is_complete_and_by_id(self):
        seen, after = [], ""
        while after is not None:
            page = self.good(OBJECTS + "?limit=100&after=" + after)
            seen += [record["id"] for record in page["results"]]
            after = page.get("paging", {}).get("next", {}).get("after")
        self.assertEqual(seen, sorted((record["id"] for record in self.live()), key=int))
        self.assertEqual(len(self.good("/crm/objects/2026-03/contacts")["results"]), 10, "the dated path, and the limit where none is given")
        self.assertEqual(self.ask(OBJECTS + "?limit=101")[0], 400)

    def test_values_are_strings_or_null(self):
        record = self.good(OBJECTS + "?limit=1&properties=numemployees,notes,email")["results"][0]
        self.assertEqual(set(record["properties"]), {"createdate", "hs_object_id", "lastmodifieddate", "numemployees", "notes", "email"})
        self.assertIsInstance(record["properties"]["numemployees"], str)
        self.assertIsNone(record["properties"]["notes"])

    def test_search_ends_at_its_window(self):
        self.double.control(window=400)
        self.assertEqual(len(self.good(OBJECTS + "/search", {"limit": 200, "after": "200"})["results"]), 200)
        status, _, error = self.ask(OBJECTS + "/search", {"limit": 200, "after": "400"})
        self.assertEqual((status, error["category"]), (400, "VALIDATION_ERROR"))
        seen, last = [], 0
        while True:
            page = self.good(OBJECTS + "/search", by_id(last))["results"]
            if not page:
                break
            seen += [record["id"] for record in page]
            last = seen[-1]
        self.assertEqual(sorted(seen), sorted(record["id"] for record in self.live()), "by ranges of ids there is no window")

    def test_search_filters(self):
        records = {record["id"]: record["properties"] for record in self.live()}
        moment = sorted(one["lastmodifieddate"] for one in records.values())[300]
        for filters, expected in (
                ([{"propertyName": "lastmodifieddate", "operator": "GTE", "value": moment}], [key for key, one in records.items() if one["lastmodifieddate"] >= moment]),
                ([{"propertyName": "firstname", "operator": "EQ", "value": "Ann"}, {"propertyName": "numemployees", "operator": "LT", "value": "250"}],
                 [key for key, one in records.items() if one["firstname"] == "Ann" and int(one["numemployees"]) < 250]),
                ([{"propertyName": "notes", "operator": "HAS_PROPERTY"}], [])):
            with self.subTest(filters=filters):
                answer = self.good(OBJECTS + "/search", {**by_id(0), "filterGroups": [{"filters": filters}]})
                self.assertEqual(answer["total"], len(expected))
                self.assertTrue({record["id"] for record in answer["results"]} <= set(expected))
        self.assertEqual(self.ask(OBJECTS + "/search", {"limit": 201})[0], 400)

    def test_records_that_sort_alike_have_no_order(self):
        self.double.control(tie=50)
        newest = {"sorts": [{"propertyName": "lastmodifieddate", "direction": "DESCENDING"}], "limit": 50}
        orders = {tuple(record["id"] for record in self.good(OBJECTS + "/search", newest)["results"]) for _ in range(4)}
        self.assertGreater(len(orders), 1)
        self.assertEqual(len({frozenset(order) for order in orders}), 1)

    def test_search_learns_of_a_change_later(self):
        self.double.control(lag=0.5)
        before = max(record["updatedAt"] for record in self.live())
        self.double.control(change=1)
        newest = {"sorts": [{"propertyName": "lastmodifieddate", "direction": "DESCENDING"}], "limit": 1}
        changed = max(record["updatedAt"] for record in self.live())
        self.assertEqual(self.good(OBJECTS + "/search", newest)["results"][0]["updatedAt"], before)
        house.wait_until(lambda: self.good(OBJECTS + "/search", newest)["results"][0]["updatedAt"] == changed, "search knows of the change")

    def test_archived_records(self):
        self.double.control(archive=3)
        archived = self.good(OBJECTS + "?archived=true&limit=100")["results"]
        self.assertTrue(all(record["archived"] and record["archivedAt"] for record in archived))
        listed = {record["id"] for record in self.good(OBJECTS + "/search", by_id(int(archived[0]["id"]) - 1))["results"]}
        self.assertFalse(listed & {record["id"] for record in archived})

    def test_batch_read_of_missing_ids_is_207(self):
        keys = [record["id"] for record in self.live()[:50]]
        status, _, answer = self.ask(OBJECTS + "/batch/read", {"inputs": [{"id": key} for key in keys + ["1"]]})
        self.assertEqual((status, answer["numErrors"], answer["errors"][0]["context"]["ids"]), (207, 1, ["1"]))
        self.assertEqual({record["id"] for record in answer["results"]}, set(keys))
        self.assertEqual(self.ask(OBJECTS + "/batch/read", {"inputs": [{"id": "1"}] * 101})[0], 400)

    def test_associations(self):
        listed = self.good(OBJECTS + "?limit=100&associations=companies")["results"]
        linked = next(record for record in listed if "associations" in record)
        companies = self.good("/crm/v4/objects/contacts/%s/associations/companies" % linked["id"])["results"]
        self.assertEqual([one["toObjectId"] for one in companies], [one["id"] for one in linked["associations"]["companies"]["results"]])
        alone = next(record for record in listed if "associations" not in record)
        status, _, answer = self.ask("/crm/v4/associations/contacts/companies/batch/read", {"inputs": [{"id": linked["id"]}, {"id": alone["id"]}]})
        self.assertEqual((status, len(answer["results"]), answer["numErrors"]), (207, 1, 1))

    def test_limits_and_their_headers(self):
        _, headers, _ = self.ask(OBJECTS)
        self.assertEqual(headers["X-HubSpot-RateLimit-Interval-Milliseconds"], "10000")
        self.assertNotIn("X-HubSpot-RateLimit-Max", self.ask(OBJECTS + "/search", by_id(0))[1])
        for command, path, body, policy in (({"rate": 0}, OBJECTS, None, "TEN_SECONDLY_ROLLING"), ({"secondly": 0}, OBJECTS + "/search", by_id(0), "SECONDLY"),
                                            ({"daily": 0}, OBJECTS, None, "DAILY")):
            with self.subTest(policy=policy):
                self.setUp()
                self.double.control(**command)
                status, headers, error = self.ask(path, body)
                self.assertEqual((status, error["policyName"], error["category"], headers["Retry-After"]), (429, policy, "RATE_LIMITS", None))

    def test_tokens(self):
        self.assertEqual(self.ask(OBJECTS, headers={})[0], 401)
        form = {"grant_type": "refresh_token", "client_id": "client", "client_secret": "client-secret", "refresh_token": "refresh-token"}
        for version in ("v1", "v3", "2026-03"):
            answer = self.good("/oauth/%s/token" % version, urllib.parse.urlencode(form).encode())
        self.assertEqual((answer["expires_in"], len(answer["access_token"]) > 300), (1800, True))
        bearer = {"Authorization": "Bearer " + answer["access_token"]}
        self.assertEqual(self.ask(OBJECTS, headers=bearer)[0], 200)
        self.double.control(faults={"seed": 1, "count": 1, "over": 1, "kinds": ["token"]})
        status, _, error = self.ask(OBJECTS, headers=bearer)
        self.assertEqual((status, error["category"]), (401, "EXPIRED_AUTHENTICATION"))
        self.assertEqual(self.ask("/oauth/v1/token", urllib.parse.urlencode({**form, "refresh_token": "x"}).encode())[0], 400)

    def test_recorded_exchanges_are_served_unchanged(self):
        directory = house.recorded("hubspot")
        if directory is None:
            self.skipTest(house.no_recording("hubspot"))
        with house.Double("--recorded", directory, system="hubspot") as double:
            recorded = []
            for name in sorted(os.listdir(directory)):
                if name.endswith(".gz"):
                    with gzip.open(os.path.join(directory, name), "rt", encoding="utf-8") as file:
                        recorded += [one for one in json.load(file) if one["method"] == "GET"]
            self.assertTrue({200, 404} <= {one["status"] for one in recorded})
            for one in recorded:
                status, headers, body = double.ask(one["path"] + "?" + urllib.parse.urlencode(one.get("query") or {}))
                self.assertEqual((status, json.loads(body) if body else None), (one["status"], one.get("response_body") or None))
                self.assertEqual(headers["X-HubSpot-RateLimit-Daily-Remaining"], one.get("response_headers", {}).get("X-HubSpot-RateLimit-Daily-Remaining"))
            with open(os.path.join(directory, "dlt_mock_contacts_data.json"), "rb") as file:
                self.assertEqual(double.ask(OBJECTS)[2], file.read())


if __name__ == "__main__":
    unittest.main()
