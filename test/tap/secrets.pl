# Secrets that are given by reference are in nothing that the server writes.  A
# standby that is promoted has the sealed secrets and not their key: what they
# are for is refused until somebody gives it the key file.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VisageTest;

my $keys = PostgreSQL::Test::Utils::tempdir() . '/keys';
append_to_file($keys, 'k1:' . ('1f' x 32) . "\n");
chmod 0600, $keys;

my $node = new_node('main', "visage.allowed_hosts = '127.0.0.1'", "log_parameter_max_length = 0", "visage.secret_key_file = '$keys'");
my $url  = start_double();
set_up($node, 'city');
$node->safe_psql('city', "SET client_min_messages = error; SET ROLE visage_engineer; SELECT visage_set_secret('token', 'swordfish')");
$node->safe_psql('city', "SET ROLE visage_engineer;
	SELECT visage_create_source('sf', 'socrata', '{\"base_url\": \"$url\", \"page_size\": 900}', '{\"app_token\": \"stored:token\"}');
	SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')");

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "visage.secret_key_file = ''");
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));

$standby->promote;
$standby->safe_psql('city', 'SELECT visage_adopt()');
my $ingest = "CALL visage_ingest('sf.businesses')";
fails($standby, 'city', $ingest, '55000', 'Setting visage.secret_key_file is empty', 'a promoted copy without the key does not open the secret');
is(scalar(requests()), 0, 'and asks nobody');

$standby->safe_psql('city', "ALTER SYSTEM SET visage.secret_key_file = '$keys'");
$standby->reload;
$standby->safe_psql('city', $ingest);
is((requests())[0]->{headers}{'X-App-Token'}, 'swordfish', 'with the key it does');

my $files = 0;
for my $cluster ($node, $standby)
{
	$files += () = grep { -f && slurp_file($_) =~ /swordfish/ } glob($cluster->data_dir . '/{base/*,pg_wal}/*');
}
is($files, 0, 'no file of a data directory has the secret');

# ---- by reference: of a file, and of the server's environment ----

my $secrets = PostgreSQL::Test::Utils::tempdir();
append_to_file("$secrets/token", "trout-of-a-file\n");
my $open = PostgreSQL::Test::Cluster->new('open');
$open->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$open->append_conf('postgresql.conf', join("\n", "visage.allowed_hosts = '127.0.0.1'", "visage.secrets_directory = '$secrets'", 'visage.retry_delay = 1ms', 'visage.max_retries = 1',
		'log_statement = all', 'log_min_duration_statement = 0', 'log_min_messages = debug1', 'log_error_verbosity = verbose', ''));
{
	local $ENV{VISAGE_TOKEN} = 'trout-of-the-environment';
	$open->start;
}
set_up($open, 'city');
my %sources = (e => [ 'env:VISAGE_TOKEN', 'trout-of-the-environment' ], f => [ 'file:token', 'trout-of-a-file' ]);
for my $source (sort keys %sources)
{
	my ($reference, $secret) = @{ $sources{$source} };
	$open->safe_psql('city', "SET ROLE visage_engineer;
		SELECT visage_create_source('$source', 'socrata', '{\"base_url\": \"$url\", \"page_size\": 900}', '{\"app_token\": \"$reference\"}');
		SELECT visage_create_stream('$source', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')");
	control(fault => { kind => '503', after => 1, times => 5 });
	fails($open, 'city', "CALL visage_ingest('$source.businesses')", '38000', 'status 503', "$reference: a run that fails");
	control(fault => { kind => 'hang', times => 1 });
	my $run = background($open, 'city', 'sf_engineer', "CALL visage_ingest('$source.businesses')");
	wait_for($open, 'city', "SELECT EXISTS (SELECT FROM visage.progress WHERE name = '$source.businesses') AND EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Extension')", 'the run waits');
	is($open->safe_psql('city', "SELECT count(*) FROM pg_stat_activity AS a WHERE a::text LIKE '%tro' || 'ut-%'"), '0', 'pg_stat_activity does not show the secret');
	$open->safe_psql('city', 'SELECT pg_cancel_backend(pid) FROM visage.progress');
	$run->{run}->finish;
	unlike(${ $run->{errors} }, qr/trout/, 'nor an error');
	control(fault => undef);
	$open->safe_psql('city', "CALL visage_ingest('$source.businesses')");
	is((requests())[0]->{headers}{'X-App-Token'}, $secret, 'only the other system sees it');
}
my $tables = $open->safe_psql('city', "SELECT string_agg(format('SELECT t::text FROM %s AS t', c.oid::regclass), ' UNION ALL ') FROM pg_class AS c WHERE relkind IN ('r', 'v') AND relnamespace = 'visage'::regnamespace");
is($open->safe_psql('city', "SELECT count(*) FROM ($tables) AS t (x) WHERE x LIKE '%tro' || 'ut-%'"), '0', 'no table or view of Visage has one');
unlike($open->safe_psql('city', 'SELECT visage_definitions()'), qr/trout/, 'nor what is printed of the definitions');
unlike(slurp_file($open->logfile), qr/trout/, 'nor the log, with log_statement = all');
my ($dump) = run_command([ 'pg_dump', '-d', $open->connstr('city') ]);
like($dump, qr/env:VISAGE_TOKEN/, 'a dump has the reference');
unlike($dump, qr/trout/, 'and not the secret');
fails($node, 'city', "SELECT visage_create_source('x', 'socrata', '{\"base_url\": \"$url\"}', '{\"app_token\": \"env:VISAGE_NOWHERE\"}'); SELECT visage_create_stream('x', 'y', 'g8m3-pdis', primary_key => '{uniqueid}'); CALL visage_ingest('x.y')",
	'55000', 'secret "app_token" cannot be read', 'a variable that the server does not have');

done_testing();
