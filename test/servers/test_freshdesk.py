"""The double of Freshdesk behaves as the table of README.md says."""

import base64
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import house  # noqa: E402

API = "/api/v2"
KEY = {"Authorization": "Basic " + base64.b64encode(b"freshdesk-key:X").decode()}


class TestFreshdesk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double(system="freshdesk")
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(fault=None, faults=None, ceiling=300, rate=1000000)

    def get(self, path):
        status, headers, body = self.double.ask(API + path, headers=KEY)
        return status, headers, json.loads(body) if body else None

    def rows(self, path):
        status, _, rows = self.get(path)
        self.assertEqual(status, 200, rows)
        return rows

    def crawl(self, path):
        """Every row, by following the Link header."""
        rows, pages = [], 0
        while path:
            status, headers, page = self.get(path)
            self.assertEqual(status, 200, page)
            rows, pages = rows + page, pages + 1
            link = headers.get("Link")
            path = link.split(">")[0].partition(API)[2] if link else None
        return rows, pages

    def test_a_wrong_key_is_refused(self):
        status, _, body = self.double.ask(API + "/tickets")
        self.assertEqual((status, json.loads(body)["code"]), (401, "invalid_credentials"))

    def test_only_the_last_30_days_without_updated_since(self):
        recent, _ = self.crawl("/tickets?per_page=100")
        every, _ = self.crawl("/tickets?per_page=100&updated_since=2000-01-01T00:00:00Z")
        self.assertLess(len(recent), len(every))
        shown = [ticket for ticket in self.double.data("tickets") if not ticket["spam"] and not ticket.get("deleted")]
        self.assertEqual({ticket["id"] for ticket in every}, {ticket["id"] for ticket in shown})

    def test_updated_since_is_inclusive(self):
        rows = self.rows("/tickets?order_by=updated_at&order_type=asc&updated_since=2000-01-01T00:00:00Z&per_page=50")
        again = self.rows("/tickets?order_by=updated_at&order_type=asc&updated_since=%s" % rows[20]["updated_at"])
        self.assertEqual(again[0]["id"], rows[20]["id"])
        self.assertEqual([row["updated_at"] for row in rows], sorted(row["updated_at"] for row in rows))

    def test_pages(self):
        self.assertEqual(len(self.rows("/tickets")), 30)
        self.assertEqual(self.get("/tickets?per_page=101")[0], 400)
        rows, pages = self.crawl("/tickets?per_page=100&updated_since=2000-01-01T00:00:00Z")
        self.assertEqual(pages, -(-len(rows) // 100))

    def test_the_ceiling(self):
        self.double.control(ceiling=3)
        self.assertEqual(self.get("/tickets?per_page=2&page=3")[0], 200)
        status, _, error = self.get("/tickets?per_page=2&page=4")
        self.assertEqual(status, 400)
        self.assertIn("You cannot access tickets beyond the 3th page", error["errors"][0]["message"])

    def test_includes_cost_two_credits_each(self):
        _, headers, rows = self.get("/tickets?include=stats,requester")
        self.assertEqual(headers["X-Ratelimit-Used-Currentrequest"], "5")
        self.assertIn("stats", rows[0])
        self.assertNotIn("description", rows[0])
        self.assertIn("description", self.rows("/tickets?include=description")[0])

    def test_the_budget_of_a_minute(self):
        self.double.control(rate=3)
        answers = [self.get("/agents") for _ in range(4)]
        self.assertEqual([status for status, _, _ in answers], [200, 200, 200, 429])
        self.assertEqual([headers["X-Ratelimit-Remaining"] for _, headers, _ in answers], ["2", "1", "0", "0"])
        self.assertTrue(1 <= int(answers[3][1]["Retry-After"]) <= 61)

    def test_a_change_moves_a_ticket_and_deletes_some(self):
        before = {ticket["id"]: ticket for ticket in self.double.data("tickets")}
        self.double.control(change=10)
        changed = [ticket for ticket in self.double.data("tickets") if ticket != before[ticket["id"]]]
        self.assertEqual(len(changed), 10)
        self.assertGreater(min(ticket["updated_at"] for ticket in changed), max(ticket["updated_at"] for ticket in before.values()))
        deleted = {ticket["id"] for ticket in changed if ticket.get("deleted")}
        self.assertEqual(len(deleted), 2)
        self.assertTrue(deleted <= {ticket["id"] for ticket in self.crawl("/tickets?filter=deleted")[0]})
        listed, _ = self.crawl("/tickets?per_page=100&updated_since=2000-01-01T00:00:00Z")
        self.assertFalse(deleted & {ticket["id"] for ticket in listed})

    def test_contacts_and_what_belongs_to_tickets(self):
        contacts, _ = self.crawl("/contacts?per_page=100")
        self.assertEqual(len(contacts), 250)
        some = [contact for contact in contacts if contact["updated_at"] >= contacts[0]["updated_at"]]
        self.assertEqual(len(self.crawl("/contacts?per_page=100&_updated_since=" + contacts[0]["updated_at"])[0]), len(some))
        replies = self.double.data("conversations")
        number = replies[0]["ticket_id"]
        self.assertEqual(self.rows("/tickets/%d/conversations" % number), [reply for reply in replies if reply["ticket_id"] == number])
        self.assertEqual(self.get("/tickets/1/conversations")[0], 404)

    def test_the_same_seed_gives_the_same_data(self):
        arguments = ("--seed", 5, "--tickets", 50, "--now", "2026-11-20T00:00:00Z")
        with house.Double(*arguments, system="freshdesk") as one, house.Double(*arguments, system="freshdesk") as other:
            self.assertEqual(one.data("tickets"), other.data("tickets"))

    def test_recorded_answers_are_served_unchanged(self):
        directory = house.recorded("freshdesk")
        if directory is None:
            self.skipTest(house.no_recording("freshdesk"))
        with house.Double("--recorded", directory, system="freshdesk") as double:
            for name, path in (("all_tickets", "/tickets"), ("contacts", "/contacts"), ("companies", "/companies"), ("agents", "/agents"), ("ticket_1", "/tickets/1")):
                with open(os.path.join(directory, name + ".json"), "rb") as file:
                    self.assertEqual(double.ask(API + path, headers=KEY)[2], file.read())


if __name__ == "__main__":
    unittest.main()
