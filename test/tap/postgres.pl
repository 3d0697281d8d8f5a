# Another PostgreSQL database as a source: types, snapshots, transactions in
# flight, deletes, interruptions, refusals, what is kept secret.
use strict;
use warnings;

use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use List::Util qw(max);
use Time::HiRes qw(time usleep);
use VisageTest;

my $secrets = PostgreSQL::Test::Utils::tempdir();
append_to_file("$secrets/source", "open sesame\n");
append_to_file("$secrets/wrong",  "guess\n");

# hosts are asked for passwords, and the server's own environment has none of
# the answers
# a certificate for the address, and not for the name localhost
command_ok([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1',
		'-keyout', "$secrets/key", '-out', "$secrets/certificate" ], 'a certificate');
chmod 0600, "$secrets/key";
my $source = new_node('source', "listen_addresses = '127.0.0.1'", 'max_connections = 50', 'max_prepared_transactions = 5', 'log_statement = all',
	'ssl = on', "ssl_cert_file = '$secrets/certificate'", "ssl_key_file = '$secrets/key'");
{
	open my $hba, '>', $source->data_dir . '/pg_hba.conf' or die;
	print $hba "local all all trust\nlocal replication all trust\nhost all trusted 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
	close $hba;
	$source->reload;
}
$source->safe_psql('postgres', "CREATE DATABASE shop; CREATE ROLE reader LOGIN PASSWORD 'open sesame'; CREATE ROLE trusted LOGIN");
my $port = $source->port;
my $node;
{
	local @ENV{qw(PGPASSWORD PGSSLMODE)} = ('open sesame', 'allow');
	$node = PostgreSQL::Test::Cluster->new('main');
	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', join("\n",
			"shared_preload_libraries = 'visage'", "visage.secrets_directory = '$secrets'", "visage.allowed_hosts = '127.0.0.1'",
			'log_statement = all', 'visage.retry_delay = 1ms', 'visage.max_retries = 1', 'restart_after_crash = on', ''));
	$node->start;
}
set_up($node, 'city');

sub shop   { return $source->safe_psql('shop', join('', map { "$_;\n" } @_)) }
sub city   { return $node->safe_psql('city', join('', map { "$_;\n" } @_)) }
sub ingest { return city("CALL visage_ingest('shop.$_[0]')") }

# A stream of the source; more arguments as SQL.
sub stream
{
	my ($name, @arguments) = @_;
	city("SELECT visage_create_stream('shop', '$name'" . join('', map { ", $_" } @arguments) . ')');
	return;
}

# Is staging what the source's table is?
sub same
{
	my ($table, $columns, $name) = @_;
	my $query = "SET DateStyle = ISO; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = hex; SET IntervalStyle = postgres; SELECT $columns FROM %s ORDER BY 1";
	is(city(sprintf $query, "staging.shop__$table"), shop(sprintf $query, $table), $name);
	return;
}

city(
	"SELECT visage_create_source('shop', 'postgres', '{\"host\": \"127.0.0.1\", \"port\": $port, \"dbname\": \"shop\", \"user\": \"reader\", \"sslmode\": \"disable\"}', '{\"password\": \"file:source\"}')"
);

# ---- every type ----

