"""What shows that an account's programs get through, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from inventory.fleet import Fleet
from roles.client.certificates import FILES, PI_CERTIFICATES
from roles.client.home import NOTES
from roles.client.part import DIRECTORY
from roles.client.settings import ClientSettings, home_of

# The seat


def check_an_account_reads_its_certificate_where_programs_look(host: TestinfraHost, settings: ClientSettings) -> None:
    for account, seat in settings.accounts.items():
        for name in FILES:
            link = f"{home_of(account, seat)}/{PI_CERTIFICATES}/{name}"
            assert host.run("runuser -u %s -- test -r %s", account, link).rc == 0, f"{account} cannot read {link}"


def check_nobody_else_reads_an_accounts_key(host: TestinfraHost, settings: ClientSettings) -> None:
    for account in settings.accounts:
        key = f"{DIRECTORY}/{account}/certs/{FILES[-1]}"
        assert host.run("runuser -u nobody -- head -c 1 %s", key).rc != 0, f"{key} is there for everybody to read"


def check_an_accounts_browsers_hold_its_certificate(host: TestinfraHost, settings: ClientSettings, fleet: Fleet) -> None:
    """In one database at least: a Firefox may have no profile yet, or a password before it."""
    for account, seat in settings.accounts.items():
        if seat.browsers and seat.browsers != ("firefox",):
            notes, name = f"{home_of(account, seat)}/{NOTES}/databases", f"Paddock {fleet.name} {seat.client}"
            holding = host.run("runuser -u %s -- sh -c %s %s %s", account, HOLDING, name, notes)
            assert holding.rc == 0, f"no database of {account}'s browsers holds its certificate"


HOLDING = """while read -r _ db; do certutil -L -d "sql:$db" -n "$0" >/dev/null 2>&1 && exit; done <"$1"; exit 1"""
"""Ends well where one of the databases that a file of notes names has a certificate of that name."""

# The bridge

WITH_THE_KEY = """set -eu; . "$0"
printf 'header = "Authorization: Bearer %s"\\n' "$OPENAI_API_KEY" |
curl -sS -m 60 -K - -o /dev/null -w '%{http_code}' "$OPENAI_BASE_URL/models"
"""
"""What the account asks, by the file that its programs read: the key is in no argument list."""


def check_a_bridge_lets_its_account_through(host: TestinfraHost, settings: ClientSettings) -> None:
    for account, _, environment in _bridges(settings):
        status = host.check_output("runuser -u %s -- sh -c %s %s", account, WITH_THE_KEY, environment)
        assert status == "200", f"{account}'s bridge answers {status}"


def check_a_bridge_answers_nobody_without_its_key(host: TestinfraHost, settings: ClientSettings) -> None:
    for account, url, environment in _bridges(settings):
        status = host.check_output("curl -sS -m 60 -o /dev/null -w '%%{http_code}' %s", f"{url}/v1/models")
        assert status == "401", f"{account}'s bridge answers {status} to who does not know its key"
        assert host.run("runuser -u nobody -- head -c 1 %s", environment).rc != 0, f"{environment} is there for everybody to read"


def check_a_bridge_answers_no_web_page(host: TestinfraHost, settings: ClientSettings) -> None:
    for account, url, _ in _bridges(settings):
        for header in ("Origin: https://page.example", "Host: page.example"):
            status = host.check_output("curl -sS -m 60 -o /dev/null -w '%%{http_code}' -H %s %s", header, f"{url}/v1/models")
            assert status == "403", f"{account}'s bridge answers {status} to {header}"


def _bridges(settings: ClientSettings) -> Iterator[tuple[str, str, str]]:
    """The account, where its bridge answers, and the file that says so to its programs."""
    for account, seat in settings.accounts.items():
        if seat.bridge:
            yield account, f"http://{seat.bridge}", f"{DIRECTORY}/{account}/bridge.env"


# pi

AS_PI = r"""set -eu; file=$0/models.json
test -r "$0/ai-server/index.ts"
said() { sed -n "s/^ *\"$1\": \"\([^\"]*\)\",\{0,1\}$/\1/p" "$file"; }
said id
echo
printf 'header = "Authorization: Bearer %s"\n' "$(said apiKey)" | curl -sSf -m 60 -K - "$(said baseUrl)/models"
"""
"""As pi does, by what it is given: the models that it is told of, an empty line, and what the bridge says there are."""


def check_pi_is_told_of_models_that_its_site_serves(host: TestinfraHost, settings: ClientSettings) -> None:
    for account, seat in settings.accounts.items():
        if seat.pi:
            said = host.check_output("runuser -u %s -- sh -c %s %s", account, AS_PI, f"{DIRECTORY}/{account}/pi")
            told, _, listed = said.partition("\n\n")
            missing = set(told.split()) - {name for each in from_json(listed)["data"] for name in (each["id"], *each.get("aliases", ()))}
            assert not missing, f"pi of {account} has models that nobody serves: {', '.join(sorted(missing))}"
