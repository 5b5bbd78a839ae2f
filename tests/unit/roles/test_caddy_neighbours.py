"""Where the fleet's sites find a place beside those that a Caddyfile has already, and where they find none."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.neighbours import Caddyfile, Listener
from roles.caddy.neighbours import chosen, listening, redirecting, refusals, remarks
from roles.caddy.settings import CaddySettings

SITE = {"upstream": "ai"}
OLD, NEW = (2, 6, 2), (2, 11, 4)


def settings(*listen: str, **others: Any) -> CaddySettings:
    return CaddySettings.model_validate(
        {"shared": True, "listen": listen or ("0.0.0.0:443",), "sites": {"ai.home.example": SITE}, **others}
    )


def site(address: str, *names: str, **others: Any) -> tuple[Listener, ...]:
    """A site with HTTPS, and the redirect to it."""
    names = names or ("theirs.home.example",)
    redirect = Listener(f"{address.rpartition(':')[0]}:80", names, https=False, implied=True)
    return Listener(address, names, **others), redirect


def plain(address: str, *names: str) -> Listener:
    return Listener(address, names, any_name=not names, https=False)


def refused(ours: CaddySettings, *theirs: Listener, release: tuple[int, int, int] = NEW, **options: Any) -> str:
    return "; ".join(refusals(ours, Caddyfile(theirs, **options), release))


@pytest.mark.parametrize("release", [OLD, NEW])
@pytest.mark.parametrize("listen", [["0.0.0.0:443"], ["[::]:443"], ["0.0.0.0:443", "[::]:443"]])
@pytest.mark.parametrize(("spelled", "bind"), [("", ""), ("0.0.0.0", "0.0.0.0"), ("[::]", "::")])
def test_sites_share_the_socket_of_who_is_everywhere_already(listen: list[str], spelled: str, bind: str, release: Any) -> None:
    """Each spelling is a server of its own to Caddy, and all of these are one socket for IPv4 and IPv6."""
    theirs = Caddyfile(site(f"{spelled}:443"))
    assert chosen(settings(*listen), theirs, release) == (bind,)
    assert not list(refusals(settings(*listen), theirs, release))
    assert listening((bind,), 443, theirs) == listening((bind,), 80, theirs) == ("*",)


def test_that_a_shared_socket_is_more_than_was_asked_for_is_said() -> None:
    (line,) = remarks(settings(), Caddyfile(site(":443")), NEW)
    assert line == "the sites share the address of its Caddyfile's own, :443, and so answer over IPv4 and IPv6"
    assert not list(remarks(settings("192.0.2.10:443"), Caddyfile(site("192.0.2.10:443")), NEW))


def test_a_plain_site_on_port_80_keeps_its_callers_over_ipv4() -> None:
    assert chosen(settings(), Caddyfile((plain(":80", "theirs.home.example"),)), NEW) == ("",)


def test_redirects_of_both_are_one_server_and_need_no_common_address() -> None:
    theirs = Caddyfile(site(":8443"))
    assert chosen(settings(), theirs, OLD) == ("tcp4/0.0.0.0",)
    assert set(listening(("tcp4/0.0.0.0",), 80, theirs)) == {"0.0.0.0", "*"}
    assert listening(("tcp4/0.0.0.0",), 443, theirs) == ("0.0.0.0",)
    assert not refused(settings("192.0.2.10:443"), *site(":8443"))


def test_of_several_addresses_nobody_can_tell_from_which_an_old_caddy_redirects() -> None:
    theirs = Caddyfile((*site("192.0.2.20:443"), *site("[2001:db8::20]:443")))
    assert redirecting(("192.0.2.10",), theirs, OLD) == ()
    assert redirecting(("192.0.2.10",), theirs, NEW) == ("192.0.2.10", "192.0.2.20", "2001:db8::20")
    assert redirecting(("tcp4/0.0.0.0",), Caddyfile(site(":8443")), OLD) == ("0.0.0.0", "*")


@pytest.mark.parametrize("address", ["192.0.2.10", "[2001:db8::10]"])
def test_one_address_is_shared_where_both_name_it(address: str) -> None:
    theirs = Caddyfile(site(f"{address}:443"))
    assert chosen(settings(f"{address}:443"), theirs, NEW) == (address.strip("[]"),)
    assert not refused(settings(f"{address}:443"), *theirs.listeners)


def test_an_old_caddy_shares_all_addresses_of_a_site_or_none() -> None:
    """It redirects from one of them, and from another once the site is torn in two."""
    theirs = (*site("192.0.2.10:443"), *site("[2001:db8::10]:443"))
    assert not refused(settings("192.0.2.10:443"), *theirs)
    words = "its Caddyfile has theirs.home.example at several addresses: set roles.caddy.listen to"
    assert refused(settings("192.0.2.10:443"), *theirs, release=OLD).startswith(f'{words} ["192.0.2.10:443", "[2001:db8::10]:443"]')
    assert not refused(settings("192.0.2.10:443", "[2001:db8::10]:443"), *theirs, release=OLD)
    assert not refused(settings("192.0.2.11:443"), *theirs, release=OLD)


def test_sites_at_other_addresses_lie_beside_and_both_are_expected_to_listen() -> None:
    theirs = Caddyfile((*site("192.0.2.20:443"), *site("tcp6/[::]:443")))
    assert not refused(settings("192.0.2.10:443"), *theirs.listeners)
    assert listening(("192.0.2.10",), 443, theirs) == ("192.0.2.10", "192.0.2.20", "::")


def test_one_address_beside_a_site_that_is_everywhere_is_refused_with_what_would_do() -> None:
    words = "its Caddyfile listens on :443, and 192.0.2.10:443 would take callers of it"
    assert refused(settings("192.0.2.10:443"), *site(":443")) == f'{words}: set roles.caddy.listen to ["[::]:443"], which they share'
    assert 'listen to ["0.0.0.0:443"]' in refused(settings("192.0.2.10:443"), *site("tcp4/0.0.0.0:443"))


def test_everywhere_beside_a_site_at_one_address_is_refused_with_what_would_do() -> None:
    words = "its Caddyfile listens on 192.0.2.10:443, and would take callers of 0.0.0.0:443"
    theirs = (*site("192.0.2.10:443"), *site("[2001:db8::10]:443"), *site("127.0.0.1:443"))
    better = '["192.0.2.10:443", "[2001:db8::10]:443"]'
    assert refused(settings(), *theirs) == f"{words}: set roles.caddy.listen to {better}, which they share"


def test_a_wider_address_is_not_given_up_for_a_narrower_one() -> None:
    assert "listens on tcp4/0.0.0.0:443" in refused(settings("[::]:443"), *site("tcp4/0.0.0.0:443"))


def test_what_listens_on_loopback_stays_where_it_is_unless_caddy_cannot_start_beside_it() -> None:
    theirs = Caddyfile((*site("127.0.0.1:443"), plain("localhost:80", "status.home.example")))
    assert chosen(settings(), theirs, NEW) == ("tcp4/0.0.0.0",)
    assert not refused(settings(), *theirs.listeners)
    assert listening(("tcp4/0.0.0.0",), 80, theirs) == ("0.0.0.0", "127.0.0.1")
    assert refused(settings(), *theirs.listeners, release=OLD).endswith("set roles.caddy.listen to single addresses of the host")


@pytest.mark.parametrize("listener", [site(":443", "ai.home.example")[0], plain(":80", "ai.home.example")])
def test_a_name_that_the_caddyfile_has_is_refused(listener: Listener) -> None:
    assert "its Caddyfile has a site ai.home.example already: remove it there" in refused(settings(), listener)


def test_a_site_without_a_name_would_be_stopped_and_is_refused_unless_it_says_that_it_may_go_on() -> None:
    """Where one site requires certificates, Caddy compares the name of the handshake with that of the request, on the whole server."""
    for theirs, what in ((site(":443", any_name=True), "every name"), (site(":443", "192.0.2.10"), "192.0.2.10")):
        assert f"its Caddyfile answers {what} on :443, which Caddy stops" in refused(settings(), *theirs)
    assert not refused(settings(), *site(":443", any_name=True, strict=False))
    assert not refused(settings("0.0.0.0:8444"), *site(":443", any_name=True))


def test_a_site_that_answers_every_name_leaves_nothing_to_catch() -> None:
    theirs = site(":443", any_name=True, strict=False)
    assert "answers every name on :443 itself: remove roles.caddy.catch_all" in refused(settings(catch_all=True), *theirs)


def test_plain_http_on_the_port_of_the_sites_is_refused() -> None:
    theirs = plain(":8443", "theirs.home.example")
    assert "its Caddyfile has plain HTTP on :8443: set another port" in refused(settings("0.0.0.0:8443"), theirs)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (Caddyfile(redirects=False), "turns redirects off (auto_https)"),
        (Caddyfile(http_port=8080), "has http_port 8080"),
        (Caddyfile((plain(":80"),)), "answers every name on port 80"),
    ],
)
def test_a_redirect_is_declared_where_there_is_one_and_nowhere_else(theirs: Caddyfile, words: str) -> None:
    assert list(refusals(settings(), theirs, NEW)) == [f"its Caddyfile {words}: set roles.caddy.redirect: false"]
    assert not list(refusals(settings(redirect=False), theirs, NEW))
    assert "add `auto_https disable_redirects` to its options" in refused(settings(redirect=False))
    assert "add `auto_https disable_redirects`" in "".join(refusals(settings(redirect=False), None, NEW)), "also where it has no sites yet"


def test_a_public_certificate_is_not_awaited_where_certificates_are_off() -> None:
    ours = settings(redirect=False, sites={"ai.home.example": {**SITE, "acme": {"email": "me@home.example"}}})
    assert "turns certificates off (auto_https), and ai.home.example needs one" in refused(ours, redirects=False, certificates=False)


def test_a_caddyfile_of_somebody_elses_needs_a_word_and_has_to_be_one() -> None:
    assert refused(settings(shared=False)) == "its Caddyfile has other sites or options: set roles.caddy.shared: true"
    assert "Caddy refuses its Caddyfile as it is" in refused(settings(), is_valid=False)
    assert not list(refusals(settings(shared=False), None, NEW))