shop(
	"CREATE TYPE mood AS ENUM ('sad', 'happy')",
	'CREATE DOMAIN positive AS integer CHECK (value > 0)',
	'CREATE DOMAIN price AS numeric(10,2)',
	'CREATE TYPE pair AS (a integer, b timestamptz)',
	"CREATE TABLE types (id bigint PRIMARY KEY, i2 smallint, i4 integer, o oid, n numeric, n2 numeric(12,3), f4 real, f8 double precision,
		b boolean, t text, v varchar(20), c char(5), q \"char\", na name, by bytea, d date, ti time, tz timetz, ts timestamp, ts3 timestamp(3), tt timestamptz, iv interval,
		u uuid, j json, jb jsonb, jp jsonpath, x xml, ip inet, ci cidr, ma macaddr, m8 macaddr8, bi bit(5), vb bit varying(9), pt point, bo box, po polygon, li line, ls lseg, pa path, cr circle,
		r4 int4range, rn numrange, rt tstzrange, mr int8multirange, tv tsvector, tq tsquery, lsn pg_lsn, x8 xid8, sn pg_snapshot, m money, rc regclass,
		mo mood, p positive, pr price, pa2 pair, ai integer[], at text[], an numeric(6,1)[], am mood[], ap price[], ad timestamptz[], aj jsonb[], a2 integer[][], ac pair[], g integer GENERATED ALWAYS AS (i4 / 2) STORED)",
	"INSERT INTO types (id, i2, i4, o, n, n2, f4, f8, b, t, v, c, q, na, by, d, ti, tz, ts, ts3, tt, iv, u, j, jb, jp, x, ip, ci, ma, m8, bi, vb, pt, bo, po, li, ls, pa, cr,
		r4, rn, rt, mr, tv, tq, lsn, x8, sn, m, rc, mo, p, pr, pa2, ai, at, an, am, ap, ad, aj, a2, ac) VALUES
		(1, -32768, 2147483647, 4000000000, 123456789012345678901234567890.0001230, -1.5, 'NaN', 0.1::float8 + 0.2, true, E'line\\nбыл \\\\ \"q\"', 'v', 'ab', 'z', 'someone', '\\x00ff10', '4714-11-24 BC', '24:00', '13:00:00.123456+05:30',
		'infinity', '2024-02-29 12:34:56.789', '2024-07-01 12:00:00.654321+02', '-1 year 2 months -3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"b\": 1.00, \"a\" : [1]}', '{\"b\": 1.00, \"a\": 1e500}', '\$.a[*] ? (@ > 1)', '<a>é</a>',
		'::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '10101', '101', '(1.5,-2)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', '{1,2,3}', '((0,0),(1,1))', '[(0,0),(1,1)]', '<(0,0),2>',
		'[1,5)', '(,1.5]', '[2024-01-01 00:00+00,infinity)', '{[1,3),[5,9)}', 'a fat cat:3A', 'fat & (rat | cat:B)', '16/B374D848', '5000000000', '10:20:10,14,15', '12.34', 'pg_class',
		'happy', 7, 9.99, ROW(1, '2024-01-01 00:00+03'), '{1,NULL,3}', '{\"a b\",\"\",NULL,\"NULL\"}', '{1.5,NULL}', '{sad,happy}', '{1.25,3}', '{2024-01-01 00:00+03,-infinity}', ARRAY['{\"a\": 1}'::jsonb], '{{1,2},{3,4}}', ARRAY[ROW(2, NULL)::pair]),
		(2, 0, 0, 0, 'NaN', 0, '-Infinity', -0.0, false, '', '', '', '', '', '', '0001-01-01', '00:00', '00:00+00', '-infinity', 'epoch', 'epoch', '0', '00000000-0000-0000-0000-000000000000', 'null', 'null', '\$', '', '0.0.0.0/0', '::/0',
		'00:00:00:00:00:00', '00:00:00:00:00:00:00:00', '00000', '', '(NaN,Infinity)', NULL, NULL, NULL, NULL, NULL, NULL, 'empty', 'empty', 'empty', '{}', '', '', '0/0', '1', '1:1:', '-0.01', 'pg_type', 'sad', 1, 0, NULL, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
	'INSERT INTO types (id) VALUES (3)',
	'GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader');
city("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'; SET extra_float_digits = -10; SET bytea_output = escape; SET IntervalStyle = iso_8601; SET client_encoding = LATIN1; SELECT visage_create_stream('shop', 'types', 'public.types', primary_key => '{id}'); CALL visage_ingest('shop.types')");
my $columns = shop("SELECT string_agg(CASE WHEN attname = 'm' THEN 'm::numeric AS m' ELSE quote_ident(attname) END, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'types'::regclass AND attnum > 0");
same('types', $columns, 'every type arrives as it is, whatever the settings of both sessions');
my $kinds = 'SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attname NOT IN (%s) AND left(attname, 1) <> \'_\' ORDER BY 1';
my $other = "'m', 'mo', 'p', 'pr', 'pa2', 'am', 'ap', 'ac', 'rc'";
is(city(sprintf $kinds, "'staging.shop__types'", $other), shop(sprintf $kinds, "'types'", $other), 'with its own type');
is( city("SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'staging.shop__types'::regclass AND attname IN ($other)"),
	'ac text[], am text[], ap numeric[], m numeric, mo text, p integer, pa2 text, pr numeric(10,2), rc text', 'or the one that stands for it');
is(city("SELECT stream, resource, columns ->> 'mo', columns ->> 'n2', primary_key, cursor_field FROM visage_discover('shop')"), 'types|public.types|text|numeric(12,3)|{id}|xmin', 'visage_discover knows tables, keys and cursors');
is(city("SELECT ok, message FROM visage_check_source('shop')"), 't|ok', 'visage_check_source connects');

# ---- a snapshot, then what changes ----

shop('CREATE TABLE orders (id bigint PRIMARY KEY, v integer, changed timestamptz DEFAULT now())', 'INSERT INTO orders SELECT i, 0 FROM generate_series(1, 1000) AS i', 'GRANT SELECT ON orders TO reader');
stream('orders', "primary_key => '{id}'", "cursor_field => 'xmin'", "hard_deletes => 'invalidate'");

