# Names: one whose look-up never ends (the session can be cancelled, and ends
# with the server), and names that lead to addresses inside the network.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use VisageTest;

my $library = PostgreSQL::Test::Utils::tempdir() . '/resolver.so';
command_ok([ 'gcc', '-shared', '-fPIC', '-o', $library, "$ENV{VISAGE_SOURCE}/test/tap/resolver.c", '-ldl' ], 'the resolver compiles');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "visage.allowed_hosts = 'www.blackhole.example'\n");
{
	local $ENV{LD_PRELOAD} = $library;
	$node->start;
}
set_up($node, 'city');
declare($node, 'city', 'http://www.blackhole.example');

my $ingest  = "CALL visage_ingest('sf.businesses')";
my $waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active' AND wait_event_type = 'Extension'";

# one is cancelled, one is terminated: what it does to the session, and how soon
for my $how (qw(cancel terminate))
{
	my $run = background($node, 'city', 'sf_engineer', $ingest);
	wait_for($node, 'city', $waiting, 'the run waits for a name');
	is($node->safe_psql('city', "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active'"),
		't', 'nothing is held while a name is looked up');
	my $start = time;
	$node->safe_psql('city', "SELECT pg_${how}_backend(pid) FROM visage.progress");
	$run->{run}->finish;
	cmp_ok(time - $start, '<', 1, "$how takes effect within a second");
	like(${ $run->{errors} }, $how eq 'cancel' ? qr/canceling statement due to user request/ : qr/terminating connection/, "and the session says so");
	wait_for($node, 'city', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CALL visage\\_ingest%' AND state = 'active')", 'the session is done');
}

# a storm of the signal that the server's processes wake each other with
{
	my $run = background($node, 'city', 'sf_engineer', $ingest);
	wait_for($node, 'city', $waiting, 'the run waits for a name');
	my $pid  = $node->safe_psql('city', 'SELECT pid FROM visage.progress');
	my $sent = 0;
	for (1 .. 20000)
	{
		$sent += kill 'USR1', $pid;
	}
	is($sent, 20000, 'the session outlives SIGUSR1, 20,000 times');
	is($node->safe_psql('city', $waiting), 't', 'and waits still');
	my $start = time;
	kill 'USR1', $pid for 1 .. 1000;
	$node->safe_psql('city', "SELECT pg_cancel_backend($pid)");
	kill 'USR1', $pid for 1 .. 1000;
	$run->{run}->finish;
	cmp_ok(time - $start, '<', 1, 'a cancel among them takes effect within a second');
	like(${ $run->{errors} }, qr/canceling statement due to user request/, 'and the session says so');
}

# the same on the way to a database
$node->safe_psql('city', "SET ROLE visage_engineer; SELECT visage_create_source('db', 'postgres', '{\"host\": \"www.blackhole.example\", \"dbname\": \"a\", \"user\": \"b\"}');
	SELECT visage_create_stream('db', 'orders', primary_key => '{id}')");
{
	my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('db.orders')");
	wait_for($node, 'city', $waiting, 'the run waits for a name');
	my $start = time;
	$node->safe_psql('city', 'SELECT pg_cancel_backend(pid) FROM visage.progress');
	$run->{run}->finish;
	cmp_ok(time - $start, '<', 1, 'of a database: cancel takes effect within a second');
	like(${ $run->{errors} }, qr/canceling statement due to user request/, 'and the session says so');
	my (undef, undef, $late) = $node->psql('city', "SET visage.connect_timeout = '300ms'; SET visage.max_retries = 0; CALL visage_ingest('db.orders')");
	like($late, qr/the look-up of the host's name took longer than visage.connect_timeout/, 'a look-up that takes too long is an ERROR');
}

# A name is allowed, and what it leads to is not: whatever the name server says
# in the moment of the connection, which is what is looked at.
my @inside = qw(127.0.0.2 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 192.0.0.1 198.18.0.1 224.0.0.1 255.255.255.255
	--1 -- fe80--1 fc00--1 fd12--1 ff02--1 --ffff-10.1.2.3 --10.1.2.3 64-ff9b--10.1.2.3 2002-a01-203--1);
$node->append_conf('postgresql.conf', "visage.allowed_hosts = 'www.blackhole.example, " . join(', ', map { "a${_}z.address.example" } @inside) . "'\n");
$node->reload;
wait_for($node, 'city', "SELECT current_setting('visage.allowed_hosts') LIKE '%address.example'", 'the setting');
for my $name (@inside)
{
	my $address = $name =~ tr/-/:/r;
	$node->safe_psql('city', "SET ROLE visage_engineer; SELECT visage_alter_source('sf', '{\"options\": {\"base_url\": \"http://a${name}z.address.example\"}}'); SELECT visage_alter_source('db', '{\"options\": {\"host\": \"a${name}z.address.example\"}}')");
	fails($node, 'city', $ingest, '42501', 'leads to the private address', "$address is not called");
	fails($node, 'city', "CALL visage_ingest('db.orders')", '42501', 'private', "nor as a database");
}
$node->safe_psql('city', "SET ROLE visage_engineer; SELECT visage_alter_source('sf', '{\"options\": {\"base_url\": \"http://www.blackhole.example\"}}')");

# the time allowed for a connection counts it, too
my $start = time;
my (undef, undef, $errors) = $node->psql('city', "SET visage.connect_timeout = '300ms'; SET visage.max_retries = 0; $ingest");
like($errors, qr/page 1 of stream "sf\.businesses".*www\.blackhole\.example/s, 'a look-up that takes too long is an ERROR');
cmp_ok(time - $start, '<', 5, 'in time');

my $run = background($node, 'city', 'sf_engineer', $ingest);
wait_for($node, 'city', $waiting, 'the run waits for a name');
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 10, 'the server stops');
$run->{run}->finish;

done_testing();
