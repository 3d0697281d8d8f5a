# Models as all sessions share them: which version a statement sees on a
# primary and on a standby, the files that hold the images, privileges.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

# without shared_preload_libraries, and again with them from models_preloaded.pl
my $node = new_node('main', 'max_wal_senders = 5', 'autovacuum = off', $ENV{VISAGE_PRELOADED} ? "shared_preload_libraries = 'visage'" : ());
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql(
	'shop', q{
	CREATE EXTENSION visage;
	SELECT visage_create_roles();
	CREATE TABLE rows AS SELECT i AS id, i::float8 AS x, (i * 7919 % 101)::float8 AS z, i % 3 = 0 OR i > 80 AS y FROM generate_series(1, 100) AS i});

# A version of model m that scores otherwise than the others: by its penalty,
# by its columns.
sub train
{
	my ($penalty, $columns, $deploy) = @_;
	return "SELECT version FROM visage_train('m', 'SELECT $columns, y AS label FROM rows', algorithm => 'logistic', params => '{\"C\": $penalty}', split => '{}', deploy => '$deploy')";
}
$node->safe_psql('shop', train(1,    'x',    'always'));
$node->safe_psql('shop', train(0.01, 'x',    'never'));
$node->safe_psql('shop', train(1,    'z, x', 'never'));
my $score = "SELECT visage_score('m', r) FROM rows AS r WHERE id = 50";
my %expected = map { $_ => $node->safe_psql('shop', "SELECT visage_score('m\@$_', r) FROM rows AS r WHERE id = 50") } (1 .. 3);
isnt($expected{$_}, $expected{ $_ % 3 + 1 }, "version $_ scores otherwise than the next") for (1 .. 3);

sub deploy
{
	my ($version) = @_;
	$node->safe_psql('shop', "SELECT visage_deploy('m', $version)");
	return;
}

my $files = "SELECT count(*) FROM pg_ls_dir('base/pgsql_tmp', true, false) AS f WHERE f LIKE 'pgsql\\_tmp\\_visage\\_%'";
is($node->safe_psql('shop', $files), '3', 'each image has a file');

#
# Which version a statement sees
#
my $here  = session($node, 'shop');
my $other = session($node, 'shop');
$_->{ask}->("SET plan_cache_mode = force_generic_plan; PREPARE score AS $score") for ($here, $other);
for my $version (2, 3, 1, 3)
{
	is($here->{ask}->('EXECUTE score'), $expected{ $node->safe_psql('shop', "SELECT champion FROM visage.models WHERE model = 'm'") }, 'before the deploy');
	deploy($version);
	is($here->{ask}->('EXECUTE score'), $expected{$version}, "version $version is seen by a prepared statement");
	is($here->{ask}->($score),          $expected{$version}, 'and by a new one');
	is($here->{ask}->("SELECT visage_score_json('m', '{\"x\": 50, \"z\": 30}')"), $expected{$version}, 'without a table, too');
}

# REPEATABLE READ keeps its version, also where it first asks after the deploy
deploy(1);
$here->{ask}->('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM rows');
$other->{ask}->("BEGIN ISOLATION LEVEL REPEATABLE READ; $score");
deploy(3);
is($here->{ask}->($score),           $expected{1}, 'REPEATABLE READ: first asked after the deploy, the version of the snapshot');
is($other->{ask}->($score),          $expected{1}, 'asked before, it is kept');
is($other->{ask}->('EXECUTE score'), $expected{1}, 'by a prepared statement, too');
deploy(2);
is($_->{ask}->('EXECUTE score'), $expected{1}, 'after a second deploy') for ($here, $other);
is($here->{ask}->("INSERT INTO rows VALUES (0, 0, 0, true); $score"), $expected{1}, 'and own changes');
$_->{ask}->('ROLLBACK') for ($here, $other);
is($_->{ask}->('EXECUTE score'), $expected{2}, 'afterwards the new version: no stale one was kept') for ($here, $other);
is($_->{ask}->($score), $expected{2}, 'by any statement') for ($here, $other);