my ($slow, $sub, $prepared) = (session($source, 'shop'), session($source, 'shop'), session($source, 'shop'));
$slow->{ask}->('BEGIN; UPDATE orders SET v = 1 WHERE id = 1; INSERT INTO orders VALUES (2000, 1)');
$sub->{ask}->('BEGIN; SAVEPOINT a; UPDATE orders SET v = 2 WHERE id = 2; SAVEPOINT b; INSERT INTO orders VALUES (2001, 2); RELEASE b');
$prepared->{ask}->("BEGIN; UPDATE orders SET v = 3 WHERE id = 3; INSERT INTO orders VALUES (2002, 3); PREPARE TRANSACTION 'later'");
ingest('orders');
is(city('SELECT count(*), sum(v) FROM staging.shop__orders'), '1000|0', 'a snapshot has what was committed');
shop('UPDATE orders SET v = 4 WHERE id = 4', 'DELETE FROM orders WHERE id = 5', 'INSERT INTO orders VALUES (2003, 4)');
ingest('orders');
same('orders', 'id, v', 'what was committed since has come, and what was deleted gone');
is(city("SELECT counters ->> 'deleted', counters ->> 'landed' FROM visage.runs WHERE name = 'shop.orders' ORDER BY run_id DESC LIMIT 1"), '1|2', 'and is counted');
$slow->{ask}->('COMMIT');
ingest('orders');
same('orders', 'id, v', 'a transaction that was in flight twice is not lost');
$sub->{ask}->('COMMIT');
shop("COMMIT PREPARED 'later'");
ingest('orders');
same('orders', 'id, v', 'nor subtransactions, nor a prepared transaction');
ingest('orders');
is(city("SELECT counters ->> 'landed' FROM visage.runs WHERE name = 'shop.orders' ORDER BY run_id DESC LIMIT 1"), '0', 'what did not change is not applied again');
$_->{quit}->() for $slow, $sub, $prepared;

# a cursor column, whose values commit out of order
shop('CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL)', "INSERT INTO events SELECT i, '2024-01-01'::timestamptz + i * interval '1 minute' FROM generate_series(1, 100) AS i", 'GRANT SELECT ON events TO reader');
stream('events', "primary_key => '{id}'", "cursor_field => 'at'");
my $late = session($source, 'shop');
$late->{ask}->("BEGIN; INSERT INTO events VALUES (200, '2024-01-01')");
ingest('events');
shop("INSERT INTO events VALUES (201, '2024-06-01')");
ingest('events');
$late->{ask}->('COMMIT');
$late->{quit}->();
ingest('events');
same('events', 'id, at', 'a row with an old cursor that is committed late is not lost');
stream('by_cursor', "'events'", "primary_key => '{id}'", "cursor_field => 'at'", "lag => '1 day'", "options => '{\"watermark\": \"cursor\"}'");
ingest('by_cursor');
shop("INSERT INTO events VALUES (300, '2024-05-31 12:00'), (301, '2024-07-01')");
ingest('by_cursor');
is(city('SELECT count(*) FROM staging.shop__by_cursor'), shop('SELECT count(*) FROM events'), 'by the cursor alone a lag covers what is late');
city("CALL visage_ingest('shop.by_cursor', from_value => '2024-01-01', to_value => '2024-02-01')");
is(city("SELECT counters ->> 'records', cursor_value::timestamptz = '2024-07-01' FROM visage.runs, visage.stream_states WHERE name = 'shop.by_cursor' AND stream = name ORDER BY run_id DESC LIMIT 1"), '101|t', 'a back-fill reads between two values and leaves the cursor alone');

# queries, append, replace, history
stream('totals', "options => '{\"query\": \"SELECT v, count(*) AS n FROM public.orders GROUP BY v\"}'", "primary_key => '{v}'", "write_disposition => 'replace'");
ingest('totals') for 1 .. 2;
is(city('SELECT sum(n), count(*) FROM staging.shop__totals'), shop('SELECT count(*), count(DISTINCT v) FROM orders'), 'a query replaces what was there');
stream('twice', "options => '{\"query\": \"SELECT i / 2 AS id, i AS v FROM generate_series(0, 7) AS i\"}'", "primary_key => '{id}'");
ingest('twice') for 1 .. 2;
is(city("SELECT string_agg(v::text, ' ' ORDER BY id) FROM staging.shop__twice"), '1 3 5 7', 'of rows with the same key the last one wins');
stream('log', "'orders'", "write_disposition => 'append'");
ingest('log') for 1 .. 2;
is(city('SELECT count(*) FROM staging.shop__log'), 2 * shop('SELECT count(*) FROM orders'), 'without a key each crawl appends');
stream('past', "'orders'", "primary_key => '{id}'", "cursor_field => 'xmin'", "write_disposition => 'history'", "hard_deletes => 'invalidate'");
ingest('past');
shop('UPDATE orders SET v = 9 WHERE id = 9', 'DELETE FROM orders WHERE id = 10');
ingest('past');
is(city("SELECT count(*) FILTER (WHERE valid_to = 'infinity'), count(*) FILTER (WHERE valid_to < 'infinity') FROM history.shop__past"), shop('SELECT count(*), 2 FROM orders'), 'a history has versions and ends');

