# The ordinary jobs of Perl's Redis module.
use strict;
use warnings;
use Redis;

sub check { my ($holds, $what) = @_; die "failed: $what\n" unless $holds }

my $redis = Redis->new(server => "127.0.0.1:$ENV{PORT}", name => 'perl');
check($redis->ping eq 'PONG', 'ping');
$redis->del('perl:n', 'perl:list');
check($redis->incrby('perl:n', 5) == 5, 'incr');
my %apple = $redis->hgetall('item:apple:def');
check($apple{name} eq 'Apple', 'a definition');
my $last;
$redis->incr('perl:n', sub { $last = $_[0] }) for 1 .. 100;
$redis->wait_all_responses;
check($last == 105, 'pipeline');
$redis->multi;
$redis->incr('perl:n');
$redis->hget('item:apple:def', 'name');
my @multi = $redis->exec;
check($multi[0] == 106 && $multi[1] eq 'Apple', 'multi');
check($redis->eval("return redis.call('get', KEYS[1])", 1, 'perl:n') == 106, 'eval');
check(!defined $redis->blpop('perl:nothing', 1), 'blpop of nothing');
check((grep { $_ eq 'perl:n' } $redis->keys('perl:*')) == 1, 'keys');
my $heard;
my $subscriber = Redis->new(server => "127.0.0.1:$ENV{PORT}");
my $note = sub { $heard = $_[0] };
$subscriber->subscribe('perl:news', $note);
check($redis->publish('perl:news', 'hello') == 1, 'publish');
$subscriber->wait_for_messages(5) while !defined $heard;
check($heard eq 'hello', 'subscribe');
$subscriber->unsubscribe('perl:news', $note);
check($subscriber->ping eq 'PONG', 'an ordinary client again');
$redis->quit;
