"""Every built-in connector against its double: what the other system holds
arrives in staging once, in landing once, again only what is new, and the traps
of each system cost nothing."""

import collections
import json
import os
import tempfile
import unittest

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

import house


class ConnectorTest(unittest.TestCase):
    """A double and a database with a source of it, named s."""

    system, arguments, secrets, options = None, (), {}, {}

    @classmethod
    def setUpClass(cls):
        if cls.system is None:
            raise unittest.SkipTest("what the others share")
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)
        cls.directory = directory.name

    def setUp(self):
        self.double = house.Double(*self.more_arguments(), *self.arguments, system=self.system)
        self.addCleanup(self.double.__exit__)
        for name, value in self.secrets.items():
            with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
                file.write(value + "\n")
        self.database = house.Database("connectors", self.double)
        self.addCleanup(self.database.__exit__)
        self.set(secrets_directory=self.directory, max_retry_wait="5s")
        self.create_source()

    def more_arguments(self):
        return ()

    def create_source(self, connector=None, **options):
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('s', %s, %s, %s, replace => true)",
                             [connector or self.system, Jsonb({"base_url": self.double.url, **self.options, **options}), Jsonb({name: "file:" + name for name in self.secrets})])

    def set(self, **settings):
        with self.database.connect() as admin:
            for name, value in settings.items():
                admin.execute("ALTER DATABASE \"%s\" SET visage.%s = '%s'" % (self.database.name, name, value))

    def stream(self, name, resource=None, **more):
        """Declare stream s.<name>."""
        for key in ("options", "columns"):
            if key in more:
                more[key] = Jsonb(more[key])
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_stream('s', %s, %s" + "".join(", %s => %%s" % key for key in more) + ")", [name, resource, *more.values()])

    def ingest(self, name, fails=None):
        """A crawl; the warnings that it gives, or its error."""
        said = []
        with self.database.connect("engineer") as engineer:
            engineer.add_notice_handler(lambda notice: said.append(notice.message_primary))
            if fails is None:
                engineer.execute("CALL visage_ingest('s.%s')" % name)
                return said
            with self.assertRaises(fails) as raised:
                engineer.execute("CALL visage_ingest('s.%s')" % name)
            return raised.exception

    def counters(self):
        return self.database.value("SELECT counters FROM visage.runs ORDER BY run_id DESC LIMIT 1")

    def holds(self, name, records):
        """Staging has these records, each as often as here."""
        table = "staging.s__" + name
        found, expected = self.database.contents(table), self.database.expected(table, records)
        self.assertTrue(found == expected, house.difference(found, expected))

    def landed_once(self, name):
        every, distinct = self.database.value("SELECT count(*), count(DISTINCT (_source_key, record)) FROM landing.s__" + name)
        self.assertEqual(every, distinct)

    def paths(self):
        return [request["path"] for request in self.double.requests()]


