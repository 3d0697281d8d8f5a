# What the sessions of a server know of a host together: its budget of requests
# and its breaker, which lets one request try when its pause is over.
use strict;
use warnings;

use IO::Socket::INET;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $url = start_double();
my ($host) = $url =~ m{//(.*)};
my @settings = ("visage.allowed_hosts = '127.0.0.1'", 'visage.retry_delay = 1ms', 'visage.max_retries = 2', 'visage.breaker_failures = 3', "visage.breaker_pause = '500ms'");
my $node = new_node('shared', "shared_preload_libraries = 'visage'", @settings);
my $lone = new_node('lone',   @settings);

my $manifest = '{"version": 1, "path": "/resource/{resource}.json", "page_size": 100, "rate": {"requests": 30, "per": "1 second"},
	"params": {"$limit": "{page_size}", "$offset": "{offset}", "$order": ":id"}, "paginator": {"type": "offset"}}';
for my $server ($node, $lone)
{
	set_up($server, 'city');
	$server->safe_psql('city', "SELECT visage_create_connector('pages', '$manifest'); SET ROLE visage_engineer; SELECT visage_create_source('sf', 'pages', '{\"base_url\": \"$url\"}')");
	$server->safe_psql('city', "SET ROLE visage_engineer; SELECT visage_create_stream('sf', '$_', 'g8m3-pdis', primary_key => '{uniqueid}', write_disposition => 'replace')") for qw(a b c);
}

my $breaker = "SELECT state, failures, requests_under_way, scope FROM visage.breakers WHERE host = '$host'";

my $trying  = "SELECT (state, failures, requests_under_way, scope) = ('half_open', 3, 1, 'server') FROM visage.breakers WHERE host = '$host'";

# A session with an engineer's rights on the server.
sub engineer { return session($_[0], 'city', 'sf_engineer') }

# When each request came.
sub arrivals
{
	return sort { $a <=> $b } map { $_->{at} } requests();
}

# The most of them in any second.
sub busiest
{
	my @at = @_;
	my $most = 0;
	for my $from (@at)
	{
		$most = max($most, scalar(grep { $_ >= $from && $_ < $from + 1 } @at));
	}
	return $most;
}

# ---- the budget ----

for ([ $node, 30, 'all sessions of a server with visage in shared_preload_libraries keep the budget together' ],
	[ $lone, 90, 'without, each session keeps it for itself' ])
{
	my ($server, $most, $name) = @{$_};
	control(fault => undef);
	my @runs = map { background($server, 'city', 'sf_engineer', "CALL visage_ingest('sf.$_')") } qw(a b c);
	$_->{run}->finish for @runs;
	is(join('', map { ${ $_->{errors} } } @runs), '', 'three sessions have read their streams');
	my @at = arrivals();
	is(scalar(@at), 96, 'page by page, and one behind each last');
	# what is sent evenly may come a little unevenly
	cmp_ok(busiest(@at), '<=', $most + 2, $name);
	diag(sprintf '%d requests, at most %d a second, in %.1f s', scalar(@at), busiest(@at), $at[-1] - $at[0]);
}

# ---- the breaker ----

my ($a, $b, $c) = map { engineer($node) } 1 .. 3;
control(fault => { kind => '503' });
like($a->{ask}->("CALL visage_ingest('sf.a')"), qr/status 503/, 'a host that fails');
is($b->{ask}->($breaker), 'open|3|0|server', 'opens its breaker for all sessions');

# one tries, the others wait for what it finds
control(latency => 1, fault => undef);
$b->{begin}->("CALL visage_ingest('sf.b')");
$c->{begin}->("CALL visage_ingest('sf.c')");
wait_for($node, 'city', $trying, 'one request tries');
is(scalar(requests()), 1, 'when its pause is over one request tries');
my $retry_at = $node->safe_psql('city', "SELECT extract(epoch FROM retry_at) FROM visage.breakers WHERE host = '$host'");
cmp_ok((arrivals())[0], '>', $retry_at - 0.02, 'not before');
wait_for($node, 'city', "SELECT state = 'closed' FROM visage.breakers WHERE host = '$host'", 'its success closes the breaker');
control(latency => 0);
is($_->{end}->(), '', 'its success lets the others through') for $b, $c;
my @at = arrivals();
cmp_ok($at[1] - $at[0], '>', 0.95, 'which have waited for it');
is($a->{ask}->($breaker), 'closed|0|0|server', 'the breaker is closed');

# a failure opens it again, for twice as long
control(fault => { kind => '503' });
like($a->{ask}->("CALL visage_ingest('sf.a')"), qr/status 503/, 'it fails again');
my $pause = "SELECT round(extract(epoch FROM retry_at - opened_at), 3) FROM visage.breakers WHERE host = '$host'";
is($b->{ask}->($pause), '0.500', 'the breaker is open for visage.breaker_pause');
control(latency => 1, fault => { kind => '503' });
$b->{begin}->("SET visage.max_retries = 0; CALL visage_ingest('sf.b')");
wait_for($node, 'city', "SELECT state = 'half_open' FROM visage.breakers WHERE host = '$host'", 'one request tries');
$c->{begin}->("CALL visage_ingest('sf.c')");
like($b->{end}->(), qr/status 503/, 'the request that tries fails');
is($node->safe_psql('city', "SELECT state, round(extract(epoch FROM retry_at - opened_at), 3) FROM visage.breakers WHERE host = '$host'"), 'open|1.000', 'and opens it for twice as long');
is(scalar(requests()), 1, 'the other session has asked for nothing');
control(latency => 0, fault => undef);
is($c->{end}->(), '', 'but when its turn comes');
is($a->{ask}->($breaker), 'closed|0|0|server', 'with success');
$_->{quit}->() for $a, $b, $c;