# a worker
city("ALTER SYSTEM SET visage.stream_pause = '1s'");
$node->reload;
city("SET ROLE sf_engineer; SELECT visage_start('shop.orders')");
shop('UPDATE orders SET v = 77 WHERE id = 77');
wait_for($node, 'city', "SELECT v = 77 FROM staging.shop__orders WHERE id = 77", 'the worker brings a change');
city("SET ROLE sf_engineer; SELECT visage_stop('shop.orders')");
wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'visage stream')", 'the worker ends');
same('orders', 'id, v', 'a worker reads the stream');

# ---- columns that change ----

shop("ALTER TABLE orders ADD COLUMN note text DEFAULT 'none'", 'ALTER TABLE orders ALTER COLUMN v TYPE bigint');
ingest('orders');
same('orders', 'id, v, note', 'a new column comes with all its values');
is(city("SELECT string_agg(column_name || ' ' || change, ', ' ORDER BY id) FROM visage.schema_changes WHERE dataset = 'staging.shop__orders'"), 'note added, v widened', 'changes are written down');
shop('CREATE TABLE fixed (id integer PRIMARY KEY, a integer)', 'INSERT INTO fixed VALUES (1, 1)', 'GRANT SELECT ON fixed TO reader');
stream($_ , "'fixed'", "primary_key => '{id}'", "schema_contract => '$_'") for qw(freeze discard_row discard_value);
ingest($_) for qw(freeze discard_row discard_value);
shop('ALTER TABLE fixed ADD COLUMN b integer', 'INSERT INTO fixed VALUES (2, 2, 2), (3, 3, NULL)');
fails($node, 'city', "CALL visage_ingest('shop.freeze')", '42703', 'brings field "b"', 'freeze refuses a new column');
ingest($_) for qw(discard_row discard_value);
is(city("SELECT string_agg(id::text, ' ' ORDER BY id) FROM staging.shop__discard_row"), '1 3', 'discard_row puts rows aside that have a value there');
is(city("SELECT source_key IS NULL, reason, count(*) FROM visage.quarantine WHERE dataset = 'staging.shop__discard_row' GROUP BY 1, 2"), 't|field "b" is not in the schema contract|1', 'with the reason');
is(city("SELECT count(*) FROM staging.shop__discard_value"), '3', 'discard_value leaves the values out');
city('ALTER TABLE staging.shop__discard_value ADD CHECK (a <> 5)');
shop('INSERT INTO fixed SELECT i, i FROM generate_series(4, 6) AS i');
ingest('discard_value');
is(city("SELECT count(*), (SELECT convert_from(raw, 'UTF8') FROM visage.quarantine WHERE dataset = 'staging.shop__discard_value') FROM staging.shop__discard_value"), '5|{"id": "5", "a": "5"}', 'a row that breaks a constraint is put aside, alone');
city('ALTER TABLE staging.shop__discard_value DROP CONSTRAINT shop__discard_value_a_check');
is(city("SELECT visage_replay_quarantine('shop.discard_value')"), '1', 'and goes in when it is gone');

# ---- what is refused ----