# a deploy between a statement's snapshot and its first call
$other->{ask}->('SELECT pg_advisory_lock(1)');
$here->{begin}->("SELECT visage_score('m', r), visage_score_json('m', to_jsonb(r)) FROM rows AS r, (SELECT pg_advisory_lock(1) OFFSET 0) AS waits WHERE r.id = 50");
wait_for($node, 'shop', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 'the statement waits');
deploy(1);
$other->{ask}->('SELECT pg_advisory_unlock(1)');
is($here->{end}->(), "$expected{2}|$expected{2}", 'a statement sees what was deployed when it began');
is($here->{ask}->("SELECT pg_advisory_unlock(1); $score"), "t\n$expected{1}", 'the next one the new version');
$here->{ask}->("BEGIN; DECLARE c CURSOR FOR SELECT visage_score_json('m', to_jsonb(r)) FROM rows AS r WHERE id >= 50 ORDER BY id");
deploy(2);
is($here->{ask}->($score),           $expected{2}, 'READ COMMITTED sees the deploy');
is($here->{ask}->('FETCH 1 FROM c'), $expected{1}, 'a cursor that was opened before it does not');
deploy(3);
is($here->{ask}->('SELECT 1; FETCH BACKWARD 1 FROM c; FETCH 1 FROM c'), "1\n$expected{1}", 'nor in the middle');
is($here->{ask}->($score), $expected{3}, 'and what it saw is not kept');
$here->{ask}->('COMMIT');

# one statement, begun before it, of several processes
$here->{ask}->('SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on; SET force_parallel_mode = on');
$node->safe_psql('shop', 'CREATE TABLE many AS SELECT 50 AS id, 50::float8 AS x, 30::float8 AS z FROM generate_series(1, 20000); ALTER TABLE many SET (parallel_workers = 2); ANALYZE many');
deploy(1);
like($here->{ask}->("EXPLAIN SELECT visage_score('m', r), count(*) FROM many AS r GROUP BY 1"), qr/Workers Planned: 2/, 'a parallel plan');
for my $version (2, 3, 1)
{
	deploy($version);
	is($here->{ask}->("SELECT visage_score('m', r), count(*) FROM many AS r GROUP BY 1"), "$expected{$version}|20000", 'leader and workers agree');
}

# a loop in PL/pgSQL follows, and the deploy's own transaction when rolled back
$here->{begin}->("DO \$\$ BEGIN FOR i IN 1..10000000 LOOP EXIT WHEN visage_score('m', 50::float8) = $expected{2}; COMMIT; END LOOP; ASSERT visage_score('m', 50::float8) = $expected{2}; END \$\$; SELECT 'seen'");
deploy(2);
is($here->{end}->(), 'seen', 'a loop sees the deploy');
$other->{ask}->("BEGIN; SELECT visage_deploy('m', 1)");
is($other->{ask}->('EXECUTE score'), $expected{1}, 'a transaction sees its own deploy');
is($here->{ask}->($score),           $expected{2}, 'others do not');
$other->{ask}->('ROLLBACK');
is($other->{ask}->('EXECUTE score'), $expected{2}, 'nor does it when it was rolled back');

# a version that was rolled back, and another one of its number
$other->{ask}->('BEGIN');
is($other->{ask}->(train(10, 'x', 'always')), '4', 'a version that will be rolled back');
my $never = $other->{ask}->($score);
is($other->{ask}->("SELECT visage_score('m\@4', 50::float8)"), $never, 'scores meanwhile');
$other->{ask}->('ROLLBACK');
is($node->safe_psql('shop', train(0.1, 'x', 'never')), '4', 'its number is used again');
isnt($other->{ask}->("SELECT visage_score('m\@4', 50::float8)"), $never, 'for what it is now');
is($other->{ask}->($score), $expected{2}, 'and the champion is as it was');

# told by any kind of change
$node->safe_psql('shop', 'SET session_replication_role = replica; UPDATE visage.model_aliases SET version = 1');
is($_->{ask}->('EXECUTE score'), $expected{1}, 'rows that arrive by replication count') for ($here, $other);

# a drop breaks nothing that runs
$node->safe_psql('shop', "SELECT visage_train('doomed', 'SELECT x, y AS label FROM rows', algorithm => 'logistic', deploy => 'always')");
$other->{ask}->('BEGIN; DECLARE c CURSOR FOR SELECT visage_score(\'doomed\', r) IS NOT NULL FROM rows AS r');
$other->{ask}->('FETCH 1 FROM c');
$node->safe_psql('shop', "SET lock_timeout = '1s'; SELECT visage_drop_model('doomed', keep_data => false)");
is($other->{ask}->('FETCH 2 FROM c'), "t\nt", 'a running query goes on with a dropped model');
like($other->{ask}->("SELECT visage_score('doomed', 1)"), qr/model "doomed" does not exist/, 'the next one does not find it');
$other->{ask}->('ROLLBACK');

