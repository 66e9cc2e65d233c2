"""Where code may come from: what a developer types must not lead the server into its own network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.control.hosts import Hosts, is_public, parse_hosts
from narf.control.snapshots.git import _destination
from narf.domain.errors import BadInput

PUBLIC = "93.184.216.34"


def names(**known: list[str]):
    """A name server that knows these; addresses are their own."""

    def resolve(host: str, _port: int) -> list[str]:
        if host[0].isdigit() or ":" in host:
            return [host]
        if host not in known:
            raise OSError("unknown")
        return known[host]

    return resolve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused_however_it_is_written(address):
    assert not is_public(address)
    for host in (address, "code.example.org"):
        with pytest.raises(BadInput) as refused:
            Hosts(resolve=names(**{"code.example.org": [PUBLIC, address]})).checked(host, 443)
        assert refused.value.code == "host_not_allowed" and "NARF_GIT_HOSTS" in refused.value.remedy


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="169.254.0.0/16") | st.ip_addresses(network="fc00::/7"))
def test_no_address_of_a_private_network_is_public(address):
    assert not is_public(str(address))


def test_a_public_host_is_fetched_from_at_the_address_that_was_looked_at():
    hosts = Hosts(resolve=names(**{"code.example.org": [PUBLIC, "2606:2800:220:1::1"]}))
    https = _destination("https://code.example.org/a/b.git", hosts)
    assert https.options == ("-c", f"http.curloptResolve=code.example.org:443:{PUBLIC}") and https.ssh_options == ""
    ssh = _destination("ssh://git@code.example.org:2222/a/b.git", hosts)
    assert ssh.ssh_options == f" -o HostName={PUBLIC} -o HostKeyAlias=[code.example.org]:2222" and ssh.options == ()
    assert _destination("ssh://git@code.example.org/b.git", hosts).ssh_options.endswith("HostKeyAlias=code.example.org")


def test_with_a_list_its_hosts_and_no_others_wherever_they_are():
    hosts = Hosts(parse_hosts(" git.bank.local, *.example.org,127.0.0.1 ,[::1]"), names())
    for host in ("git.bank.local", "GIT.BANK.LOCAL.", "code.example.org", "a.b.example.org", "127.0.0.1", "[::1]"):
        assert hosts.checked(host, 443) == ""
    for host in ("github.com", "example.org", "evilexample.org", "git.bank.local.evil.org", "127.0.0.2", PUBLIC):
        with pytest.raises(BadInput, match=r"fetches code from git.bank.local, \*.example.org, 127.0.0.1, ::1 only"):
            hosts.checked(host, 443)


def test_a_name_that_means_nothing_is_unreachable_unless_a_proxy_knows_it():
    hosts = Hosts(resolve=names())
    with pytest.raises(BadInput) as unknown:
        hosts.checked("nowhere.example.org", 443)
    assert unknown.value.code == "unreachable"
    assert hosts.checked("nowhere.example.org", 443, by_proxy=True) == ""
    with pytest.raises(BadInput):
        hosts.checked("127.0.0.1", 443, by_proxy=True)


@pytest.mark.parametrize("text", ["https://git.bank.local", "git.bank.local/x", "a b", "*", "*.", "-x", "git.*.org"])
def test_what_is_no_host_is_refused_at_the_start(text):
    with pytest.raises(BadInput, match="NARF_GIT_HOSTS"):
        parse_hosts(text)
    assert parse_hosts("") == ()