my $good = "\"host\": \"127.0.0.1\", \"port\": $port, \"dbname\": \"shop\", \"user\": \"reader\"";
my $number = 0;
sub refused
{
	my ($options, $secret, $state, $text, $name) = @_;
	my $new = 'bad' . ++$number;
	city("SELECT visage_create_source('$new', 'postgres', '{$options}', '{\"password\": \"file:$secret\"}'); SELECT visage_create_stream('$new', 'orders', primary_key => '{id}')");
	fails($node, 'city', "SET visage.max_retries = 0; CALL visage_ingest('$new.orders')", $state, $text, $name);
	return;
}
refused("$good, \"sslmode\": \"disable\"", 'wrong', '08004', 'does not take the connection', 'a wrong password');
refused("$good", 'source', '08004', 'certificate verify failed', 'by default TLS is verified');
refused("$good, \"sslrootcert\": \"$secrets/nothing\"", 'source', '08004', 'does not exist', 'authorities that are not there');
city("SELECT visage_create_source('sealed', 'postgres', '{$good, \"sslrootcert\": \"$secrets/certificate\"}', '{\"password\": \"file:source\"}')");
is(city("SELECT ok FROM visage_check_source('sealed')"), 't', 'TLS with an authority of our own');
city("SELECT visage_create_source('sealed_too', 'postgres', '{$good}', '{\"password\": \"file:source\"}')");
is(city("SET visage.ssl_ca_file = '$secrets/certificate'; SELECT ok FROM visage_check_source('sealed_too')"), 't', 'the same by a setting');
refused("\"host\": \"127.0.0.2\", \"port\": $port, \"dbname\": \"shop\", \"user\": \"reader\"", 'source', '42501', 'host "127.0.0.2"', 'a host that is not allowed');
refused('"host": "127.0.0.1", "port": 1, "dbname": "shop", "user": "reader", "sslmode": "disable"', 'source', '08001', 'cannot be connected to, after 1 attempt', 'nobody listens');
city("ALTER SYSTEM SET visage.allowed_hosts = 'localhost, 127.0.0.1'");
$node->reload;
wait_for($node, 'city', "SELECT current_setting('visage.allowed_hosts') LIKE 'localhost%'", 'the setting');
city("SELECT visage_create_source('named', 'postgres', '{\"host\": \"localhost\", \"port\": $port, \"dbname\": \"shop\", \"user\": \"reader\", \"sslmode\": \"disable\"}', '{\"password\": \"file:source\"}')");
is(city("SELECT ok FROM visage_check_source('named')"), 't', 'a name leads to an address that is listed');
(my $by_name = $good) =~ s/127\.0\.0\.1/localhost/;
refused("$by_name, \"sslrootcert\": \"$secrets/certificate\"", 'source', '08004', 'does not match host name', 'a certificate for another name');
city("ALTER SYSTEM SET visage.allowed_hosts = 'localhost'");
$node->reload;
wait_for($node, 'city', "SELECT current_setting('visage.allowed_hosts') = 'localhost'", 'the setting');
like(city("SELECT message FROM visage_check_source('named')"), qr/is private and not in setting visage.allowed_hosts/, 'a name does not lead to loopback by itself');
city("ALTER SYSTEM SET visage.allowed_hosts = '127.0.0.1'");
$node->reload;
wait_for($node, 'city', "SELECT current_setting('visage.allowed_hosts') = '127.0.0.1'", 'the setting');
city("SELECT visage_create_source('trusting', 'postgres', '{\"host\": \"127.0.0.1\", \"port\": $port, \"dbname\": \"shop\", \"user\": \"trusted\", \"sslmode\": \"disable\"}')");
is(city("SET ROLE sf_engineer; SELECT ok, message LIKE '%does not take the connection%' FROM visage_check_source('trusting')"), 'f|t', 'what a server trusts is for superusers');
for (['{}', 'needs "host"'], ['{"host": "a/b", "dbname": "x", "user": "y"}', 'one host name'], ["{$good, \"port\": 0}", 'between 1 and 65535'], ["{$good, \"sslmode\": \"prefer\"}", 'invalid value for option "sslmode"'],
	["{$good, \"sslrootcert\": \"x\"}", 'absolute path'], ["{$good, \"base_url\": \"http://a\"}", 'base_url'])
{
	fails($node, 'city', "SELECT visage_create_source('x', 'postgres', '$_->[0]')", '22023', $_->[1], "options $_->[0]");
}
fails($node, 'city', "SET ROLE sf_engineer; SELECT visage_create_source('x', 'postgres', '{$good, \"sslrootcert\": \"/etc/passwd\"}')", '42501', 'only a superuser may give option', 'files are named by superusers');
for (["'a', 'x.y.z', primary_key => '{id}'", '42602', 'invalid name of a table'], ["'a', cursor_field => 'xmin', write_disposition => 'append'", '22023', 'and no primary key'],
	["'a', primary_key => '{id}', cursor_field => 'xmin', options => '{\"query\": \"SELECT 1\"}'", '22023', 'whose rows have no xmin'], ["'a', primary_key => '{id}', options => '{\"query\": \"DROP TABLE x\"}'", '22023', 'is not one SELECT'],
	["'a', primary_key => '{id}', cursor_field => 'xmin', initial_value => '1'", '22023', 'neither an initial value'], ["'a', primary_key => '{id}', options => '{\"watermark\": \"x\"}'", '22023', 'invalid value for option "watermark"'])
{
	fails($node, 'city', "SELECT visage_create_stream('shop', $_->[0])", $_->[1], $_->[2], "stream $_->[0]");
}
stream('gone', "primary_key => '{id}'");
fails($node, 'city', "CALL visage_ingest('shop.gone')", '42P01', 'source "shop" reports: relation "public.gone" does not exist', 'a table that is not there');
stream('keyless', "'orders'", "primary_key => '{nothing}'");
fails($node, 'city', "CALL visage_ingest('shop.keyless')", '42703', 'no column "nothing"', 'a key that is not there');
stream('curse', "'orders'", "primary_key => '{id}'", "cursor_field => 'nothing'", "initial_value => '1'");
fails($node, 'city', "CALL visage_ingest('shop.curse')", '42703', 'nothing', 'a cursor that is not there');
fails($node, 'city', "CALL visage_ingest('shop.orders', from_value => '1')", '22023', 'no cursor field to fill back by', 'xmin cannot be filled back by');
shop('CREATE TABLE hidden (id integer PRIMARY KEY)', 'ALTER TABLE hidden ENABLE ROW LEVEL SECURITY', 'GRANT SELECT ON hidden TO reader');
stream('hidden', "primary_key => '{id}'");
fails($node, 'city', "CALL visage_ingest('shop.hidden')", '42501', 'row-level security', 'rows are not left out by a policy unseen');
shop("CREATE TABLE wide (id integer PRIMARY KEY, t text)", "INSERT INTO wide VALUES (1, repeat('x', 3000000))", 'GRANT SELECT ON wide TO reader');
stream('wide', "primary_key => '{id}'");
fails($node, 'city', "SET visage.max_record = '1MB'; CALL visage_ingest('shop.wide')", '54000', 'larger than visage.max_record', 'a row over the limit');
ingest('wide');
is(city('SELECT length(t) FROM staging.shop__wide'), '3000000', 'and one within it');