class FreshdeskTest(ConnectorTest):
    system, secrets, arguments = "freshdesk", {"api_key": "freshdesk-key"}, ("--tickets", 600)

    def tickets(self):
        return [ticket for ticket in self.double.data("tickets") if not ticket.get("deleted")]

    def test_tickets(self):
        self.stream("tickets")
        self.ingest("tickets")
        self.holds("tickets", self.tickets())
        self.landed_once("tickets")
        with self.subTest("again: nothing is new"):
            self.ingest("tickets")
            self.assertEqual(self.counters()["landed"], 0)
        with self.subTest("changes and deletes"):
            self.double.control(change=30)
            self.ingest("tickets")
            self.assertEqual(len(self.double.data("tickets")) - len(self.tickets()), 6)
            self.landed_once("tickets")

    def test_more_tickets_than_pages(self):
        """The system lists three pages, there are six, and one second has
        more tickets than a page."""
        self.double.control(tie=150, ceiling=3)
        self.stream("tickets")
        self.ingest("tickets")
        self.holds("tickets", self.tickets())

    def test_more_tickets_in_one_second_than_the_system_lists(self):
        self.double.control(tie=250, ceiling=2)
        self.stream("tickets")
        error = self.ingest("tickets", fails=errors.ExternalRoutineException)
        self.assertIn("more tickets were changed in one second than the system lists", str(error))

    def test_a_ticket_that_moves_while_it_is_read(self):
        self.stream("tickets")
        self.double.control(faults={"seed": 1, "count": 3, "over": 5, "kinds": ["moved"]})
        self.ingest("tickets")
        self.assertEqual(self.double.state()["faults"], {"moved": 3})
        self.ingest("tickets")
        self.holds("tickets", self.tickets())

    def test_what_belongs_to_tickets(self):
        self.stream("tickets")
        self.stream("conversations")
        self.ingest("tickets")
        self.ingest("conversations")
        self.holds("conversations", self.double.data("conversations"))
        self.double.control(fault=None, change=10)
        self.ingest("tickets")
        self.ingest("conversations")
        asked = [path for path in self.paths() if "/conversations" in path]
        self.assertEqual(len(asked), 10, "only those of tickets that changed")
        self.holds("conversations", self.double.data("conversations"))

    def test_the_other_streams(self):
        for name in ("contacts", "companies", "agents", "groups", "roles", "ticket_fields", "time_entries", "satisfaction_ratings"):
            with self.subTest(name):
                self.stream(name)
                self.ingest(name)
                self.holds(name, self.double.data(name))

    def test_contacts_that_are_deleted(self):
        """Deleted softly: a list of their own names them."""
        self.stream("contacts", hard_deletes="invalidate")
        self.ingest("contacts")
        for command in ("delete_contacts", "restore_contacts"):
            self.double.control(**{command: 7})
            self.ingest("contacts")
            self.holds("contacts", [contact for contact in self.double.data("contacts") if not contact.get("deleted")])
        self.landed_once("contacts")

    def test_deletes_in_a_history(self):
        self.stream("contacts", hard_deletes="new_record", write_disposition="history")
        self.ingest("contacts")
        self.double.control(later=3600)
        self.double.control(delete_contacts=5)
        self.ingest("contacts")
        deleted = {contact["id"] for contact in self.double.data("contacts") if contact.get("deleted")}
        self.assertEqual(len(deleted), 5)
        self.assertEqual({key for key, in self.database.rows("SELECT id FROM history.s__contacts WHERE is_deleted AND valid_to = 'infinity'")}, deleted)
        self.assertEqual(self.database.value("SELECT count(*) FROM history.s__contacts__current"), len(self.double.data("contacts")) - 5)

    def test_deleted_tickets_by_what_is_declared(self):
        """hard_deletes => ignore keeps them, as they are told."""
        self.stream("tickets", hard_deletes="ignore")
        self.stream("live", "tickets", hard_deletes="invalidate")
        for _ in range(2):
            self.ingest("tickets")
            self.ingest("live")
            self.double.control(change=30)
        self.ingest("tickets")
        self.ingest("live")
        self.holds("live", self.tickets())
        self.holds("tickets", self.double.data("tickets"))

    def test_companies_that_vanish(self):
        self.stream("companies", hard_deletes="invalidate")
        self.ingest("companies")
        self.double.control(drop=4)
        self.ingest("companies")
        self.holds("companies", self.double.data("companies"))

    def test_a_budget_that_is_spent_is_waited_for(self):
        self.stream("agents")
        self.double.control(fault={"kind": "retry_after", "times": 1, "value": 1})
        self.ingest("agents")
        first, second = (request["at"] for request in self.double.requests()[:2])
        self.assertGreaterEqual(second - first, 1)

    def test_a_wrong_key(self):
        self.stream("agents")
        with open(os.path.join(self.directory, "api_key"), "w", encoding="ascii") as file:
            file.write("wrong")
        error = self.ingest("agents", fails=errors.ExternalRoutineException)
        self.assertIn("the API key is not accepted", str(error))


