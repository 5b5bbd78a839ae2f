"""What shows that LiteLLM answers, and whom."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from roles.litellm import container, plan
from roles.litellm.settings import LitellmSettings, called_at


def check_it_is_alive(host: TestinfraHost, settings: LitellmSettings) -> None:
    answer, status = _asked(host, settings, "/health/liveliness")
    assert status == "200", f"{status} {answer}"


def check_nobody_gets_an_answer_without_a_key(host: TestinfraHost, settings: LitellmSettings) -> None:
    for key in ("", 'header = "Authorization: Bearer sk-of-nobody"'):
        answer, status = _asked(host, settings, "/v1/models", key)
        assert status == "401", f"{status} {answer}"


def check_each_name_is_offered(host: TestinfraHost, settings: LitellmSettings) -> None:
    """The master key is read on the host, and stands in no command line there."""
    _, secrets = _secret_files(settings)
    key = f"$(sed -n 's/^LITELLM_MASTER_KEY=//p' {secrets} | tr -d '\"\\047')"
    answer, status = _asked(host, settings, "/v1/models", f'header = "Authorization: Bearer {key}"')
    assert status == "200", f"{status} {answer}"
    there = {each["id"] for each in from_json(answer)["data"]}
    missing = set(settings.public_models()) - there
    assert not missing, f"it does not offer {', '.join(sorted(missing))}"


def check_only_root_and_litellm_read_its_secrets(host: TestinfraHost, settings: LitellmSettings) -> None:
    for path in _secret_files(settings):
        assert host.run("runuser -u nobody -- cat %s", path).failed, f"any account reads {path}"


def _secret_files(settings: LitellmSettings) -> tuple[str, str]:
    """Where the host has who may call, and the variables that are secret."""
    return (container.ACCESS, container.SECRETS) if settings.runtime == "container" else (plan.ACCESS, plan.SECRETS)


def _asked(host: TestinfraHost, settings: LitellmSettings, path: str, header: str = "") -> tuple[str, str]:
    """The answer, and its status. `header` is a line for curl's configuration, in which the host's shell may fill something in."""
    url = f"http://{called_at(settings.listen)}{path}"
    script = f"curl --silent --max-time 60 --write-out '\\n%{{http_code}}' --config - {url} <<END\n{header}\nEND"
    text, _, status = host.run(script).stdout.strip().rpartition("\n")
    return text, status