#
# A standby
#
$node->backup('base');
my @left = glob($node->backup_dir . '/base/base/pgsql_tmp/*');
is(scalar(@left), 0, 'a base backup has no images');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $there = session($standby, 'shop');
$there->{ask}->("SET plan_cache_mode = force_generic_plan; PREPARE score AS $score");
for my $version (1, 2, 3)
{
	deploy($version);
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is($there->{ask}->('EXECUTE score'), $expected{$version}, "a standby sees version $version when its deploy is replayed");
	is($there->{ask}->("SELECT visage_score_json('m', '{\"x\": 50, \"z\": 30}')"), $expected{$version}, 'without a table, too');
}
$there->{ask}->("BEGIN ISOLATION LEVEL REPEATABLE READ; $score");
is($node->safe_psql('shop', train(100, 'x', 'always')), '5', 'a new version');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($there->{ask}->($score), $expected{3}, 'REPEATABLE READ on the standby keeps its version');
$there->{ask}->('COMMIT');
is($there->{ask}->($score), $node->safe_psql('shop', $score), 'and sees the imported one afterwards');
$there->{quit}->();
$standby->stop;

#
# Privileges: in a dump, and gone with DROP OWNED
#
$node->safe_psql(
	'shop', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE report LOGIN;
	GRANT visage_scorer TO app, report;
	SELECT visage_grant_model('m', 'app');
	GRANT SELECT ON visage_models.m TO report});
my $mine   = "SELECT visage_score('m', 50::float8)";
my $grants = 'SELECT model, role, granted_by FROM visage.model_grants ORDER BY 1, 2';
my $tell   = session($node, 'shop', 'app');
is($tell->{ask}->($mine), $node->safe_psql('shop', $mine), 'who was granted the model scores');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('shop') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
is($node->safe_psql('copy', $grants), $node->safe_psql('shop', $grants), 'the grants are in the copy');
my $copied = session($node, 'copy', 'report');
is($copied->{ask}->($mine), $node->safe_psql('shop', $mine), 'and hold there');
is($node->safe_psql('copy', "SELECT string_agg(model || champion, ' ') FROM visage.models"), 'm5', 'with the models');
$node->safe_psql('copy', 'DROP OWNED BY report');
like($copied->{ask}->($mine), qr/permission denied for/, 'DROP OWNED drops them');
$copied->{quit}->();
$node->safe_psql('shop', "SELECT visage_revoke_model('m', 'app')");
like($tell->{ask}->($mine), qr/permission denied for model "m"/, 'a session sees that its grant is gone');
$tell->{quit}->();
$node->safe_psql('postgres', 'DROP DATABASE copy');

#
# The files
#
my $image = $node->safe_psql('shop', "SELECT f FROM pg_ls_dir('base/pgsql_tmp') AS f JOIN visage.model_images AS i ON f LIKE '%' || replace(image_id::text, '-', '') || '%' WHERE model = 'm' AND version = 1");
my $path = $node->data_dir . "/base/pgsql_tmp/$image";
unlink($path);
is($here->{ask}->("SELECT visage_score('m\@1', 50::float8)"), $expected{1}, 'who has mapped an image needs no file');
is($node->safe_psql('shop', "SELECT visage_score('m\@1', 50::float8)"), $expected{1}, 'who has not makes it again');
ok(-s $path, 'and it is there');
for my $damage ('', 'no image', substr(slurp_file($path), 0, 100), ('x' x (-s $path)))
{
	unlink($path);
	append_to_file($path, $damage);
	is($node->safe_psql('shop', "SELECT visage_score('m\@1', 50::float8)"), $expected{1}, 'a damaged file is made again');
}
like(slurp_file($node->logfile), qr/file "base\/pgsql_tmp\/\S+" is damaged: version 1 of model "m" is written again/, 'and the log says so');

