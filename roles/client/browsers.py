"""Browsers that present the certificate: policies for the machine, and what is put into their databases in the home.

Chromium and its relatives take certificates from an NSS database, ask which one unless a policy says so, and have a list of CAs of their
own. Firefox has a database in each profile, and a preference in place of the policy: a policies.json could be somebody else's already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from resources import Directory, File, Package, Resource, Service
from roles.client.certificates import certificates
from roles.client.home import UNITS, script_of, unit_name, unit_of
from roles.client.part import Person, SeatPart
from roles.role import render

TOOLS = ("libnss3-tools", "openssl")

POLICIES = {
    "chromium": ("/etc/chromium/policies/managed", "/etc/chromium-browser/policies/managed"),  # the second is Ubuntu's snap
    "chrome": ("/etc/opt/chrome/policies/managed",),
    "brave": ("/etc/brave/policies/managed",),
    "brave-flatpak": ("/etc/brave/policies/managed",),
}
"""Where each looks: chromium's docs/linux/policies.md, `policy_paths_posix.cc`, and their like in Brave."""

PREFERENCES = ("/etc/firefox-esr", "/etc/firefox/defaults/pref")
"""Debian's place for its ESR, and Mozilla's for every Firefox (bug 1170092)."""

PROFILES = tuple(
    f"{place}/profiles.ini"
    for place in (
        ".mozilla/firefox",
        ".config/mozilla/firefox",  # from 147 on, where there is none of the older
        "snap/firefox/common/.mozilla/firefox",
        ".var/app/org.mozilla.firefox/.mozilla/firefox",
        ".var/app/org.mozilla.firefox/config/mozilla/firefox",
    )
)

PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----\n?")


def browsers(person: Person) -> SeatPart:
    """The certificate and the CAs in the databases of the account's browsers, by a unit that takes them out when it is stopped."""
    authorities = f"{person.directory}/authorities"
    files = tuple(
        File(f"{authorities}/{number}.pem", pem, group=person.account, mode=0o640) for number, pem in enumerate(_each(person.ca), 1)
    )
    name = unit_name(person, "browsers")
    watch, look = name.replace(".service", ".path"), name.replace("browsers", "profiles")
    script = script_of(
        person,
        "browsers",
        authorities=authorities,
        browsers=person.seat.browsers,
        certificates=person.certificates,
        client=person.seat.client,
        lists=PROFILES,
        prefix=f"Paddock {person.fleet}",
        shared=bool({"chromium", "chrome", "brave"} & set(person.seat.browsers)),
    )
    units = (
        unit_of(person, "browsers", f"Certificates in the databases of {person.account}'s browsers", watch=watch),
        File(f"{UNITS}/{watch}", _watching(person, "path", unit=name, look=look)),
        File(f"{UNITS}/{look}", _watching(person, "service", name=look.removesuffix(".service"), script=script.path)),
    )
    shown = tuple(each for each in certificates(person).resources if isinstance(each, File))
    return SeatPart(
        (
            *(Package(each) for each in TOOLS),
            Directory(authorities, group=person.account, mode=0o750, exclusive=True),
            *files,
            script,
            *units,
            Service(name, restarts=(*units, script, *files, *shown)),
        )
    )


def policies(people: Iterable[Person]) -> Iterator[Resource]:
    """What makes the machine's browsers present the certificate unasked, and Chromium's relatives trust the CA.

    One file for all accounts: of two that say the same policy Chromium takes one.
    """
    asking = [person for person in people if person.seat.browsers]
    for places in dict.fromkeys(places for person in asking for browser in person.seat.browsers if (places := POLICIES.get(browser))):
        for place in places:
            yield from _path_to(place)
            yield File(f"{place}/paddock.json", _policy([each for each in asking if _has(each, place)]))
    for place in PREFERENCES if any("firefox" in person.seat.browsers for person in asking) else ():
        yield from _path_to(place)
        pages = any(entrance.site.origins for person in asking if "firefox" in person.seat.browsers for entrance in person.entrances)
        yield File(f"{place}/paddock.js", render("client/firefox.js.j2", pages=pages))


def _has(person: Person, place: str) -> bool:
    return any(place in POLICIES.get(browser, ()) for browser in person.seat.browsers)


def _policy(people: list[Person]) -> str:
    """By the subject's name, which outlives the CA. A certificate of the same name by another CA is none that the site asks for."""
    chosen = {(entrance.url, person.seat.client): None for person in people for entrance in person.entrances}
    selections = [json.dumps({"pattern": url, "filter": {"SUBJECT": {"CN": client}}}) for url, client in chosen]
    authorities = dict.fromkeys("".join(pem.split()) for person in people for pem in PEM.findall(person.ca))
    return json.dumps({"AutoSelectCertificateForUrls": selections, "CACertificates": list(authorities)}, indent=2) + "\n"


def _path_to(place: str) -> Iterator[Directory]:
    _, etc, *below = place.split("/")
    for depth in range(1, len(below) + 1):
        yield Directory("/".join(("", etc, *below[:depth])))


def _each(bundle: str) -> list[str]:
    """The certificates of a bundle; of one that is not issued yet, that it is not."""
    return [match[0] for match in PEM.finditer(bundle)] or [bundle]


def _watching(person: Person, kind: str, **values: Any) -> str:
    return render(f"client/paddock-profiles.{kind}.j2", account=person.account, home=person.home, lists=PROFILES, **values)
