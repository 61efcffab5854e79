# say|hear tcp|udp ADDRESS PORT COUNT SIZE: sends, or waits for, so many pieces of so many bytes. Whoever hears ends with
# the last of them, and whoever says over TCP ends after that.
use strict;
use warnings;
use Socket qw(:DEFAULT getaddrinfo AI_NUMERICHOST);

my ($what, $protocol, $address, $port, $count, $size) = @ARGV;
my $type = $protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
my ($error, $place) = getaddrinfo($address, $port, {socktype => $type, flags => AI_NUMERICHOST});
die "$address: $error\n" if $error;
socket(my $socket, $place->{family}, $type, 0) or die "socket: $!\n";
if ($what eq 'say') {
    connect($socket, $place->{addr}) or die "connect: $!\n";
    for (1 .. $count) {
        my $said = 0;
        while ($said < $size) {
            $said += syswrite($socket, 'x' x ($size - $said)) // die "write: $!\n";
        }
    }
    sysread($socket, my $end, 1) // die "end: $!\n" if $type == SOCK_STREAM;
    exit;
}
setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!\n";
bind($socket, $place->{addr}) or die "bind: $!\n";
if ($type == SOCK_STREAM) {
    listen($socket, 1) or die "listen: $!\n";
    accept(my $stream, $socket) or die "accept: $!\n";
    my $heard = 0;
    while ($heard < $count * $size) {
        my $more = sysread($stream, my $piece, 65536) // die "read: $!\n";
        die "$heard bytes, and the end\n" if $more == 0;
        $heard += $more;
    }
} else {
    for my $number (1 .. $count) {
        my $heard = sysread($socket, my $piece, 65536) // die "read: $!\n";
        die "datagram $number has $heard bytes\n" if $heard != $size;
    }
}