class HubspotTest(ConnectorTest):
    system, secrets, arguments = "hubspot", {"access_token": "pat-eu1-test"}, ("--contacts", 1200)

    def records(self, kind="contacts", archived=False):
        """As they arrive: the properties beside the rest, and those only that
        the system shows unasked."""
        shown = {"contacts": ("email", "firstname", "lastname"), "companies": ("domain", "name"), "deals": ("amount", "dealname", "dealstage", "pipeline"),
                 "tickets": ("content", "hs_pipeline_stage", "subject")}[kind]
        names = {"createdate", "hs_object_id", "lastmodifieddate", "hs_lastmodifieddate", "hs_merged_object_ids", *shown}
        return [{**{name: value for name, value in record.items() if name != "properties"}, **{name: value for name, value in record["properties"].items() if name in names}}
                for record in self.double.data(kind) if record["archived"] == archived]

    def test_objects(self):
        for kind in ("contacts", "companies", "deals", "tickets"):
            with self.subTest(kind):
                self.stream(kind)
                self.ingest(kind)
                self.holds(kind, self.records(kind))
                self.landed_once(kind)
        with self.subTest("again: nothing is new"):
            self.ingest("contacts")
            self.assertEqual(self.counters()["landed"], 0)
        with self.subTest("changes"):
            self.double.control(change=20, tie=30)
            self.ingest("contacts")
            self.holds("contacts", self.records())
            self.landed_once("contacts")

    def test_more_contacts_than_a_search_shows(self):
        """The window of a search is 400 records deep, and there are 1,200."""
        self.double.control(window=400)
        self.stream("contacts")
        self.ingest("contacts")
        self.holds("contacts", self.records())

    def test_properties_that_are_asked_for(self):
        self.stream("contacts", options={"properties": ["numemployees", "hs_multi_select"]})
        self.ingest("contacts")
        self.assertEqual(self.database.value("SELECT count(*), count(numemployees), min(hs_multi_select) FROM staging.s__contacts"), (1200, 1200, "a;b"))

    def test_search_that_lags_behind(self):
        self.stream("contacts")
        self.double.control(lag=1, change=40)
        self.ingest("contacts")
        house.wait_until(lambda: self.lagging() == 0, "search shows the changes")
        self.ingest("contacts")
        self.holds("contacts", self.records())

    def lagging(self):
        newest = {"sorts": [{"propertyName": "lastmodifieddate", "direction": "DESCENDING"}], "limit": 40}
        _, _, body = self.double.ask("/crm/v3/objects/contacts/search", newest, {"Authorization": "Bearer pat-eu1-test"})
        shown = {(record["id"], record["updatedAt"]) for record in json.loads(body)["results"]}
        changed = sorted(((record["updatedAt"], record["id"]) for record in self.records()), reverse=True)[:40]
        return len({(key, moment) for moment, key in changed} - shown)

    def test_archived_records_are_deleted(self):
        self.stream("contacts", hard_deletes="invalidate")
        self.stream("all", "contacts")
        self.ingest("contacts")
        self.ingest("all")
        self.double.control(archive=120)
        self.ingest("contacts")
        self.ingest("all")
        self.holds("contacts", self.records())
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.s__all"), 1200, "hard_deletes is ignore unless said")
        with self.subTest("again: nothing is new"):
            self.ingest("contacts")
            self.assertEqual(self.counters()["landed"], 0)
        with self.subTest("restored"):
            self.double.control(restore=20)
            self.ingest("contacts")
            self.holds("contacts", self.records())
            self.landed_once("contacts")

    def test_archived_records_in_a_history(self):
        self.stream("contacts", hard_deletes="new_record", write_disposition="history")
        self.ingest("contacts")
        self.double.control(archive=30)
        self.ingest("contacts")
        told = {int(record["id"]): record["archivedAt"] for record in self.double.data("contacts") if record["archived"]}
        found = "SELECT id, to_char(valid_from AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM history.s__contacts WHERE is_deleted AND valid_to = 'infinity'"
        self.assertEqual({int(key): moment for key, moment in self.database.rows(found)}, told)
        self.assertEqual(self.database.value("SELECT count(*) FROM history.s__contacts__current"), 1170)
        with self.subTest("again: nothing is new"):
            self.ingest("contacts")
            self.assertEqual(self.counters()["landed"], 0)
        with self.subTest("restored"):
            self.double.control(restore=10)
            self.ingest("contacts")
            self.assertEqual({int(key) for key, _ in self.database.rows(found)}, {int(record["id"]) for record in self.double.data("contacts") if record["archived"]})
            self.assertEqual(self.database.value("SELECT count(*) FROM history.s__contacts__current"), 1180)

    def test_discover(self):
        found = {name: (resource, columns, keys, cursor) for name, resource, columns, keys, cursor in
                 self.database.rows("SELECT * FROM visage_discover('s')", role="engineer")}
        resource, columns, keys, cursor = found["contacts"]
        self.assertEqual((resource, keys, cursor), ("contacts", ["id"], "lastmodifieddate"))
        self.assertEqual({name: columns[name] for name in ("id", "createdAt", "archived", "email", "phone", "lastmodifieddate")},
                         {"id": "text", "createdAt": "timestamptz", "archived": "boolean", "email": "text", "phone": "text", "lastmodifieddate": "timestamptz"})
        self.assertIsNone(found["contact_companies"][1].get("toObjectId") if found["contact_companies"][1] else None, "asked for only record by record")

    def test_archived_records(self):
        self.double.control(archive=120)
        self.stream("gone", "archived_contacts")
        self.ingest("gone")
        self.holds("gone", self.records(archived=True))

    def test_associations(self):
        self.stream("contacts")
        self.stream("contact_companies")
        self.double.control(archive=1150)
        self.ingest("contacts")
        self.ingest("contact_companies")
        links = collections.Counter()
        for record in self.double.data("contacts"):
            if not record["archived"]:
                _, _, body = self.double.ask("/crm/v4/objects/contacts/%s/associations/companies" % record["id"], headers={"Authorization": "Bearer pat-eu1-test"})
                links.update((record["id"], one["toObjectId"]) for one in json.loads(body)["results"])
        self.assertEqual(collections.Counter(self.database.rows("SELECT contact_id::text, to_object_id::text FROM staging.s__contact_companies")), links)

    def test_limits(self):
        self.stream("contacts")
        self.double.control(secondly=4)
        self.ingest("contacts")
        self.holds("contacts", self.records())
        with self.subTest("the day's"):
            self.double.control(secondly=1000, daily=2)
            self.database.execute("SELECT visage_reset_stream('s.contacts')", role="engineer")
            error = self.ingest("contacts", fails=errors.ExternalRoutineException)
            self.assertIn("the account's requests of this day are spent", str(error))

    def test_a_refresh_token(self):
        """The same connector with another way to sign in, made by SQL."""
        for name, value in (("client_secret", "client-secret"), ("refresh_token", "refresh-token")):
            with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
                file.write(value)
        self.database.execute("SELECT visage_create_connector('hubspot_oauth', definition -> 'manifest' || '{"
                              "\"secrets\": {\"client_secret\": {\"required\": true}, \"refresh_token\": {\"required\": true}},"
                              "\"auth\": {\"type\": \"oauth2_refresh_token\", \"token_url\": \"%s/oauth/v3/token\", \"client_id\": \"client\","
                              " \"client_secret\": \"{secret.client_secret}\", \"refresh_token\": \"{secret.refresh_token}\"},"
                              "\"responses\": []}')"
                              " FROM visage.declarations WHERE noun = 'connector' AND name = 'hubspot'" % self.double.url)
        self.database.execute("SELECT visage_create_source('o', 'hubspot_oauth', '{\"base_url\": \"%s\"}', '{\"client_secret\": \"file:client_secret\", \"refresh_token\": \"file:refresh_token\"}')"
                              % self.double.url, "SELECT visage_create_stream('o', 'contacts')", role="engineer")
        self.double.control(faults={"seed": 1, "count": 1, "over": 3, "kinds": ["token"]})
        self.database.execute("CALL visage_ingest('o.contacts')", role="engineer")
        self.assertEqual(self.double.state()["faults"], {"token": 1})
        self.assertEqual(len([path for path in self.paths() if path == "/oauth/v3/token"]), 2)
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.o__contacts"), 1200)


