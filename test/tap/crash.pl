# Ingestion is killed in the middle, the server too, and goes on: each record
# arrives once.  A standby scores what the primary has deployed.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $node = new_node('main', "shared_preload_libraries = 'visage'", "visage.allowed_hosts = '127.0.0.1'", 'max_wal_senders = 5', 'restart_after_crash = on');
my $url  = start_double();
set_up($node, 'city');
declare($node, 'city', $url);

my $ingest  = "CALL visage_ingest('sf.businesses')";
my $waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active' AND wait_event_type = 'Extension'";
my $once    = 'SELECT count(*), count(DISTINCT uniqueid) FROM history.sf__businesses WHERE valid_to = \'infinity\'';

# The run is in its n-th request, which hangs.
sub run_until
{
	my ($page) = @_;
	control(fault => { kind => 'hang', after => $page - 1, times => 1 });
	my $run = background($node, 'city', 'sf_engineer', $ingest);
	for (1 .. 3000)
	{
		last if requests() >= $page;
		select(undef, undef, undef, 0.01);
	}
	wait_for($node, 'city', $waiting, 'the run waits');
	return $run;
}

my $run = run_until(4);
is($node->safe_psql('city', "SELECT to_regclass('history.sf__businesses') IS NULL"), 't', 'a history is merged when a crawl has ended');
is($node->safe_psql('city', 'SELECT count(*) FROM landing.sf__businesses'), '600', 'three pages are committed');
my $pid = $node->safe_psql('city', "SELECT pid FROM visage.progress");
kill 'KILL', $pid;
$run->{run}->finish;
wait_for($node, 'postgres', 'SELECT true', 'the server is back');

$run = run_until(5);
is($node->safe_psql('city', 'SELECT count(*) FROM landing.sf__businesses'), '1400', 'after kill -9 the next run went on');
$node->stop('immediate');
$run->{run}->finish;
$node->start;

$run = run_until(2);
$node->safe_psql('city', 'SELECT pg_terminate_backend(pid) FROM visage.progress');
$run->{run}->finish;
wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%')", 'the session has ended');

control(fault => undef);
$node->safe_psql('city', $ingest);
is($node->safe_psql('city', $once), '3010|3010', 'in the end each record is there once');
is($node->safe_psql('city', 'SELECT count(*) FROM landing.sf__businesses'), '3010', 'and was landed once');
is($node->safe_psql('city', "SELECT string_agg(state, ' ' ORDER BY run_id) FROM visage.runs"), 'failed failed failed success', 'the log of runs tells what happened');

# A standby: it scores, sees a deploy, and does not ingest, not when promoted either.
$node->safe_psql('city', "CREATE TABLE t AS SELECT i::float8 AS x, i % 3 = 0 OR i > 80 AS y FROM generate_series(1, 100) AS i");
my $train = "SELECT visage_train('m', 'SELECT x, y AS label FROM t', algorithm => 'logistic', params => '{\"C\": %s}', deploy => 'always')";
$node->safe_psql('city', sprintf($train, '1'));
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

my $score = "SELECT visage_score('m', 50::float8)";
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('city', $score), $node->safe_psql('city', $score), 'a standby scores as the primary does');

# one session of the standby, before and after the deploy on the primary
my $old = $node->safe_psql('city', $score);
my ($stdin, $stdout) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $standby->connstr('city') ], '<', \$stdin, '>', \$stdout);
$stdin .= "$score;\n";
$session->pump until $stdout =~ /\n/;
is($stdout, "$old\n", 'the session on the standby has scored');
$node->safe_psql('city', sprintf($train, '0.0001'));
my $new = $node->safe_psql('city', $score);
isnt($new, $old, 'the new version scores otherwise');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$stdout = '';
$stdin .= "$score;\n";
$session->pump until $stdout =~ /\n/;
is($stdout, "$new\n", 'the session on the standby sees the deploy');
$stdin .= "\\q\n";
$session->finish;

my $asked = requests();
my (undef, undef, $errors) = $standby->psql('city', $ingest);
like($errors, qr/ERROR/, 'a standby does not ingest');
$standby->promote;
fails($standby, 'city', $ingest, '55000', 'adopt', 'a promoted copy does not until it is adopted');
is(scalar(requests()), $asked, 'and neither asked anybody');
$standby->safe_psql('city', 'SELECT visage_adopt()');
$standby->safe_psql('city', $ingest);

# Nothing of ours is left behind by all this.
is($node->safe_psql('city', "SELECT count(*) FROM visage.runs WHERE state = 'running'"), '0', 'no run is left open');

done_testing();
