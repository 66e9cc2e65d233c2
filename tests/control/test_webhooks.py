"""Webhooks go where they may, to the address that was looked at, and nowhere else they are told to go."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from narf.control.hosts import WEBHOOKS, WEBHOOKS_OF_A_LAPTOP, Hosts, hosts_of_webhooks, is_elsewhere, is_elsewhere_or_here, parse_hosts
from narf.control.webhooks import Webhooks
from narf.domain.errors import BadInput


@pytest.fixture
def receiver():
    """Notes what it is sent; `/moved` leads to `/there`, `/broken` fails."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.seen.append((self.path, self.headers["host"], body))
            self.send_response({"/moved": 307, "/broken": 500}.get(self.path, 200))
            if self.path == "/moved":
                self.send_header("location", f"http://127.0.0.1:{server.server_port}/there")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hooks(purpose=WEBHOOKS_OF_A_LAPTOP, listed="", **names):
    def resolve(host, _port):
        if host[0].isdigit() or ":" in host:
            return [host]
        if host not in names:
            raise OSError("unknown")
        return names[host]

    return Webhooks(Hosts(parse_hosts(listed, purpose), resolve, purpose), timeout_seconds=5)


THIS_MACHINE = ["127.0.0.1", "127.9.9.9", "::1"]
NEVER = ["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1",
         "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "255.255.255.255", "::"]  # fmt: skip
COMPANY = ["10.1.2.3", "192.168.3.4", "172.16.9.9", "93.184.216.34", "fd12::7", "2606:2800:220:1::1"]


@pytest.mark.parametrize("address", THIS_MACHINE + NEVER)
def test_the_platforms_machine_and_what_tells_machines_their_secrets_are_refused(address):
    assert not is_elsewhere(address) and is_elsewhere_or_here(address) == (address in THIS_MACHINE)
    url = f"http://[{address}]/x" if ":" in address else f"http://{address}/x"
    with pytest.raises(BadInput) as refused:
        hooks(WEBHOOKS).check(url)
    assert refused.value.field == "webhook" and "NARF_WEBHOOK_HOSTS" in refused.value.remedy
    with pytest.raises(BadInput):
        hooks(WEBHOOKS, **{"hooks.bank.example": ["10.0.0.1", address]}).check("https://hooks.bank.example/x")


@pytest.mark.parametrize("address", COMPANY)
def test_the_companys_network_and_the_internet_are_not(address):
    assert is_elsewhere(address) and is_elsewhere_or_here(address)
    hooks(WEBHOOKS, **{"hooks.bank.example": [address]}).check("https://hooks.bank.example/x")


def test_with_a_list_its_hosts_and_no_others():
    listed = hooks(WEBHOOKS, "hooks.bank.example, 127.0.0.1")
    listed.check("https://hooks.bank.example/x")
    listed.check("http://127.0.0.1:9/x")
    with pytest.raises(BadInput, match=r"sends webhooks to hooks.bank.example, 127.0.0.1 only"):
        listed.check("https://elsewhere.example/x")
    with pytest.raises(BadInput, match="NARF_WEBHOOK_HOSTS"):
        parse_hosts("https://x", WEBHOOKS)


def test_a_platform_that_only_its_own_machine_reaches_may_tell_it():
    assert hosts_of_webhooks("", "127.0.0.1").checked("127.0.0.1", 80) == "127.0.0.1"
    with pytest.raises(BadInput):
        hosts_of_webhooks("", "0.0.0.0").checked("127.0.0.1", 80)


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "http://", "https:///x", "hooks.example", "http://x:99999/", "http://a b/", "javascript:alert(1)"]
)
def test_what_is_no_address_is_refused_with_a_sentence(url):
    with pytest.raises(BadInput, match="no address to notify"):
        hooks().check(url)


def test_a_name_that_means_nothing_now_is_let_through_and_tried_when_there_is_something_to_tell():
    hooks().check("https://later.example/x")
    with pytest.raises(BadInput) as unknown:
        hooks().post("https://later.example/x", {})
    assert unknown.value.code == "unreachable"


def test_it_is_sent_to_the_address_that_was_looked_at_and_asked_for_by_name(receiver):
    sent = hooks(**{"hooks.bank.example": ["127.0.0.1"]})
    sent.post(f"http://hooks.bank.example:{receiver.server_port}/told?a=1", {"kind": "drift"})
    assert receiver.seen == [("/told?a=1", f"hooks.bank.example:{receiver.server_port}", {"kind": "drift"})]


def test_a_redirection_is_not_followed_and_an_error_is_one(receiver):
    for path, status in (("/moved", "307"), ("/broken", "500")):
        with pytest.raises(OSError, match=status):
            hooks().post(f"http://127.0.0.1:{receiver.server_port}{path}", {})
    assert [path for path, _, _ in receiver.seen] == ["/moved", "/broken"]
    with pytest.raises(OSError, match="refused"):
        hooks().post("http://127.0.0.1:9/", {})


def test_through_a_proxy_neither_is_one_followed(receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{receiver.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    hooks(**{"hooks.bank.example": ["10.0.0.1"]}).post("http://hooks.bank.example/told", {"kind": "x"})
    assert receiver.seen[0][0] == "http://hooks.bank.example/told"
    with pytest.raises(BadInput):
        hooks(WEBHOOKS).post("http://169.254.169.254/latest", {})
