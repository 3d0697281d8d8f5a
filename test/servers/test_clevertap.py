"""The double of CleverTap behaves as the table of README.md says."""

import collections
import datetime
import json
import os
import sys
import threading
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import clevertap  # noqa: E402
import house  # noqa: E402

HEADERS = {"X-CleverTap-Account-Id": "TEST-R78-4KZ", "X-CleverTap-Passcode": "passcode", "Content-Type": "application/json"}


def multiset(records):
    return collections.Counter(json.dumps(record, sort_keys=True, default=float) for record in records)


class TestClevertap(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double("--now", "2026-11-20T09:00:00Z", system="clevertap")
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(fault=None, faults=None, busy=1, parallel=3, latency=0)

    def ask(self, path, body=None, headers=HEADERS):
        status, _, answer = self.double.ask(path, body, headers)
        return status, json.loads(answer)

    def export(self, query, size=100, path="/1/events.json"):
        """(pages, cursors) of an export."""
        status, answer = self.ask("%s?batch_size=%d" % (path, size), query)
        self.assertEqual((status, answer["status"]), (200, "success"), answer)
        cursor, pages, cursors = answer["cursor"], [], []
        while cursor:
            cursors.append(cursor)
            _, page = self.ask("%s?cursor=%s" % (path, cursor))
            if page["status"] == "fail":
                self.assertEqual(page["code"], 2)
                continue
            pages.append(page)
            cursor = page.get("next_cursor")
        return pages, cursors

    def test_an_export_brings_every_event_of_its_days(self):
        pages, cursors = self.export({"event_name": "Charged", "from": 20261110, "to": 20261120})
        records = [record for page in pages for record in page.get("records", [])]
        self.assertEqual(multiset(records), multiset(self.double.data("Charged")))
        self.assertEqual(cursors[0], cursors[1], "it was in progress once")
        with self.subTest("pages are short, one has no records, and yet the export goes on"):
            self.assertTrue(any(0 < len(page.get("records", [])) < 100 for page in pages[:-1]))
            self.assertTrue(any("records" not in page for page in pages[:-1]))
        with self.subTest("days are those of the project's zone"):
            pages, _ = self.export({"event_name": "Charged", "from": 20261115, "to": 20261115}, 5000)
            self.assertEqual({record["ts"] // 1000000 for record in pages[0]["records"]}, {20261115})

    def test_a_cursor_is_percent_encoded_and_taken_so_once(self):
        _, answer = self.ask("/1/events.json?batch_size=10", {"event_name": "Charged", "from": 20261110, "to": 20261120})
        self.assertRegex(answer["cursor"], "%2F")
        self.assertEqual(self.ask("/1/events.json?cursor=" + urllib.parse.quote(answer["cursor"]))[0], 400)
        self.assertEqual(self.ask("/1/events.json?cursor=" + answer["cursor"])[0], 200)

    def test_a_page_asked_for_again_is_the_same(self):
        self.double.control(busy=0)
        _, answer = self.ask("/1/events.json?batch_size=10", {"event_name": "Charged", "from": 20261110, "to": 20261120})
        one, other = (self.ask("/1/events.json?cursor=" + answer["cursor"])[1] for _ in range(2))
        self.assertEqual(one, other)

    def test_refusals(self):
        query = {"event_name": "Charged", "from": 20261110, "to": 20261120}
        for headers, said in (({}, "Account ID is not valid"), ({**HEADERS, "X-CleverTap-Passcode": "no"}, "Invalid Credentials")):
            status, answer = self.ask("/1/events.json", query, headers)
            self.assertEqual((status, answer["error"]), (401, said))
        for path, body in (("?batch_size=5001", query), ("", {**query, "from": "20261110"}), ("", {**query, "from": 20261121}), ("", {**query, "event_name": "x"})):
            self.assertEqual(self.ask("/1/events.json" + path, body)[0], 400, body)
        status, answer = self.ask("/1/events.json", {**query, "event_name": "Push Impressions"})
        self.assertEqual((status, answer["error"]), (400, "Export not allowed for this event"))

    def test_the_fourth_export_at_once_is_refused(self):
        self.double.control(latency=0.5)
        statuses = []
        query = {"event_name": "Charged", "from": 20261110, "to": 20261120}
        threads = [threading.Thread(target=lambda: statuses.append(self.ask("/1/events.json", query)[0])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(statuses), [200, 200, 200, 429])

    def test_late_events_are_of_the_last_days(self):
        before = multiset(self.double.data("Charged"))
        self.double.control(late=30)
        late = [json.loads(text)["ts"] // 1000000 for text in multiset(self.double.data("Charged")) - before]
        self.assertTrue(late)
        self.assertTrue(set(late) <= {20261118, 20261119, 20261120}, late)

    def test_profiles_are_chosen_by_what_they_did(self):
        pages, _ = self.export({"event_name": "Charged", "from": 20261115, "to": 20261115}, 4991, "/1/profiles.json")
        people = [person for page in pages for person in page.get("records", [])]
        self.assertEqual(len({person["email"] for person in people}), len(people))
        self.assertTrue(all(person["events"]["Charged"]["count"] > 0 for person in people))

    def test_the_schema_names_the_events(self):
        for path in ("/getSchema?type=events", "/1/getSchema?type=events"):
            self.assertIn("Charged", [event["name"] for event in self.ask(path)[1]["events"]])

    def test_an_upload_counts_and_gives_back(self):
        records = [{"identity": "a", "type": "profile", "profileData": {"x": 1}}, {"identity": "a", "type": "event", "evtData": {}}]
        status, answer = self.ask("/1/upload", {"d": records})
        self.assertEqual((status, answer["status"], answer["processed"], answer["unprocessed"][0]["record"]), (200, "partial", 1, records[1]))
        self.assertEqual(self.ask("/1/upload", {"d": records[1:]})[1]["status"], "fail")

    def test_the_zone_of_days(self):
        project = clevertap.Project(type("Options", (), {"seed": 1, "offset": 330, "days": 0, "events": 1, "now": datetime.datetime(2026, 11, 20, 20, 0, tzinfo=datetime.timezone.utc)}))
        self.assertEqual({day for _, day, _ in project.events}, {datetime.date(2026, 11, 21)})

    def test_recorded_uploads_are_served_unchanged(self):
        directory = house.recorded("clevertap")
        if directory is None:
            self.skipTest(house.no_recording("clevertap"))
        count = 0
        with house.Double("--recorded", directory, system="clevertap") as double:
            for name in sorted(os.listdir(directory)):
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    for _, path, query, body, status, answer in clevertap.read_cassette(file.read()):
                        json.loads(answer)
                        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
                        self.assertEqual(double.ask(target, json.loads(body), HEADERS)[::2], (status, answer.encode()))
                        count += 1
        self.assertGreater(count, 15)


if __name__ == "__main__":
    unittest.main()
