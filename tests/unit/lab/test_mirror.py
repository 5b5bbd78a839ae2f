from __future__ import annotations

import pytest

from lab.mirror import (
    AptSource,
    apt_options,
    deb822_sources,
    debian,
    debian_sources,
    from_a_container,
    one_line_sources,
    proxies,
    sources_file,
)

BOOKWORM = """\
# where packages come from
Types: deb deb-src
URIs: http://mirror.home.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
# a comment in a stanza
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.home.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

UBUNTU = """\
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""


def test_a_bookworm_machines_mirrors_give_trixie_with_its_updates_and_security_but_no_backports() -> None:
    assert debian_sources(deb822_sources(BOOKWORM)) == (
        AptSource("http://mirror.home.example/debian", "trixie", ("main",)),
        AptSource("http://mirror.home.example/debian", "trixie-updates", ("main",)),
        AptSource("http://mirror.home.example/debian-security", "trixie-security", ("main",)),
    )


def test_the_same_mirrors_give_any_suite_and_sid_has_neither_updates_nor_a_security_archive() -> None:
    assert debian_sources(deb822_sources(BOOKWORM), "sid") == (AptSource("http://mirror.home.example/debian", "sid", ("main",)),)
    assert [source.suite for source in debian_sources(deb822_sources(BOOKWORM), "forky")] == ["forky", "forky-updates", "forky-security"]
    assert debian_sources([], "sid") == (AptSource("http://deb.debian.org/debian", "sid", ("main",)),)


def test_a_machine_of_sid_gives_the_suites_that_its_mirror_has() -> None:
    sid = [AptSource("http://mirror.home.example/debian", "sid", ("main",))]
    assert debian_sources(sid, "trixie") == (AptSource("http://mirror.home.example/debian", "trixie", ("main",)),)


def test_one_line_sources_are_read_with_their_options_and_comments() -> None:
    text = """
    # deb http://off.home.example/debian trixie main
    deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] https://mirror.home.example/debian trixie main contrib # x
    deb-src https://mirror.home.example/debian trixie main
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert list(one_line_sources(text)) == [AptSource("https://mirror.home.example/debian", "trixie", ("main", "contrib"), keyring)]


@pytest.mark.parametrize("switched_off", ["Enabled: no", "Types: deb-src"])
def test_stanzas_that_give_no_binaries_are_passed_over(switched_off: str) -> None:
    stanza = f"Types: deb\nURIs: http://mirror.home.example/debian\nSuites: trixie\nComponents: main\n{switched_off}\n"
    assert list(deb822_sources(stanza)) == []


def test_a_field_may_go_on_in_the_next_line() -> None:
    stanza = "Types: deb\nURIs: http://mirror.home.example/debian\nSuites: trixie\n trixie-updates\nComponents: main\n"
    assert [source.suite for source in deb822_sources(stanza)] == ["trixie", "trixie-updates"]


@pytest.mark.parametrize(
    "text",
    [
        "deb http://archive.ubuntu.com/ubuntu noble main universe",
        "deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main",
        "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/debian bookworm main",
        "deb https://vendor.example/linux/debian bookworm stable",
        "deb http://mirror.home.example/debian-security bookworm-security main",
        "",
    ],
    ids=["ubuntu", "cdrom", "a vendor's key", "a vendor's component", "security alone", "nothing"],
)
def test_where_no_debian_mirror_is_named_it_is_debians_own_archive(text: str) -> None:
    assert debian_sources(one_line_sources(text)) == debian()


def test_ubuntus_sources_are_not_debians() -> None:
    assert debian_sources(deb822_sources(UBUNTU)) == debian()


def test_what_is_written_for_a_host_is_read_back_the_same() -> None:
    assert [(source.uri, source.suite, source.components) for source in deb822_sources(sources_file(debian()))] == [
        (source.uri, source.suite, source.components) for source in debian()
    ]


DUMP = """\
APT::Architecture "amd64";
Acquire::http "";
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::http::Proxy::mirror.home.example "DIRECT";
Acquire::https::CAInfo "/etc/ssl/corporate.pem";
Acquire::Check-Valid-Until "false";
Dir::Cache "var/cache/apt";
"""


def test_of_apts_configuration_goes_along_what_says_how_to_reach_a_mirror_and_no_path_of_this_machine() -> None:
    assert apt_options(DUMP, {}) == (
        'Acquire::http::Proxy "http://127.0.0.1:3142";',
        'Acquire::http::Proxy::mirror.home.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    )


def test_the_environments_proxy_counts_where_apt_has_none_of_its_own() -> None:
    assert apt_options("", {"HTTPS_PROXY": "http://proxy.home.example:3128"}) == (
        'Acquire::https::Proxy "http://proxy.home.example:3128";',
    )
    assert 'Acquire::http::Proxy "http://proxy.home.example:3128";' not in apt_options(
        DUMP, {"http_proxy": "http://proxy.home.example:3128"}
    )


def test_a_proxy_is_not_asked_for_the_lab_itself() -> None:
    found = proxies({"http_proxy": "http://proxy.home.example:3128", "no_proxy": "home.example"})
    assert found == {"http_proxy": "http://proxy.home.example:3128", "no_proxy": "home.example,localhost,127.0.0.1,::1,172.16.0.0/12"}
    assert proxies({"no_proxy": "home.example"}) == {}


@pytest.mark.parametrize("near", ["localhost", "127.0.0.1"])
def test_a_proxy_on_this_machines_loopback_is_named_as_a_container_reaches_it(near: str) -> None:
    assert from_a_container(f'Acquire::http::Proxy "http://{near}:3142";') == 'Acquire::http::Proxy "http://host.docker.internal:3142";'
    assert from_a_container("http://localhost.home.example/") == "http://localhost.home.example/"
