# Workers that run a stream over and over: they come back after a restart, a
# crash and an end that somebody made them; they keep still while paused, while
# visage.enabled is off and before the database is adopted; they wait longer
# after failures; an hour is a row of visage.runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $node = new_node('main', "shared_preload_libraries = 'visage'", "visage.allowed_hosts = '127.0.0.1'", 'visage.stream_pause = 1',
	'visage.launcher_pause = 5', 'restart_after_crash = on', 'visage.retry_delay = 1ms');
my $url = start_double();
set_up($node, 'city');
declare($node, 'city', $url);

my $state = "SELECT coalesce((SELECT state FROM visage.workers), 'none')";
my $pid   = 'SELECT pid FROM visage.workers WHERE pid IS NOT NULL';

# The worker crawls: it has asked for more than until now.
sub crawls
{
	my ($what) = @_;
	control(fault => undef);
	for (1 .. 6000)
	{
		last if requests() > 0;
		select(undef, undef, undef, 0.01);
	}
	cmp_ok(scalar(requests()), '>', 0, $what);
	return;
}

sub as_engineer
{
	return $node->safe_psql('city', "SET ROLE sf_engineer; $_[0]");
}

is($node->safe_psql('city', $state), 'none', 'there is no worker');
as_engineer("SELECT visage_start('sf.businesses')");
wait_for($node, 'city', "SELECT count(*) = 3010 FROM staging.sf__businesses", 'the worker has read the stream');
wait_for($node, 'city', "SELECT state = 'waiting' FROM visage.workers", 'the worker waits');
is($node->safe_psql('city', 'SELECT kind, name, role, failures FROM visage.workers'), 'stream|sf.businesses|sf_engineer|0', 'visage.workers tells of it');
fails($node, 'city', "CALL visage_ingest('sf.businesses')", '55006', 'is being ingested', 'one run at a time');

# An end that somebody made.
my $first = $node->safe_psql('city', $pid);
$node->safe_psql('city', "SELECT pg_terminate_backend($first)");
wait_for($node, 'city', "SELECT pid IS NOT NULL AND pid <> $first FROM visage.workers", 'another worker is there');
crawls('after pg_terminate_backend it is back');

# A crash.
my $second = $node->safe_psql('city', $pid);
kill 'KILL', $second;
wait_for($node, 'city', "SELECT pid IS NOT NULL AND pid <> $second FROM visage.workers", 'another worker is there');
crawls('after kill -9 it is back');

# A restart, and an immediate stop.
for my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	wait_for($node, 'city', 'SELECT pid IS NOT NULL FROM visage.workers', 'the worker is there');
	crawls("after a stop of mode $mode it is back");
}

# Paused.
for my $noun (qw(stream source))
{
	my $name = $noun eq 'stream' ? 'sf.businesses' : 'sf';
	as_engineer("SELECT visage_pause('$noun', '$name')");
	wait_for($node, 'city', "SELECT state = 'waiting' FROM visage.workers", 'the worker waits');
	my $next = $node->safe_psql('city', 'SELECT next_at FROM visage.workers');
	control(fault => undef);
	wait_for($node, 'city', "SELECT next_at > '$next'::timestamptz + interval '1 second' AND failures = 0 FROM visage.workers", 'its turn has come and gone');
	is(scalar(requests()), 0, "a paused $noun is not crawled, and that is no failure");
	as_engineer("SELECT visage_resume('$noun', '$name')");
	crawls("a resumed $noun is");
}

# Switched off.
$node->append_conf('postgresql.conf', 'visage.enabled = off');
$node->restart;
wait_for($node, 'city', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'visage launcher'", 'the launcher is there');
is($node->safe_psql('city', $state), 'down', 'with visage.enabled off no worker is started');
$node->append_conf('postgresql.conf', 'visage.enabled = on');
$node->reload;
crawls('with visage.enabled on it is, without anybody starting it');

# A copy does not start what its model runs.
as_engineer("SELECT visage_stop('sf.businesses')");
wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'visage stream')", 'the worker is gone');
$node->safe_psql('postgres', 'ALTER DATABASE city SET visage.enabled = off');
$node->safe_psql('city', "INSERT INTO visage.stream_workers (stream, role) VALUES ('sf.businesses', 'sf_engineer')");
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE city');
$node->safe_psql('city', "DELETE FROM visage.stream_workers");
$node->safe_psql('postgres', 'ALTER DATABASE city RESET visage.enabled');
is($node->safe_psql('copy', $state), 'down', 'a copy starts nothing');
$node->safe_psql('copy', 'SELECT visage_adopt()');
wait_for($node, 'copy', 'SELECT pid IS NOT NULL FROM visage.workers', 'a worker in the copy');
crawls('until it is adopted');

