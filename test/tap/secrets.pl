# A standby that is promoted has the sealed secrets and not their key: what
# they are for is refused until somebody gives it the key file.
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

done_testing();