# a session that is killed while it tries leaves the try to another one
control(fault => { kind => '503' });
$a = engineer($node);
like($a->{ask}->("CALL visage_ingest('sf.a')"), qr/status 503/, 'it fails once more');
control(fault => { kind => 'hang', times => 1 });
$b = background($node, 'city', 'sf_engineer', "CALL visage_ingest('sf.b')");
wait_for($node, 'city', $trying, 'one request tries');
$node->safe_psql('city', "SELECT pg_terminate_backend(pid) FROM visage.progress WHERE name = 'sf.b'");
$b->{run}->finish;
is($a->{ask}->("CALL visage_ingest('sf.a')"), '', 'after the end of the session that tried another one tries');
is($a->{ask}->($breaker), 'closed|0|0|server', 'and closes it');
$a->{quit}->();

# ---- the breaker of a database ----

my $source = new_node('source', "listen_addresses = '127.0.0.1'");
my $port   = $source->port;
$source->safe_psql('postgres', 'CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 100) AS i; CREATE TABLE items AS TABLE orders');
$source->stop;
$node->safe_psql('city', "SELECT visage_create_source('shop', 'postgres', '{\"host\": \"127.0.0.1\", \"port\": $port, \"dbname\": \"postgres\", \"user\": \"$ENV{USER}\", \"sslmode\": \"disable\"}')");
$node->safe_psql('city', "SELECT visage_create_stream('shop', '$_', primary_key => '{id}')") for qw(orders items);
my $database = "SELECT state, failures, requests_under_way, scope FROM visage.breakers WHERE host = '127.0.0.1:$port'";

($a, $b, $c) = map { session($node, 'city') } 1 .. 3;
like($a->{ask}->("CALL visage_ingest('shop.orders')"), qr/cannot be connected to, after 3 attempts/, 'a database that is down');
is($b->{ask}->($database), 'open|3|0|server', 'opens its breaker for all sessions');

# it takes the connection, and does not answer
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 10, ReuseAddr => 1, Blocking => 0) or die "no socket: $!";
$b->{begin}->("SET visage.connect_timeout = '2s'; SET visage.max_retries = 0; CALL visage_ingest('shop.orders')");
wait_for($node, 'city', "SELECT (state, failures, requests_under_way) = ('half_open', 3, 1) FROM visage.breakers WHERE host = '127.0.0.1:$port'", 'one session tries to connect');
$c->{begin}->("SET visage.max_retries = 20; CALL visage_ingest('shop.items')");
wait_for($node, 'city', "SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE '%CALL visage\\_ingest(''shop.%' AND wait_event_type = 'Extension'", 'both wait');
like($b->{end}->(), qr/cannot be connected to, after 1 attempt/, 'the one that tries fails');
is($node->safe_psql('city', "SELECT state, round(extract(epoch FROM retry_at - opened_at), 3) FROM visage.breakers WHERE host = '127.0.0.1:$port'"), 'open|1.000', 'which opens the breaker for twice as long');
my @tries;
while (my $try = $mute->accept) { push @tries, $try; }
is(scalar(@tries), 1, 'and only that session has tried');
close $_ for @tries, $mute;
$source->start;
is($c->{end}->(), '', 'the other one tries when its turn comes');
is($a->{ask}->($database), 'closed|0|0|server', 'its success closes the breaker');
is($node->safe_psql('city', 'SELECT count(*) FROM staging.shop__items'), '100', 'and it has read its table');

# a session that is cancelled while it tries leaves the try to another one
$source->stop;
like($a->{ask}->("CALL visage_ingest('shop.orders')"), qr/cannot be connected to/, 'the database is down again');
$mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 10, ReuseAddr => 1, Blocking => 0) or die "no socket: $!";
$b->{begin}->("SET visage.connect_timeout = '1min'; CALL visage_ingest('shop.orders')");
wait_for($node, 'city', "SELECT state = 'half_open' AND requests_under_way = 1 FROM visage.breakers WHERE host = '127.0.0.1:$port'", 'one session tries');
$node->safe_psql('city', "SELECT pg_cancel_backend(pid) FROM visage.progress WHERE name = 'shop.orders'");
like($b->{end}->(), qr/canceling statement due to user request/, 'it is cancelled');
is($a->{ask}->($database), 'half_open|3|0|server', 'and tells nothing of the host');
close $mute;
$source->start;
is($a->{ask}->("CALL visage_ingest('shop.orders')"), '', 'another one tries');
is($a->{ask}->($database), 'closed|0|0|server', 'and closes the breaker');
$_->{quit}->() for $a, $b, $c;

# without shared memory
($a, $b) = map { engineer($lone) } 1 .. 2;
control(fault => { kind => '503' });
like($a->{ask}->("CALL visage_ingest('sf.a')"), qr/status 503/, 'without visage in shared_preload_libraries');
is($a->{ask}->($breaker), 'open|3|0|session', 'a breaker is of the session');
is($b->{ask}->($breaker), '', 'and others do not know of it');
$_->{quit}->() for $a, $b;

done_testing();