# ---- memory ----

# The memory of a session's own in kB, again and again while it runs the statement.
sub memory_during
{
	my (@statements) = @_;
	my $session = session($node, 'city');
	my $pid = $session->{ask}->('SELECT pg_backend_pid()');
	my @memory;
	$session->{ask}->("SELECT visage_check_source('shop')");
	$session->{ask}->($_) for @statements[ 0 .. $#statements - 1 ];
	$session->{begin}->($statements[-1]);
	for (;;)
	{
		push @memory, slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
		last if $session->{done}->();
		usleep(1000);
	}
	$session->{end}->();
	$session->{quit}->();
	return @memory;
}

SKIP:
{
	skip 'no /proc/PID/status, as Linux has, to read the memory of a session in', 2 unless -r "/proc/$$/status";
	stream('many', "options => '{\"query\": \"SELECT i AS id, i AS v FROM generate_series(1, 600000) AS i\", \"watermark\": \"cursor\"}'", "primary_key => '{id}'", "cursor_field => 'v'");
	my @memory = memory_during("SET visage.ingest_memory = '1MB'", "CALL visage_ingest('shop.many')");
	my $third = int(@memory / 3);
	diag(sprintf '%d samples, from %d to %d to %d kB', scalar(@memory), $memory[0], $memory[$third], $memory[-1]);
	cmp_ok(max(@memory) - max(@memory[ 0 .. $third ]), '<', 2048, 'memory does not grow with the rows');
	is(city('SELECT count(*) FROM staging.shop__many'), '600000', 'which are all there');
}

# ---- many transactions at once, with random delays before they commit ----

shop('CREATE TABLE busy (id integer PRIMARY KEY, v integer NOT NULL, at timestamptz NOT NULL)', "INSERT INTO busy SELECT i, 0, now() FROM generate_series(1, 20000) AS i", 'GRANT SELECT ON busy TO reader');
my $script = "$secrets/busy.sql";
append_to_file($script, <<'PGBENCH');
\set id random(1, 3000)
\set more random(20001, 23000)
\set kind random(1, 4)
\set wait random(0, 400)
BEGIN;
INSERT INTO busy VALUES (:more, :kind, now() - random() * interval '1 minute') ON CONFLICT (id) DO UPDATE SET v = busy.v + 1, at = excluded.at;
SAVEPOINT a;
UPDATE busy SET v = v + 1, at = now() WHERE id = :id;
\if :kind = 1
ROLLBACK TO a;
DELETE FROM busy WHERE id = :id;
\elif :kind = 2
RELEASE a;
\endif
\sleep :wait ms
COMMIT;
PGBENCH
stream('busy', "primary_key => '{id}'", "cursor_field => 'xmin'", "hard_deletes => 'invalidate'");
stream('busy_at', "'busy'", "primary_key => '{id}'", "cursor_field => 'at'", "hard_deletes => 'invalidate'");
stream('unsafe', "'busy'", "primary_key => '{id}'", "cursor_field => 'at'", "hard_deletes => 'invalidate'", "options => '{\"watermark\": \"cursor\"}'");
my $seconds = $ENV{VISAGE_LONG} ? 120 : 8;
my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', '8', '-j', '2', '-T', $seconds, '--max-tries=0', '-f', $script, $source->connstr('shop') ], '<', \undef, '>', \my $bench_output, '2>', \my $bench_errors);
my $crawls = 0;
for (my $start = time; time - $start < $seconds - 1; $crawls++)
{
	ingest($_) for qw(busy busy_at unsafe);
}
$bench->finish;
ingest($_) for qw(busy busy_at unsafe);
my $all = 'SELECT count(*), sum(hashtext((id, v, at)::text)) FROM';
my $truth = shop("$all busy");
is(city("$all staging.shop__busy"), $truth, 'with transactions that overlap the target is the source');
is(city("$all staging.shop__busy_at"), $truth, 'by a cursor column too');
cmp_ok(city("SELECT max((counters ->> 'records')::int) FROM visage.runs WHERE name = 'shop.busy' AND run_id > (SELECT min(run_id) FROM visage.runs WHERE name = 'shop.busy')"), '<', 15000, 'and no crawl but the first has read the whole');
diag(sprintf '%d crawls; %s transactions; the cursor alone has %s rows that differ', $crawls, ($bench_output =~ /transactions actually processed: (\d+)/)[0] // '?',
	city('SELECT count(*) FROM staging.shop__unsafe AS u FULL JOIN staging.shop__busy AS b USING (id) WHERE (u.v, u.at) IS DISTINCT FROM (b.v, b.at)'));

# ---- interrupted ----

my $held = "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active' AND wait_event_type = 'Extension'";
my $hole = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp') or die;
city("SELECT visage_create_source('hole', 'postgres', '{\"host\": \"127.0.0.1\", \"port\": " . $hole->sockport . ", \"dbname\": \"shop\", \"user\": \"reader\", \"sslmode\": \"disable\"}', '{\"password\": \"file:source\"}')",
	"SELECT visage_create_stream('hole', 'orders', primary_key => '{id}')");
stream('slow', "options => '{\"query\": \"SELECT i AS id, pg_sleep(0.2)::text AS t FROM generate_series(1, 1000) AS i\"}'", "primary_key => '{id}'");
for my $stream (qw(hole.orders shop.slow))
{
	for my $how (qw(cancel terminate))
	{
		my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('$stream')");
		wait_for($node, 'city', $held, "$stream waits, and holds nothing");
		my $start = time;
		city("SELECT pg_${how}_backend(pid) FROM visage.progress");
		$run->{run}->finish;
		cmp_ok(time - $start, '<', 1, "$how of $stream takes effect within a second");
		like(${ $run->{errors} }, $how eq 'cancel' ? qr/canceling statement due to user request/ : qr/terminating connection/, 'and says so');
		wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active')", 'the session is done');
	}
}
fails($node, 'city', "SET visage.connect_timeout = '300ms'; SET visage.max_retries = 0; CALL visage_ingest('hole.orders')", '08001', 'Timeout was reached', 'a connection that takes too long');

stream('stuck', "options => '{\"query\": \"SELECT 1 AS id FROM pg_sleep(30)\"}'", "primary_key => '{id}'");
fails($node, 'city', "SET visage.request_timeout = '1s'; CALL visage_ingest('shop.stuck')", '08006', 'nothing came for visage.request_timeout', 'a source that stays silent');

# what the source was doing for the crawl ends with it
stream('endless', "options => '{\"query\": \"SELECT 1 AS id FROM pg_sleep(1000)\"}'", "primary_key => '{id}'");
my $asleep = "SELECT count(*) %s FROM pg_stat_activity WHERE query LIKE 'COPY%%pg\\_sleep(%%' AND state = 'active'";
wait_for($source, 'shop', sprintf($asleep, '= 0'), 'the silent statement is cancelled at the source');
for my $how (qw(cancel terminate))
{
	my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('shop.endless')");
	wait_for($source, 'shop', sprintf($asleep, '= 1'), 'the source sleeps');
	city("SELECT pg_${how}_backend(pid) FROM visage.progress");
	$run->{run}->finish;
	wait_for($source, 'shop', sprintf($asleep, '= 0'), "the statement at the source ends after $how");
	pass("$how reaches the source");
}
{
	# a source whose port takes connections and that answers none
	my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('shop.endless')");
	wait_for($source, 'shop', sprintf($asleep, '= 1'), 'the source sleeps');
	my $pid = (split /\n/, slurp_file($source->data_dir . '/postmaster.pid'))[0];
	kill 'STOP', $pid;
	my $start = time;
	city("SELECT pg_cancel_backend(pid) FROM visage.progress");
	$run->{run}->finish;
	my $end = time;
	kill 'CONT', $pid;
	cmp_ok($end - $start, '<', 2, 'a source that takes no cancellation is not waited for');
	wait_for($source, 'shop', sprintf($asleep, '= 0'), 'and has it when it goes on');
}

# one side dies in the middle of a first snapshot, of a later crawl
shop('CREATE TABLE large (id integer PRIMARY KEY, v integer, t text)', "INSERT INTO large SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 60000) AS i", 'GRANT SELECT ON large TO reader');
stream('large', "primary_key => '{id}'", "cursor_field => 'xmin'", "hard_deletes => 'invalidate'");
city("ALTER SYSTEM SET visage.ingest_memory = '1MB'");
$node->reload;
for my $victim (qw(backend source both backend source))
{
	my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('shop.large')");
	wait_for($node, 'city', "SELECT EXISTS (SELECT FROM visage.progress WHERE (counters ->> 'pages')::int > 1) OR NOT EXISTS (SELECT FROM visage.progress) AND EXISTS (SELECT FROM visage.runs WHERE name = 'shop.large' AND state <> 'running' AND finished_at > now() - interval '1 second')", 'pages are committed');
	if ($victim ne 'source')
	{
		my $pid = city("SELECT pid FROM visage.progress WHERE name = 'shop.large'");
		kill 'KILL', $pid if $pid;
	}
	$source->stop('immediate') if $victim ne 'backend';
	$run->{run}->finish;
	$source->start if $victim ne 'backend';
	wait_for($node, 'postgres', 'SELECT true', 'the server is back');
	shop('UPDATE large SET v = v + 1 WHERE id % 7 = 0', 'DELETE FROM large WHERE id % 1000 = 1');
}
ingest('large');
is(city('SELECT count(*), sum(v), sum(hashtext(t)) FROM staging.shop__large'), shop('SELECT count(*), sum(v), sum(hashtext(t)) FROM large'), 'after kills of both sides each row is there once');

# ---- a standby as the source ----

$source->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'base', has_streaming => 1);
$standby->start;
my $standby_port = $standby->port;
city("SELECT visage_create_source('copy', 'postgres', '{\"host\": \"127.0.0.1\", \"port\": $standby_port, \"dbname\": \"shop\", \"user\": \"reader\", \"sslmode\": \"disable\"}', '{\"password\": \"file:source\"}')",
	"SELECT visage_create_stream('copy', 'orders', primary_key => '{id}', cursor_field => 'xmin', hard_deletes => 'invalidate')");
