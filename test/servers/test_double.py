"""What all doubles share: each fault is what it says on the wire, a plan of
faults depends on its seed only, and counts what it did."""

import base64
import email.utils
import http.client
import json
import os
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import double  # noqa: E402
import house  # noqa: E402

KEY = {"Authorization": "Basic " + base64.b64encode(b"freshdesk-key:X").decode()}
PAGE = "/api/v2/tickets?per_page=50&order_by=updated_at&order_type=asc&updated_since=2000-01-01T00:00:00Z&page=%d"


class TestDouble(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double("--tickets", 400, system="freshdesk")
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(fault=None, faults=None, latency=0, large=100000)

    def plan(self, *kinds, seed=1):
        """These faults, at the first requests."""
        self.double.control(faults={"seed": seed, "count": len(kinds), "over": len(kinds), "kinds": kinds})

    def page(self, number=1):
        return self.double.ask(PAGE % number, headers=KEY)

    def test_statuses(self):
        self.plan("429")
        status, headers, _ = self.page()
        self.assertEqual((status, headers["Retry-After"]), (429, None))
        self.plan("retry_after")
        status, headers, _ = self.page()
        self.assertEqual((status, headers["Retry-After"]), (429, "1"))
        for kind, off in (("retry_after_date", 0), ("skew", 3600)):
            self.plan(kind)
            status, headers, _ = self.page()
            until, now = (email.utils.parsedate_to_datetime(headers[name]).timestamp() for name in ("Retry-After", "Date"))
            self.assertEqual((status, until - now), (429, 1))
            self.assertGreaterEqual(abs(now - time.time()), off)
        self.plan("burst")
        statuses = [self.page()[0] for _ in range(4)]
        self.assertTrue(set(statuses[:2]) <= {500, 502, 503} and statuses[3] == 200, statuses)
        self.plan("token")
        self.assertEqual(self.page()[0], 200, "there are no tokens here")
        self.assertEqual(self.double.state()["faults"], {})

    def test_spoiled_bodies(self):
        good = self.page()[2]
        self.plan("truncated")
        status, headers, body = self.page()
        self.assertEqual((status, body, int(headers["Content-Length"])), (200, good[:len(good) // 2], len(body)))
        self.plan("content_type")
        _, headers, body = self.page()
        self.assertEqual((headers.get_content_type(), body), ("text/html", good))
        self.plan("html")
        _, headers, body = self.page()
        self.assertEqual((headers.get_content_type(), body), ("text/html", double.HTML))
        self.plan("large")
        self.assertGreater(len(self.page()[2]), 100000)
        self.plan("drip")
        start = time.monotonic()
        self.assertEqual(self.page()[2], good)
        self.assertGreater(time.monotonic() - start, 0.15)

    def test_connections(self):
        self.plan("reset")
        with self.assertRaises((ConnectionResetError, http.client.IncompleteRead)):
            self.page()
        self.double.fault("cut", times=1)
        with self.assertRaises(http.client.IncompleteRead):
            self.page()
        self.double.fault("close", times=1)
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
            self.page()
        self.double.fault("hang", times=1)
        with socket.create_connection(("127.0.0.1", self.double.port), 1) as connection:
            connection.sendall(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % (PAGE % 1)).encode())
            with self.assertRaises(TimeoutError):
                connection.recv(1)

    def test_pages_that_come_again(self):
        self.plan("repeated")
        first, second = self.page(1)[2], self.page(2)[2]
        self.assertEqual(second, first, "there was none before the first")
        self.assertNotEqual(self.page(2)[2], first)
        self.plan("endless")
        pages = [self.page(number)[2] for number in (1, *(2,) * 10)]
        self.assertEqual(pages[1:10], [pages[0]] * 9)
        self.assertNotEqual(pages[10], pages[0])

    def test_a_record_that_moves(self):
        before = {ticket["id"]: ticket["updated_at"] for ticket in self.double.data("tickets")}
        newest = max(before.values())
        self.plan("moved")
        ids = [ticket["id"] for number in (1, 2, 3) for ticket in json.loads(self.page(number)[2])]
        moved = [ticket for ticket in self.double.data("tickets") if ticket["updated_at"] != before[ticket["id"]]]
        self.assertEqual(len(moved), 1)
        self.assertGreater(moved[0]["updated_at"], newest)
        self.assertNotIn(moved[0]["id"], ids)

    def test_a_plan_depends_on_its_seed(self):
        def run(seed):
            self.double.control(faults={"seed": seed, "count": 6, "over": 20, "kinds": ["429", "html", "truncated"]})
            answers = [self.page()[::2] for _ in range(20)]
            return [(status, hash(body)) for status, body in answers]

        one, again, other = run(3), run(3), run(4)
        self.assertEqual(one, again)
        self.assertNotEqual(one, other)
        self.assertEqual(self.double.state()["faults"], {"429": 2, "html": 2, "truncated": 2})

    def test_commands_that_make_no_sense(self):
        for command in ({"faults": {"seed": 1, "count": 1, "over": 1, "kinds": ["no"]}}, {"no": 1}, []):
            status, _, body = self.double.ask("/_control", command if command else b"[]")
            self.assertEqual(status, 400, body)

    def test_a_redirect(self):
        self.double.fault("redirect", times=1, location="http://elsewhere.test")
        connection = http.client.HTTPConnection("127.0.0.1", self.double.port)
        self.addCleanup(connection.close)
        connection.request("GET", PAGE % 1)
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["Location"]), (301, "http://elsewhere.test" + PAGE % 1))


if __name__ == "__main__":
    unittest.main()
