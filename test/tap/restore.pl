# Dump and restore, into a fresh cluster and beside the original; what is left
# without the extension; and that a copy does nothing until it is adopted.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $hosts = "visage.allowed_hosts = '127.0.0.1'";
my $node  = new_node('main', "shared_preload_libraries = 'visage'", $hosts);
my $url   = start_double();
set_up($node, 'city');
declare($node, 'city', $url);
$node->safe_psql('city', "CALL visage_ingest('sf.businesses')");
$node->safe_psql(
	'city', q{
	SET ROLE visage_engineer;
	SELECT visage_create_feature_view('business', '{uniqueid}', 'history.sf__businesses__current', '_updated_at', '{"open": {"agg": "count"}}');
	SELECT visage_create_training_set('closed',
		'SELECT uniqueid, _updated_at + interval ''1 day'' AS event_time, location_end_date IS NOT NULL AS label, length(dba_name)::float8 AS length, supervisor_district
			FROM history.sf__businesses__current', '{business}');
	CALL visage_refresh('enriched.closed');
	SELECT visage_train('closed', 'SELECT label, length, supervisor_district FROM enriched.closed', algorithm => 'logistic', deploy => 'always')});

# Everything that must be the same in a copy.
my $contents = q{
	SELECT count(*), sum(hashtextextended(b::text, 0)) FROM history.sf__businesses AS b;
	SELECT count(*), sum(hashtextextended(l::text, 0)) FROM landing.sf__businesses AS l;
	SELECT count(*), sum(hashtextextended(e::text, 0)) FROM enriched.closed AS e;
	SELECT count(*) FROM history.sf__businesses__as_of('2021-01-02');
	SELECT sum(visage_score('closed', e)) FROM enriched.closed AS e;
	SELECT stream, cursor_value FROM visage.stream_states;
	SELECT max(run_id) FROM visage.runs;
	SELECT model, version, metrics, aliases FROM visage.model_versions;
	SELECT visage_definitions();
	SELECT string_agg(noun || name, ',' ORDER BY noun, name) FROM visage.declarations;
	SELECT dataset, relation::regclass FROM visage.datasets ORDER BY 1};
my $expected = $node->safe_psql('city', $contents);
like($expected, qr/^3010\|/, 'the register was ingested');

# What new rows do in a copy: sequences go on, indexes and the cursor hold.
sub copy_works
{
	my ($copy, $database, $name) = @_;
	is($copy->safe_psql($database, $contents), $expected, "$name: all is there");
	control(load => '2023-03-10', fault => undef);
	$copy->safe_psql($database, "SET ROLE visage_engineer; CALL visage_ingest('sf.businesses')");
	is($copy->safe_psql($database, "SELECT count(*), count(*) FILTER (WHERE valid_to = 'infinity') FROM history.sf__businesses"),
		'4914|4659', "$name: the next crawl adds what is new");
	is($copy->safe_psql($database, 'SELECT max(run_id) > 1, count(*) = count(DISTINCT run_id) FROM visage.runs'), 't|t', "$name: run numbers go on");
	is($copy->safe_psql($database, "SET ROLE visage_engineer; SELECT (visage_train('closed', 'SELECT label, length, supervisor_district FROM enriched.closed', algorithm => 'logistic')).version"),
		'2', "$name: the next version of the model");
	control(load => '2021-01-01', fault => undef);
	return;
}

my $dump = PostgreSQL::Test::Utils::tempdir() . '/city.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('city') ], 'pg_dump');

# beside the original
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('second'), $dump ], 'restored into a second database');
my $asked = requests();
fails($node, 'second', "CALL visage_ingest('sf.businesses')", '55000', 'adopt', 'a second database does not ingest by itself');
is(scalar(requests()), $asked, 'and asked nobody');
$node->safe_psql('second', 'SELECT visage_adopt()');
copy_works($node, 'second', 'a second database');

# in a fresh cluster
my $fresh = new_node('fresh', "shared_preload_libraries = 'visage'", $hosts);
my $roles = PostgreSQL::Test::Utils::tempdir() . '/roles.sql';
$node->command_ok([ 'pg_dumpall', '--roles-only', '-f', $roles, '-d', $node->connstr('postgres') ], 'pg_dumpall --roles-only');
$fresh->command_ok([ 'psql', '-Xq', '-d', $fresh->connstr('postgres'), '-f', $roles ], 'the roles');
$fresh->safe_psql('postgres', 'CREATE DATABASE city');
$fresh->command_ok([ 'pg_restore', '--exit-on-error', '-d', $fresh->connstr('city'), $dump ], 'restored into a fresh cluster');
$asked = requests();
fails($fresh, 'city', "CALL visage_ingest('sf.businesses')", '55000', 'adopt', 'a restored copy does not ingest');
is(scalar(requests()), $asked, 'and asked nobody');
$fresh->safe_psql('city', 'SELECT visage_adopt()');
copy_works($fresh, 'city', 'a fresh cluster');

# the definitions alone, in an empty database
$node->safe_psql('city', "SELECT visage_pause('stream', 'sf.businesses'), visage_pause('connector', 'socrata')");
my $definitions = $node->safe_psql('city', 'SELECT visage_definitions()');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
$node->safe_psql('empty', 'CREATE EXTENSION visage; SELECT visage_create_roles()');
$node->safe_psql('empty', "SET ROLE visage_engineer; $definitions");
is($node->safe_psql('empty', 'SELECT visage_definitions()'), $definitions, 'definitions make themselves again');
like($definitions, qr/\nSELECT visage_pause\('connector', 'socrata'\);\nSELECT visage_pause\('stream', 'sf.businesses'\);$/, 'what is paused is paused again');
$node->safe_psql('city', "SELECT visage_resume('stream', 'sf.businesses'), visage_resume('connector', 'socrata')");

# a physical copy, as a backup or a snapshot of the disk gives
$node->backup('base');
my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($node, 'base');
$clone->start;
$asked = requests();
fails($clone, 'city', "CALL visage_ingest('sf.businesses')", '55000', 'adopt', 'a clone does not ingest');
is(scalar(requests()), $asked, 'and asked nobody');
$clone->safe_psql('city', 'SELECT visage_adopt()');
copy_works($clone, 'city', 'an adopted clone');
$clone->stop;

# without the extension
my $tables = q{
	SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace::regnamespace::text IN ('landing', 'staging', 'history', 'enriched') AND c.relkind IN ('r', 'p') ORDER BY 1};
my $before = $node->safe_psql('city', $tables);
$node->safe_psql('city', 'DROP EXTENSION visage CASCADE');
is($node->safe_psql('city', $tables), $before, 'DROP EXTENSION CASCADE leaves every table of the layers');
is($node->safe_psql('city', 'SELECT count(*) FROM history.sf__businesses'), '3010', 'with its rows');
$node->safe_psql('city', 'CREATE EXTENSION visage');
is($node->safe_psql('city', 'SELECT count(*) FROM visage.model_versions'), '0', 'and the extension can be created again');

# where anybody may create objects
$node->safe_psql('postgres', 'CREATE SCHEMA anybody; GRANT CREATE ON SCHEMA anybody TO PUBLIC');
fails($node, 'postgres', 'CREATE EXTENSION visage SCHEMA anybody', '55000', 'anybody', 'CREATE EXTENSION is refused where PUBLIC may create');

done_testing();