my $open = session($source, 'shop');
$open->{ask}->('BEGIN; SAVEPOINT a; INSERT INTO orders (id, v) VALUES (5000, 5)');
shop('INSERT INTO orders (id, v) VALUES (5001, 5)');
$source->wait_for_catchup($standby, 'replay', $source->lsn('insert'));
city("CALL visage_ingest('copy.orders')");
$open->{ask}->('COMMIT');
$open->{quit}->();
shop('DELETE FROM orders WHERE id = 11', 'UPDATE orders SET v = 12 WHERE id = 12');
$source->wait_for_catchup($standby, 'replay', $source->lsn('insert'));
city("CALL visage_ingest('copy.orders')");
is(city('SELECT count(*), sum(v) FROM staging.copy__orders'), shop('SELECT count(*), sum(v) FROM orders'), 'a standby shows in-flight transactions, too');
cmp_ok(city("SELECT (counters ->> 'records')::int FROM visage.runs WHERE name = 'copy.orders' ORDER BY run_id DESC LIMIT 1"), '<', 10, 'and only what is new is read');
$standby->promote;
shop('SELECT 1');
$standby->safe_psql('shop', 'UPDATE orders SET v = 13 WHERE id = 13');
city("CALL visage_ingest('copy.orders')");
is(city('SELECT count(*), sum(v) FROM staging.copy__orders'), $standby->safe_psql('shop', 'SELECT count(*), sum(v) FROM orders'), 'after its promotion too');
$standby->stop;

