# What the TAP tests share: a cluster with the extension, the double of the
# Socrata API, statements that run in the background.
#
#	use VisageTest;
#	my $node = new_node('main', 'visage.retry_delay = 1ms');
#	my $url = start_double();
#	my $run = background($node, 'city', 'sf_engineer', "CALL visage_ingest('sf.businesses')");
#	wait_for($node, 'postgres', 'SELECT …', 'what is awaited');
package VisageTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use HTTP::Tiny ();
use Test::More;

our @EXPORT = qw(background control declare fails new_node requests session set_up start_double wait_for);

my $source  = $ENV{VISAGE_SOURCE} or die 'VISAGE_SOURCE is not set; run scripts/check tap';
my $example = "$source/examples/sf_business";
my ($double, $url);

# A running cluster of its own, with more lines of postgresql.conf.
sub new_node
{
	my ($name, @lines) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', join("\n", @lines, ''));
	$node->start;
	return $node;
}

# A database with the extension, adopted unless told otherwise, and the roles.
sub set_up
{
	my ($node, $database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION visage; SELECT visage_create_roles(); SELECT visage_adopt()');
	$node->safe_psql($database, 'CREATE ROLE sf_engineer LOGIN; GRANT visage_engineer TO sf_engineer');
	return;
}

# Start the double and give its address; it ends with the test.
sub start_double
{
	my $port = PostgreSQL::Test::Utils::tempdir() . '/port';
	$double = IPC::Run::start(
		[   'python3', '-B', "$source/test/servers/socrata.py", '--port-file', $port,
			'--register', "$example/register_2023-03-10.csv.gz", '--soda2017', "$example/soda_2017-12-11.json" ]);
	for (1 .. 3000)
	{
		last if -s $port;
		$double->pump_nb;
		select(undef, undef, undef, 0.01);
	}
	$url = 'http://127.0.0.1:' . (slurp_file($port) + 0);
	return $url;
}

END
{
	my $status = $?;
	$double->kill_kill if $double;
	$? = $status;
}

# Steer the double.
sub control
{
	my $answer = HTTP::Tiny->new->post("$url/_control", { content => JSON::PP::encode_json({@_}) });
	die "the double: $answer->{content}" unless $answer->{success};
	return;
}

# What the double was asked for since the last fault was set.
sub requests
{
	return @{ JSON::PP::decode_json(HTTP::Tiny->new->get("$url/_control")->{content})->{requests} };
}

# Declare the register as stream sf.businesses.
sub declare
{
	my ($node, $database, $address) = @_;
	$node->safe_psql($database,
		"SET ROLE visage_engineer;
		SELECT visage_create_source('sf', 'socrata', '{\"base_url\": \"$address\", \"page_size\": 200}');
		SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', write_disposition => 'history')");
	return;
}

# A statement in a session of its own; finish it with ->finish.
sub background
{
	my ($node, $database, $role, $statement) = @_;
	my $errors = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-U', $role, '-c', $statement ],
		'<', \undef, '>', \my $output, '2>', \$errors);
	return { run => $run, errors => \$errors };
}

# A session that stays: $session->{ask}->('SELECT …') gives the answer,
# $session->{begin}->('…') does not wait for it, $session->{end}->() does,
# $session->{done}->() tells whether it is there.
sub session
{
	my ($node, $database, $role) = @_;
	my ($in, $out) = ('', '');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-U', $role // $ENV{PGUSER} // getpwuid($>) ],
		'<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(300));
	my $begin = sub { $in .= "$_[0]\n;\n\\echo --done--\n"; $run->pump_nb; return; };
	my $end = sub {
		$run->pump until $out =~ /^--done--$/m;
		$out =~ s/^(.*?)\n?--done--\n//s;
		return $1;
	};
	return {
		ask   => sub { $begin->(@_); return $end->(); },
		begin => $begin,
		end   => $end,
		done  => sub { $run->pump_nb; return $out =~ /^--done--$/m; },
		quit  => sub { $in .= "\\q\n"; $run->finish; return; }
	};
}

# Wait until the query gives t.
sub wait_for
{
	my ($node, $database, $query, $what) = @_;
	$node->poll_query_until($database, $query) or die "waited in vain for: $what";
	return;
}

# The statement fails, with this SQLSTATE and this text.
sub fails
{
	my ($node, $database, $statement, $state, $text, $name) = @_;
	my ($code, undef, $errors) = $node->psql($database, "\\set VERBOSITY verbose\n$statement");
	like($errors, qr/ERROR:  \Q$state\E: .*\Q$text\E/s, $name);
	return;
}

1;