# A dropped database: no worker, and no end of attempts to start one.
$node->safe_psql('postgres', 'DROP DATABASE copy WITH (FORCE)');
wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'visage stream')", 'its worker is gone');

# Failures: a longer wait after each.
control(fault => { kind => '404', times => 1000 });
as_engineer("SELECT visage_start('sf.businesses')");
wait_for($node, 'city', 'SELECT failures >= 3 FROM visage.workers', 'three failures');
cmp_ok($node->safe_psql('city', 'SELECT extract(epoch FROM next_at - now()) FROM visage.workers'), '>', 2, 'the wait has grown');
is($node->safe_psql('city', "SELECT state FROM visage.runs ORDER BY run_id DESC LIMIT 1"), 'failed', 'a crawl that fails is the last of its run');
control(fault => undef);
wait_for($node, 'city', 'SELECT failures = 0 FROM visage.workers', 'a crawl succeeds');

# An hour that is over is closed, and the next crawl has a row of its own.
my $run = $node->safe_psql('city', "UPDATE visage.run_log SET started_at = started_at - interval '1 hour' WHERE state = 'running' AND pid = (SELECT pid FROM visage.workers) RETURNING run_id");
wait_for($node, 'city', "SELECT state <> 'running' AND finished_at IS NOT NULL FROM visage.runs WHERE run_id = $run", 'the hour is closed');
wait_for($node, 'city', "SELECT count(*) = 1 FROM visage.runs WHERE state = 'running' AND run_id > $run", 'and another is begun');

as_engineer("SELECT visage_stop('sf.businesses')");
wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'visage stream')", 'the worker is gone');
is($node->safe_psql('city', $state), 'none', 'after visage_stop there is none');
is($node->safe_psql('city', "SELECT count(*) FROM visage.runs WHERE state = 'running'"), '0', 'and no run is open');
unlike(slurp_file($node->logfile), qr/FATAL:  database .* does not exist/, 'nobody looked for a database that is gone');

# An end that nobody tells the launcher of, since it waits for the process that
# looks into another database: it looks again soon, not after its long pause.
my $patient = new_node('patient', "shared_preload_libraries = 'visage'", "visage.allowed_hosts = '127.0.0.1'", "visage.launcher_pause = '1h'", 'visage.stream_pause = 60', 'log_min_messages = debug1');
$patient->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
$patient->safe_psql($_, 'CREATE EXTENSION visage; SELECT visage_adopt()') for qw(one two);
# in the order in which the launcher comes to them
my ($near, $far) = split /\n/, $patient->safe_psql('postgres', "SELECT datname FROM pg_database WHERE datname IN ('one', 'two') ORDER BY ctid");
$patient->safe_psql($near, 'SELECT visage_create_roles(); CREATE ROLE sf_engineer LOGIN; GRANT visage_engineer TO sf_engineer');
declare($patient, $near, $url);
$patient->safe_psql($near, "SET ROLE sf_engineer; SELECT visage_start('sf.businesses')");

# Ends the worker, once it has nothing to do, and gives its PID.
sub end_worker
{
	wait_for($patient, $near, "SELECT state = 'waiting' AND pid IS NOT NULL FROM visage.workers", 'the worker waits for its turn');
	my $worker = $patient->safe_psql($near, $pid);
	$patient->safe_psql($near, "SELECT pg_terminate_backend($worker)");
	wait_for($patient, $near, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)", 'the worker is gone');
	return $worker;
}

# Waits until the launcher has had nothing to do for longer than it waits
# between two rounds: that a worker begins wakes it, too.
sub wait_for_calm
{
	my ($rounds, $calm) = (-1, 0);
	while ($calm < 60)
	{
		my $now = () = slurp_file($patient->logfile) =~ /starting background worker process "visage resume/g;
		$calm = $now == $rounds ? $calm + 1 : 0;
		$rounds = $now;
		select(undef, undef, undef, 0.1);
	}
	cmp_ok($rounds, '>', 0, 'the launcher has been here');
	return;
}

wait_for($patient, $near, "SELECT state = 'waiting' FROM visage.workers", 'a worker');
wait_for_calm();
my $door = session($patient, $far);
$door->{ask}->('BEGIN; LOCK TABLE visage.stream_workers');
my $gone = end_worker();
wait_for($patient, $near, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'visage resume' AND datname = '$far' AND wait_event_type = 'Lock'", 'the launcher waits in the other database');
my $again = end_worker();
isnt($again, $gone, 'an end brings the launcher, and the worker back');
is($patient->safe_psql($near, $state), 'down', 'while the launcher waits for another database it hears of no end');
$door->{ask}->('COMMIT');
wait_for($patient, $near, "SELECT pid <> $again FROM visage.workers", 'the worker is back');
pass('and looks once more when it is through');
$door->{quit}->();

done_testing();