# ---- what nobody may see, and what is missing ----

for my $log ($node->logfile, $source->logfile)
{
	# the source's own log has the statement that made the role
	my @lines = grep { /open sesame/ && !/CREATE ROLE reader/ } split /\n/, slurp_file($log);
	is(scalar(@lines), 0, 'no log has the password');
}
is(city("SELECT count(*) FROM (SELECT definition::text FROM visage.declarations UNION ALL SELECT error FROM visage.runs UNION ALL SELECT last_error FROM visage.breakers) AS t (x) WHERE x LIKE '%sesame%'"), '0', 'no view has it');
like(city("SELECT string_agg(state, ' ') FROM visage.breakers WHERE host = '127.0.0.1:$port'"), qr/^closed$/, 'the source has a breaker');

$node->stop;
my $libraries = PostgreSQL::Test::Utils::tempdir();
append_to_file("$libraries/libpq.so.5", '');
append_to_file("$libraries/postgres",   "#!/bin/sh\nLD_LIBRARY_PATH=$libraries exec " . $node->config_data('--bindir') . "/postgres \"\$@\"\n");
chmod 0755, "$libraries/postgres";
system_or_bail('pg_ctl', '-s', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-p', "$libraries/postgres", 'start');
$node->_update_pid(1);
fails($node, 'city', "CALL visage_ingest('shop.orders')", '58P01', 'install package libpq5', 'without libpq the error names the package');
is(city('SELECT count(*) FROM visage.breakers'), '0', 'and the rest of the library works');
$node->stop;

done_testing();
