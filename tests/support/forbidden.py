"""Hosts that no webhook may lead to, in all spellings."""

__all__ = ["FORBIDDEN_HOSTS"]

FORBIDDEN_HOSTS = [
    # loopback, in every spelling that inet_aton or IDNA understands
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1",
    "0x7F.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "0177.1", "127.0.0.1.", "127.0.0.01",
    "１２７.０.０.１", "127。0。0。1", "①②⑦.⓪.⓪.①",
    # this host, private, link-local (cloud metadata), shared
    "0.0.0.0", "0", "10.0.0.1", "10.1", "167772161", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "3232235521", "169.254.169.254", "2852039166", "0xa9fea9fe", "100.64.0.1",
    "100.127.255.255",
    # multicast, broadcast, reserved, documentation, benchmarks, protocol assignments, 6to4 relay
    "224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.7",
    "203.0.113.9", "198.18.0.1", "192.0.0.170", "192.88.99.1",
    # IPv6: loopback, unspecified, private, link- and site-local, multicast, documentation
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[fc00::1]", "[fd12:3456::1]", "[fe80::1]",
    "[fe80::1%25eth0]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[2001:db8::1]", "[3fff::1]",
    "[100::1]",
    # IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:c0a8:1::1]", "[2001:0:7f00:1::]",
]  # fmt: skip