# those used longest ago go
my $size = -s $path;
my $limit = int(3 * $size / 1024 + 1);
$node->safe_psql('shop', "LOAD 'visage'; ALTER SYSTEM SET visage.model_cache = '${limit}kB'; SELECT pg_reload_conf()");
wait_for($node, 'shop', "SELECT visage_version() IS NOT NULL AND current_setting('visage.model_cache') = '${limit}kB'", 'the setting');
for my $i (1 .. 12)
{
	$node->safe_psql('shop', "SELECT visage_train('more$i', 'SELECT x, y AS label FROM rows', algorithm => 'logistic', deploy => 'always'); SELECT visage_score('more$i', 1)");
	is($node->safe_psql('shop', "SELECT sum(size) <= $limit * 1024 FROM pg_ls_tmpdir() WHERE name LIKE 'pgsql\\_tmp\\_visage\\_%'"), 't', 'the files keep to the limit') if $i % 4 == 0;
}
is($here->{ask}->("SELECT visage_score('m\@1', 50::float8)"), $expected{1}, 'who had mapped what is gone has it still');
is($node->safe_psql('shop', "SELECT count(DISTINCT visage_score('more' || i, 50::float8)), bool_and(visage_score('more' || i, 50::float8) BETWEEN 0 AND 1) FROM generate_series(1, 12) AS i"), '1|t', 'all are used in one statement');
$node->safe_psql('shop', "LOAD 'visage'; ALTER SYSTEM SET visage.model_cache = '1kB'; SELECT pg_reload_conf()");
wait_for($node, 'shop', "SELECT visage_version() IS NOT NULL AND current_setting('visage.model_cache') = '1kB'", 'the setting');
$node->safe_psql('shop', "CREATE TABLE names AS SELECT md5(i::text) AS name, i % 2 = 0 AS label FROM generate_series(1, 200) AS i; SELECT visage_train('large', 'SELECT * FROM names', algorithm => 'logistic', split => '{}', deploy => 'always')");
fails($node, 'shop', "SELECT visage_score('large', 'x')", '53400', 'is larger than visage.model_cache', 'an image for which there is no room');
$node->safe_psql('shop', 'ALTER SYSTEM RESET visage.model_cache; SELECT pg_reload_conf()');
wait_for($node, 'shop', "SELECT visage_version() IS NOT NULL AND current_setting('visage.model_cache') = '1GB'", 'the setting');
is($node->safe_psql('shop', "SELECT visage_score('large', 'x') BETWEEN 0 AND 1"), 't', 'is scored when there is');

# a dropped model leaves no file; nor does a rolled-back drop take one for good
my $large = $node->safe_psql('shop', "SELECT replace(image_id::text, '-', '') FROM visage.model_images WHERE model = 'large'");
my $there_is = "SELECT count(*) FROM pg_ls_dir('base/pgsql_tmp') AS f WHERE f LIKE '%$large%'";
$node->safe_psql('shop', "BEGIN; SELECT visage_drop_model('large', keep_data => false); ROLLBACK");
is($node->safe_psql('shop', $there_is), '1', 'a drop that was rolled back');
$node->safe_psql('shop', "SELECT visage_drop_model('large', keep_data => false)");
is($node->safe_psql('shop', $there_is), '0', 'a drop takes the file along');

# nothing outlives a restart, whatever the end was
$node->stop('immediate');
$here->{quit}->();
$other->{quit}->();
append_to_file($node->data_dir . "/base/pgsql_tmp/$image.123", 'half of an image');
$node->start;
is($node->safe_psql('shop', $files), '0', 'no file is left after a restart');
is($node->safe_psql('shop', "SELECT visage_score('m\@1', 50::float8)"), $expected{1}, 'and the first session makes it again');

#
# Eight sessions score while versions come and go: always by a version that was
# committed, never by one that was rolled back, never with an error
#
my $rounds = $ENV{VISAGE_LONG} ? 1000 : 60;
$node->safe_psql(
	'shop', q{
	SELECT visage_drop_model('m', keep_data => false);
	CREATE FUNCTION train(model text, columns text, penalty float8) RETURNS void LANGUAGE sql AS $$
		SELECT visage_train(model, format('SELECT %s, y AS label FROM rows', columns), algorithm => 'logistic', split => '{}', params => jsonb_build_object('C', penalty))
	$$;
	CREATE TABLE fair AS SELECT n, CASE WHEN n > 2 THEN 'z, x' ELSE 'x' END AS columns, n / 100.0 AS penalty FROM generate_series(1, 4) AS n;
	SELECT train('fair', columns, penalty) FROM fair ORDER BY n;
	ALTER TABLE fair ADD score float8;
	UPDATE fair SET score = visage_score('fair@' || n, r) FROM rows AS r WHERE id = 50;
	CREATE FUNCTION is_fair(score float8) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM fair WHERE abs(fair.score - $1) < 1e-9)';
	CREATE TABLE stop (at timestamptz);
	CREATE PROCEDURE churn(rounds integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..rounds LOOP
			IF i % 10 = 1 THEN
				-- dropped and made anew, in one transaction
				PERFORM visage_drop_model(model, keep_data => false) FROM visage.models WHERE model = 'm';
				PERFORM train('m', columns, penalty) FROM fair ORDER BY (n + i) % 4;
				PERFORM visage_deploy('m', 1 + i % 4);
			ELSE
				BEGIN
					PERFORM train('m', CASE i % 3 WHEN 0 THEN 'x' WHEN 1 THEN 'x, z' ELSE 'z' END, 1 + i);
					PERFORM visage_deploy('m', 5);
					ASSERT NOT is_fair((SELECT visage_score('m', r) FROM rows AS r WHERE id = 50));
					RAISE EXCEPTION SQLSTATE 'UV001';
				EXCEPTION WHEN SQLSTATE 'UV001' THEN
				END;
				PERFORM visage_deploy('m', 1 + i * 7 % 4);
			END IF;
			COMMIT;
		END LOOP;
	END
	$$;
	CALL churn(1)});
