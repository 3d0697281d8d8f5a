# Two merges at once take turns; users' statements, too; a crash in the middle
# of a merge leaves the old state.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $node = new_node('main', 'restart_after_crash = on');
set_up($node, 'city');
$node->safe_psql(
	'city', q{
	CREATE TABLE source (id int, v text, at timestamptz);
	INSERT INTO source SELECT i, 'a', '2024-01-01' FROM generate_series(1, 2000) AS i;
	SELECT visage_create_history('history.h', 'source', '{id}', '{at}', hard_deletes => 'invalidate');
	SELECT visage_merge('history.h', complete => true)});

my $waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%history.h%'";
my $whole = q{SELECT count(*), count(*) FILTER (WHERE valid_to = 'infinity'), max(valid_from) AT TIME ZONE 'UTC' FROM history.h};

# A session that stays in its transaction until told.
sub session
{
	my ($statement) = @_;
	my ($in, $out) = ('', '');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('city'), '-U', 'postgres' ], '<', \$in, '>', \$out, '2>', \my $errors);
	$in = "BEGIN; $statement; SELECT 'done';\n";
	$run->pump until $out =~ /done/ || ($errors // '') =~ /ERROR/;
	return { run => $run, in => \$in, errors => \$errors };
}

sub finish
{
	my ($session, $statement) = @_;
	${ $session->{in} } = "$statement;\n\\q\n";
	$session->{run}->finish;
	return;
}

# Two merges of overlapping batches at once.
my $batch = sub { my ($v, $at) = @_; "SELECT visage_merge('history.h', \$\$SELECT i AS id, '$v' AS v, timestamptz '$at' AS at FROM generate_series(1, 1000) AS i\$\$)" };
my $first = session($batch->('b', '2024-01-03'));
my $second = background($node, 'city', 'postgres', $batch->('c', '2024-01-02'));
wait_for($node, 'city', $waits, 'the second merge waits for the first');
is($node->safe_psql('city', 'SELECT count(*) FROM history.h__as_of()'), '2000', 'readers do not wait');
finish($first, 'COMMIT');
$second->{run}->finish;
is(${ $second->{errors} } =~ /ERROR/ ? ${ $second->{errors} } : '', '', 'the second merge succeeds');
is($node->safe_psql('city', "$whole"), '4000|2000|2024-01-03 00:00:00', 'each key has its three versions, the late ones between');
is( $node->safe_psql('city', 'SELECT count(*) FROM history.h AS a JOIN history.h AS b ON a.id = b.id AND a.valid_from < b.valid_from AND a.valid_to > b.valid_from'),
	'0', 'no versions overlap');
is($node->safe_psql('city', 'SELECT count(*) FROM history.h__superseded WHERE superseded_at <= recorded_at'), '0', 'what was replaced had been believed before');

# A merge in REPEATABLE READ sees what was committed while it waited.
$first  = session($batch->('d', '2024-01-04'));
$second = background($node, 'city', 'postgres', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; ' . $batch->('e', '2024-01-05') . '; COMMIT');
wait_for($node, 'city', $waits, 'the merge in REPEATABLE READ waits');
finish($first, 'COMMIT');
$second->{run}->finish;
is($node->safe_psql('city', "SELECT string_agg(v, '' ORDER BY valid_from) FROM history.h WHERE id = 7"), 'acbde', 'a merge in REPEATABLE READ');

# Users' statements that would overlap only together.
$first  = session(q{INSERT INTO history.h (id, v, valid_from, valid_to) VALUES (1, 'x', '2020-01-01', '2021-01-01')});
$second = background($node, 'city', 'postgres', q{INSERT INTO history.h (id, v, valid_from, valid_to) VALUES (1, 'y', '2020-06-01', '2022-01-01')});
wait_for($node, 'city', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 'the second statement waits');
finish($first, 'COMMIT');
$second->{run}->finish;
like(${ $second->{errors} }, qr/versions of a key in "history\.h" overlap/, 'the second statement is refused');
my $third = background($node, 'city', 'postgres',
	q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; INSERT INTO history.h (id, v, valid_from, valid_to) VALUES (1, 'y', '2020-06-01', '2022-01-01')});
$third->{run}->finish;
like(${ $third->{errors} }, qr/overlap/, 'also where its snapshot is older');
$node->safe_psql('city', q{DELETE FROM history.h WHERE valid_from < '2024-01-01'});

# A crash in the middle of a merge: the server is killed while the merge is
# held by a trigger of the user's, after it has written.
my $before = $node->safe_psql('city', "$whole; SELECT count(*) FROM history.h__superseded; SELECT count(*) FROM history.h__observed");
$node->safe_psql(
	'city', q{
	CREATE TABLE gate (); CREATE TABLE passed (n bigint);
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.id = 1500 THEN LOCK TABLE public.gate IN ACCESS EXCLUSIVE MODE; END IF; RETURN NEW; END $$;
	CREATE TRIGGER hold BEFORE INSERT ON history.h FOR EACH ROW EXECUTE FUNCTION hold();
	CREATE INDEX ON source (id)});
my $gate = session('LOCK TABLE gate IN ACCESS EXCLUSIVE MODE');
my $merge = background($node, 'city', 'postgres', q{SELECT visage_merge('history.h', $$SELECT i AS id, 'z' AS v, timestamptz '2024-02-01' AS at FROM generate_series(1, 2000) AS i$$, true)});
wait_for($node, 'city', $waits, 'the merge is in the middle, held by a row trigger');
$node->stop('immediate');
$merge->{run}->finish;
eval { finish($gate, 'ROLLBACK') };
$node->start;
is($node->safe_psql('city', "$whole; SELECT count(*) FROM history.h__superseded; SELECT count(*) FROM history.h__observed"), $before, 'after a crash the old state is there');
$node->safe_psql('city', 'DROP TRIGGER hold ON history.h');
is( $node->safe_psql(
		'city', q{SELECT versioned FROM visage_merge('history.h', $$SELECT i AS id, 'z' AS v, timestamptz '2024-02-01' AS at FROM generate_series(1, 2000) AS i$$, true)}),
	'2000', 'and the merge can be done again');

$node->stop;
done_testing();
