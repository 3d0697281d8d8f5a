# What two sessions declare and drop at once: nothing is left without what it
# was declared with.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $node = new_node('main');
set_up($node, 'city');

my ($first, $second) = map { session($node, 'city') } 1 .. 2;
$_->{ask}->('\\set VERBOSITY verbose') for $first, $second;

my $connector = q{SELECT visage_create_connector('%s', '{"version": 1, "path": "/{resource}", "base_url": "https://api.example"}')};
my $source    = q{SELECT visage_create_source('%s', '%s')};
my $stream    = q{SELECT visage_create_stream('%s', 't', primary_key => '{id}')};

# The first session's statement is not committed yet when the second one runs
# its own, which waits; gives what the second is told.
sub at_once
{
	my ($one, $other) = @_;
	$first->{ask}->("BEGIN; $one");
	$second->{begin}->($other);
	wait_for($node, 'city', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT visage%'", 'the second session waits');
	$first->{ask}->('COMMIT');
	return $second->{end}->();
}

# What is declared, of what the tests declare.
sub declared
{
	return $node->safe_psql('city', "SELECT string_agg(noun || ' ' || name, ', ' ORDER BY noun, name) FROM visage.declarations WHERE NOT builtin");
}

$first->{ask}->(sprintf $connector, 'a');
like(at_once(sprintf($source, 's', 'a'), "SELECT visage_drop_connector('a')"), qr/ERROR:  2BP01: connector "a" has sources/,
	'a connector is not dropped from under a source that is being declared');
is(declared(), 'connector a, source s', 'both are there');

like(at_once(sprintf($stream, 's'), "SELECT visage_drop_source('s')"), qr/ERROR:  2BP01: source "s" has streams/, 'nor a source from under a stream');
is(declared(), 'connector a, source s, stream s.t', 'all are there');

$first->{ask}->("SELECT visage_drop_stream('s.t')");
like(at_once("SELECT visage_drop_source('s')", sprintf($stream, 's')), qr/ERROR:  42704: source "s" does not exist/, 'a stream is not declared on a source that is being dropped');
like(at_once("SELECT visage_drop_connector('a')", sprintf($source, 's', 'a')), qr/ERROR:  42704: connector "a" does not exist/, 'nor a source on such a connector');
is(declared(), '', 'nothing is left');

like(at_once(sprintf($connector, 'b'), "SELECT visage_drop_connector('b')"), qr/^\s*$/, 'a connector that is being declared is dropped when it is there');
is(declared(), '', 'and gone');
$_->{quit}->() for $first, $second;

done_testing();