my $loop = <<'SQL';
DO $do$
DECLARE
	first float8;
	second float8;
	row rows;
BEGIN
	SELECT * FROM rows WHERE id = 50 INTO row;
	WHILE NOT EXISTS (SELECT FROM stop) LOOP
		%s
		COMMIT;
	END LOOP;
END
$do$;
SELECT 'fair';
SQL
# A row has become the columns of the version that was planned with.  Where a
# version with other inputs is deployed between planning and execution, the
# planned one is used once more, and another form beside it means the new one;
# a transaction that keeps its snapshot is refused that.
my @ways = (
	q{SELECT visage_score('m', r), visage_score_json('m', to_jsonb(r)) FROM rows AS r WHERE id = 50 INTO first, second; ASSERT is_fair(first) AND is_fair(second), format('%s %s', first, second);},
	q{first := visage_score('m', row); ASSERT is_fair(first), first::text;},
	q{first := visage_score_json('m', '{"x": 50, "z": 30}'); ASSERT is_fair(first), first::text;},
	q{COMMIT; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; first := visage_score('m', row); second := first; BEGIN SELECT visage_score('m', r) FROM rows AS r WHERE id = 50 INTO second; EXCEPTION WHEN serialization_failure THEN END; ASSERT is_fair(first) AND first = second, format('%s %s', first, second);},
	q{EXECUTE 'SELECT visage_score(''m'', r) FROM rows AS r WHERE id = 50' INTO first; ASSERT is_fair(first), first::text;});
my @sessions = map { session($node, 'shop') } @ways;
$sessions[$_]->{begin}->(sprintf($loop, $ways[$_])) for 0 .. $#ways;
my $script = PostgreSQL::Test::Utils::tempdir() . '/score.sql';
append_to_file($script, "SELECT 1 / is_fair(visage_score('m', r))::int FROM rows AS r WHERE id = 50;\n");
my $errors = '';
my $bench  = IPC::Run::start([ 'pgbench', '-n', '-M', 'prepared', '-c', '3', '-T', '3600', '-f', $script, $node->connstr('shop') ], '>', \my $ignored, '2>', \$errors);
$node->safe_psql('shop', "CALL churn($rounds)");
ok($bench->pumpable, 'pgbench is running');
unlike($errors, qr/ERROR/, 'prepared statements of three clients have scored without an error');
$bench->kill_kill;
$node->safe_psql('shop', 'INSERT INTO stop VALUES (now())');
is($_->{end}->(), 'fair', 'a session has scored in a loop') for @sessions;
is($node->safe_psql('shop', 'SELECT is_fair(visage_score(\'m\', r)) FROM rows AS r WHERE id = 50'), 't', 'in the end');
# a statement that began before a drop may write the dropped image once more
cmp_ok($node->safe_psql('shop', $files), '<=', 8 + $rounds / 20, 'what was dropped or rolled back has left few files');

#
# kill -9 in the middle
#
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
$node->safe_psql('shop', 'TRUNCATE stop');
$sessions[0]->{begin}->(sprintf($loop, $ways[0]));
my $run = background($node, 'shop', $node->safe_psql('shop', 'SELECT current_user'), 'CALL churn(100000)');
wait_for($node, 'shop', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'CALL churn%' AND state = 'active'", 'the churn');
kill 'KILL', $node->safe_psql('shop', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL churn%'");
$run->{run}->finish;
wait_for($node, 'postgres', 'SELECT true', 'the server is back');
is($node->safe_psql('shop', "SELECT is_fair(visage_score('m', r)) FROM rows AS r WHERE id = 50"), 't', 'after kill -9 a committed version scores');
is($node->safe_psql('shop', "SELECT count(*) FROM pg_ls_dir('base/pgsql_tmp') AS f WHERE f LIKE '%.%'"), '0', 'and no half file is left');

done_testing();