class ClevertapTest(ConnectorTest):
    system, secrets, arguments = "clevertap", {"account_id": "TEST-R78-4KZ", "passcode": "passcode"}, ("--days", 5, "--events", 120)
    options = {"time_zone": "Asia/Kolkata", "page_size": 30}

    def setUp(self):
        super().setUp()
        self.double.control(busy=0)

    def events(self, name="Charged"):
        return [{**record, "event_name": name} for record in self.double.data(name)]

    def test_events(self):
        self.stream("charged", "Charged")
        self.ingest("charged")
        self.holds("charged", self.events())
        with self.subTest("late ones, and none is counted twice"):
            self.double.control(late=20)
            self.ingest("charged")
            self.holds("charged", self.events())

    def test_an_export_that_takes_its_time(self):
        self.double.control(busy=1)
        self.stream("charged", "Charged", initial_value=self.days_ago(1))
        self.ingest("charged")
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.s__charged"),
                         len([event for event in self.events() if event["ts"] // 1000000 >= int(self.days_ago(1).replace("-", ""))]))

    def days_ago(self, days):
        return str(self.database.value("SELECT ((now() AT TIME ZONE 'Asia/Kolkata')::date - %s)::text", days))

    def test_more_exports_than_are_allowed_at_once(self):
        self.double.control(fault={"kind": "429", "times": 1, "after": 1})
        self.stream("charged", "Charged")
        self.ingest("charged")
        self.holds("charged", self.events())

    def test_refusals(self):
        self.stream("push", "Push Impressions")
        self.assertIn("the system does not export this event", str(self.ingest("push", fails=errors.ExternalRoutineException)))
        with open(os.path.join(self.directory, "passcode"), "w", encoding="ascii") as file:
            file.write("wrong")
        self.stream("charged", "Charged")
        self.assertIn("Invalid Credentials", str(self.ingest("charged", fails=errors.ExternalRoutineException)))

    def test_profiles(self):
        self.stream("buyers", "profiles/Charged", initial_value=self.days_ago(2))
        self.ingest("buyers")
        self.assertGreater(self.database.value("SELECT count(*) FROM staging.s__buyers"), 50)

    def test_a_region_is_a_host(self):
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('r', 'clevertap', '{\"region\": \"in1\"}', '{\"account_id\": \"file:account_id\", \"passcode\": \"file:passcode\"}')")
            engineer.execute("SELECT visage_create_stream('r', 'charged', 'Charged')")
            with self.assertRaises(errors.InsufficientPrivilege) as raised:
                engineer.execute("CALL visage_ingest('r.charged')")
        self.assertIn("in1.api.clevertap.com", "%s %s" % (raised.exception, raised.exception.diag.message_detail))


class AppsflyerTest(ConnectorTest):
    system, secrets, arguments = "appsflyer", {"api_token": "appsflyer-token"}, ("--days", 5, "--rows", 60, "--maximum-rows", 40, 200000, 1000000)
    options = {"app_id": "id123456789"}

    def rows(self, report="in_app_events_report"):
        """What the CSV says: nothing, N/A and NULL are no values."""
        return [{name: value if value not in ("", "N/A", "NULL") else None for name, value in row.items()} for row in self.double.data(report)]

    def test_reports(self):
        for name, report in (("in_app_events", "in_app_events_report"), ("installs", "installs_report"), ("retargeting_in_app_events", "in-app-events-retarget")):
            with self.subTest(name):
                self.stream(name)
                self.ingest(name)
                self.holds(name, self.rows(report))
        with self.subTest("late rows and revised ones"):
            self.double.control(late=25)
            self.ingest("in_app_events")
            self.holds("in_app_events", self.rows())

    def test_a_byte_order_mark(self):
        self.double.control(bom=True)
        self.stream("in_app_events")
        self.ingest("in_app_events")
        self.holds("in_app_events", self.rows())

    def test_a_report_that_is_cut_off(self):
        """A day has more rows than an answer: it is asked for in halves.  The
        system cuts at the rows that are asked for, a million unless said."""
        self.create_source("appsflyer", page_size=40)
        self.stream("in_app_events")
        self.ingest("in_app_events")
        self.holds("in_app_events", self.rows())

    def test_quotas(self):
        self.stream("in_app_events")
        self.double.control(quota=2)
        error = self.ingest("in_app_events", fails=psycopg.Error)
        self.assertIn("It may be repeated from", error.diag.message_detail, "at midnight, which is too far")
        self.double.control(quota=1000)
        self.ingest("in_app_events")
        self.holds("in_app_events", self.rows())

    def test_refusals(self):
        self.stream("other", "in_app_events", options={"app_id": "id1"})
        self.assertIn("there is no such app or report", str(self.ingest("other", fails=errors.ExternalRoutineException)))

    def test_further_fields_and_how_far_back(self):
        self.stream("installs", options={"additional_fields": "gp_referrer"}, initial_value="2020-01-01 00:00:00")
        self.ingest("installs")
        self.assertLessEqual(len(self.double.requests()), 92, "not further back than 90 days")
        self.assertIn("additional_fields=gp_referrer", self.paths()[0])
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.s__installs"), len(self.double.data("installs_report")))

    def test_aggregates(self):
        self.stream("partners_by_date")
        self.ingest("partners_by_date")
        self.holds("partners_by_date", self.rows("partners_by_date_report"))


class Ga4Test(ConnectorTest):
    system, arguments = "ga4", ("--days", 5)
    options = {"property_id": "123456", "dimensions": ["date", "country", "deviceCategory"], "metrics": ["sessions", "totalRevenue"], "page_size": 5}

    def more_arguments(self):
        return ("--key-file", os.path.join(self.directory, "service_account"))

    def create_source(self, connector=None, **options):
        os.chmod(os.path.join(self.directory, "service_account"), 0o644)
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('s', 'ga4', %s, '{\"service_account\": \"file:service_account\"}', replace => true)",
                             [Jsonb({"base_url": self.double.url, **self.options, **options})])

    def rows(self, report="date,country,deviceCategory:sessions,totalRevenue"):
        return self.double.data(report)

    def reports(self):
        return [request for request in self.double.requests() if request["path"].endswith(":runReport")]

    def test_a_report(self):
        self.stream("traffic")
        self.ingest("traffic")
        self.holds("traffic", self.rows())
        self.assertGreater(len(self.reports()), 6 * 2, "days come in pages")
        with self.subTest("figures that still grow replace those of before"):
            self.double.control(late=20)
            self.ingest("traffic")
            self.holds("traffic", self.rows())

    def test_discover(self):
        """What the property has, besides what the report has."""
        self.stream("traffic")
        (name, columns, keys), = self.database.rows("SELECT stream, columns, primary_key FROM visage_discover('s')", role="engineer")
        self.assertEqual((name, keys), ("traffic", None))
        self.assertEqual({field: columns[field] for field in ("date", "country", "sessions", "totalRevenue")},
                         {"date": "date", "country": "text", "sessions": "bigint", "totalRevenue": "numeric"})

    def test_another_report_of_the_same_property(self):
        self.stream("days", options={"dimensions": ["date"], "metrics": ["eventCount", "activeUsers"]})
        self.ingest("days")
        self.holds("days", self.rows("date:eventCount,activeUsers"))

    def test_a_token_that_expires(self):
        self.stream("traffic")
        self.double.control(faults={"seed": 3, "count": 2, "over": 10, "kinds": ["token"]})
        self.ingest("traffic")
        self.assertEqual(self.double.state()["faults"], {"token": 2})
        self.assertEqual(len([path for path in self.paths() if path == "/token"]), 3)
        self.holds("traffic", self.rows())

    def test_a_quota_that_is_spent(self):
        self.stream("traffic")
        self.double.control(tokens=10)
        self.assertIn("the property's quota is spent", str(self.ingest("traffic", fails=errors.ExternalRoutineException)))
        self.double.control(tokens=40000)
        self.ingest("traffic")
        self.holds("traffic", self.rows())

    def test_figures_that_are_not_exact_are_said_to_be(self):
        self.stream("traffic")
        self.double.control(sampling=True)
        self.assertIn("the figures are estimated from a sample", " ".join(self.ingest("traffic")))

    def test_refusals(self):
        self.stream("other", options={"property_id": "9"})
        self.assertIn("the service account may not read the property", str(self.ingest("other", fails=errors.ExternalRoutineException)))


class SocrataTest(ConnectorTest):
    system = "socrata"

    def test_discover(self):
        """The system's own description, and a page for what that leaves out."""
        self.stream("businesses", "g8m3-pdis", primary_key=["uniqueid"], cursor_field=":updated_at")
        (name, resource, columns, keys, cursor), = self.database.rows("SELECT * FROM visage_discover('s')", role="engineer")
        self.assertEqual((name, resource, keys, cursor), ("businesses", "g8m3-pdis", ["uniqueid"], ":updated_at"))
        self.assertEqual({field: columns[field] for field in ("uniqueid", "dba_start_date", "location", "parking_tax", ":updated_at", ":id")},
                         {"uniqueid": "text", "dba_start_date": "timestamp", "location": "jsonb", "parking_tax": "boolean", ":updated_at": "timestamptz", ":id": "text"})
        self.assertGreaterEqual(len(columns), 30)

    def test_a_data_set_that_is_replaced(self):
        """Every row has another :id and time; some are gone, which only an
        extract of all can tell."""
        self.create_source("socrata", page_size=400)
        self.stream("businesses", "g8m3-pdis", primary_key=["uniqueid"], cursor_field=":updated_at")
        self.stream("all", "g8m3-pdis", primary_key=["uniqueid"], hard_deletes="invalidate")
        self.ingest("businesses")
        self.ingest("all")
        rows = self.double.data("g8m3-pdis")
        self.double.control(replace=10)
        anew = {row["uniqueid"]: row for row in self.double.data("g8m3-pdis")}
        gone = [row for row in rows if row["uniqueid"] not in anew]
        self.assertEqual(len(gone), 10)
        self.ingest("businesses")
        self.holds("businesses", [*anew.values(), *gone])
        self.ingest("all")
        self.holds("all", list(anew.values()))
        with self.subTest("while it is read"):
            self.database.execute("SELECT visage_reset_stream('s.businesses')", "TRUNCATE staging.s__businesses", role=None)
            self.double.control(load="2021-01-01")
            self.double.fault("hang", after=3, times=1)
            run = house.Background(self.database, "CALL visage_ingest('s.businesses')")
            house.wait_until(lambda: len(self.double.requests()) == 4, "the run waits for the fourth page")
            run.cancel()
            self.double.control(replace=0)
            self.ingest("businesses")
            self.holds("businesses", self.double.data("g8m3-pdis"))

    def test_discover_when_nothing_answers(self):
        self.stream("businesses", "g8m3-pdis", primary_key=["uniqueid"], columns={"uniqueid": "text"})
        self.double.fault("500", times=100)
        said = []
        with self.database.connect("engineer") as engineer:
            engineer.add_notice_handler(lambda notice: said.append(notice.message_primary))
            self.assertEqual(engineer.execute("SELECT stream, columns FROM visage_discover('s')").fetchall(), [("businesses", {"uniqueid": "text", ":created_at": "timestamptz", ":updated_at": "timestamptz"})], "what is declared, and what the manifest says")
        self.assertEqual(len(said), 1)
        self.assertIn('stream "g8m3-pdis" cannot be asked for its columns', said[0])


class HttpTest(ConnectorTest):
    """The generic connector, with a system that it was not made for."""

    system, secrets = "socrata", {"token": "a-token"}

    def create_source(self, connector=None, **options):
        super().create_source("http")

    def test_a_resource(self):
        self.stream("old", "resource/g8m3-2017.json", write_disposition="append")
        self.ingest("old")
        self.assertEqual(self.paths(), ["/resource/g8m3-2017.json"])
        self.assertEqual(self.double.requests()[0]["headers"]["Authorization"], "Bearer a-token")
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.s__old"), 98)

    def test_without_a_token(self):
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('open', 'http', %s)", [Jsonb({"base_url": self.double.url})])
            engineer.execute("SELECT visage_create_stream('open', 'old', 'resource/g8m3-2017.json', write_disposition => 'append')")
            engineer.execute("CALL visage_ingest('open.old')")
        self.assertNotIn("Authorization", self.double.requests()[0]["headers"])


if __name__ == "__main__":
    unittest.main()
