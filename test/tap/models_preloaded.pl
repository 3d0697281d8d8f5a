# models.pl with the library preloaded, so that sessions share where the rows
# are that tell what a name means; and what can happen to those places.  With a
# cluster's usual 1 MB of buffers the rows' pages would not stay in them.
use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $node = new_node('places', 'max_wal_senders = 5', 'autovacuum = off', 'shared_buffers = 32MB', "shared_preload_libraries = 'visage'");
$node->safe_psql('postgres', 'CREATE DATABASE shop');

# Two versions of model m that score otherwise.
sub make_models
{
	$node->safe_psql(
		'shop', q{
		CREATE EXTENSION visage;
		SELECT visage_train('m', 'SELECT x, y FROM rows', target => 'y', algorithm => 'logistic', params => jsonb_build_object('C', c), split => '{}') FROM (VALUES (1), (0.01)) AS v (c);
		SELECT visage_deploy('m', 1)});
	return map { $_ => $node->safe_psql('shop', "SELECT visage_score('m\@$_', 50::float8)") } (1, 2);
}

$node->safe_psql('shop', 'CREATE TABLE rows AS SELECT i::float8 AS x, i % 3 = 0 OR i > 80 AS y FROM generate_series(1, 100) AS i');
my %expected = make_models();
isnt($expected{1}, $expected{2}, 'two versions score otherwise');
my $score = "SELECT visage_score('m', 50::float8)";

sub deploy
{
	my ($version) = @_;
	$node->safe_psql('shop', "SELECT visage_deploy('m', $version)");
	return;
}

# Each of these is a session of its own, that has to find the model.
sub scores
{
	my ($version, $what, $where) = @_;
	is(($where // $node)->safe_psql('shop', $score), $expected{$version}, $what) for (1, 2);
	return;
}

#
# A session that finds the rows where another one has found them opens no table
#
my $reads = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_all_tables WHERE schemaname = 'visage' AND relname IN ('model_aliases', 'model_images')";

# A session tells of its searches when it ends, for which psql does not wait.
sub searches
{
	$node->poll_query_until('shop', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")
		or die 'sessions do not end';
	return $node->safe_psql('shop', $reads);
}

scores(1, 'a new session scores');
my $before = searches();
scores(1, 'and another one');
$node->safe_psql('shop', $score . ' FROM pg_sleep(0)') for (1 .. 20);
is(searches(), $before, 'without a search');

#
# Snapshots
#
deploy(2);
scores(2, 'a deploy is seen by new sessions');
my $reader = session($node, 'shop');
$reader->{ask}->('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM rows');
deploy(1);
scores(1, 'the next deploy is, too');
is($reader->{ask}->($score), $expected{2}, 'a session that asks first under an older snapshot finds what that sees');
scores(1, 'and leads nobody astray');
$reader->{ask}->('COMMIT');
is($reader->{ask}->($score), $expected{1}, 'nor itself, later');
$reader->{quit}->();

my $writer = session($node, 'shop');
is($writer->{ask}->("BEGIN; SELECT visage_deploy('m', 2); $score"), "\n$expected{2}", 'who deploys sees it at once');
scores(1, 'others do not');
is($writer->{ask}->("ROLLBACK; $score"), $expected{1}, 'nor does anybody after a rollback');
scores(1, 'as new sessions show');
$writer->{quit}->();
$reader = session($node, 'shop');
is($reader->{ask}->("BEGIN ISOLATION LEVEL SERIALIZABLE; $score"), $expected{1}, 'a serializable transaction scores');
is($reader->{ask}->("SELECT count(*) > 0 FROM pg_locks WHERE mode = 'SIReadLock' AND relation = 'visage.model_aliases'::regclass"), 't', 'and leaves the mark that it has read');
$reader->{ask}->('COMMIT');
$reader->{quit}->();

#
# Rows that are elsewhere, or nowhere
#
$node->safe_psql('shop', 'VACUUM FULL visage.model_aliases; VACUUM FULL visage.model_images');
scores(1, 'after VACUUM FULL');
deploy(2);
scores(2, 'and a deploy');
$node->safe_psql('shop', 'VACUUM visage.model_aliases');
scores(2, 'after VACUUM');
deploy(1);
scores(1, 'and a deploy where a row was before');
for my $catalog ('ALTER TABLE visage.model_aliases SET (fillfactor = 90); ALTER TABLE visage.model_images SET (fillfactor = 90)', 'VACUUM FULL pg_class')
{
	$node->safe_psql('shop', $catalog);
	scores(1, "after $catalog");
	$before = searches();
	scores(1, 'and again');
	is(searches(), $before, 'without a search');
}
$node->safe_psql('shop', 'CREATE TABLE kept AS TABLE visage.model_aliases; TRUNCATE visage.model_aliases');
fails($node, 'shop', $score, '42704', 'model "m" has no alias "champion"', 'after TRUNCATE');
$node->safe_psql('shop', 'INSERT INTO visage.model_aliases TABLE kept');
scores(1, 'when the rows are back');
$node->safe_psql('shop', 'DROP EXTENSION visage CASCADE; DROP SCHEMA IF EXISTS visage_models CASCADE');
$node->safe_psql('shop', 'UPDATE rows SET y = NOT y');
my %former = %expected;
%expected = make_models();
isnt($expected{1}, $former{1}, 'another extension, another model of that name');
scores(1, 'which is the one that scores');

#
# So many models that some of them have the same place to share
#
$node->safe_psql(
	'shop', q{
	INSERT INTO visage.model_cards (model, version, algorithm, format, params, inputs, outputs)
		SELECT 'm' || i, version, algorithm, format, params, inputs, outputs FROM visage.model_cards, generate_series(1, 600) AS i WHERE model = 'm' AND version = i % 2 + 1;
	INSERT INTO visage.model_images SELECT 'm' || i, version, image, checksum, gen_random_uuid() FROM visage.model_images, generate_series(1, 600) AS i WHERE model = 'm' AND version = i % 2 + 1;
	INSERT INTO visage.model_aliases SELECT model, 'champion', version, now(), session_user FROM visage.model_images WHERE model <> 'm'});
is($node->safe_psql('shop', "SELECT count(*) FROM generate_series(1, 600) AS i WHERE visage_score('m' || i, 50::float8) = CASE i % 2 WHEN 0 THEN $expected{1} ELSE $expected{2} END"),
	'600', 'each of many models is found') for (1 .. 3);

#
# A standby
#
$node->backup('places');
my $standby = PostgreSQL::Test::Cluster->new('places_standby');
$standby->init_from_backup($node, 'places', has_streaming => 1);
$standby->start;
for my $version (1, 2, 1)
{
	deploy($version);
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	scores($version, "new sessions of a standby see version $version", $standby);
}
$standby->promote;
$standby->safe_psql('shop', "SELECT visage_deploy('m', 2)");
scores(2, 'and those of a promoted one its own deploys', $standby);
$standby->stop;
$node->stop;

#
# All that holds without
#
local $ENV{VISAGE_PRELOADED} = 1;
my $rest = dirname(__FILE__) . '/models.pl';
do $rest or die "$rest: $@ $!";
