"""What `check` says of a gateway that the rest of the fleet does not bear out."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import InventoryError
from inventory.load import load

FLEET = """\
fleet: demo
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp:
      models:
      llama_server: {{models: [qwen], listen: "{serves}"}}
      gateway: {here}
      {more}
  door:
    address: 192.0.2.11
    roles:
      base:
      {there}
models:
  qwen: {{aliases: [q]}}
  spare:
users:
  alice: {{models: [{named}]}}
clients: {clients}
"""


def told(
    tmp_path: Path,
    here: str = "",
    there: str = "",
    more: str = "",
    serves: str = "127.0.0.1:8080",
    named: str = "qwen",
    clients: str = "{}",
) -> list[str]:
    """Without the place, which other tests look at."""
    path = tmp_path / "home.yml"
    path.write_text(FLEET.format(here=here, there=there, more=more, serves=serves, named=named, clients=clients))
    try:
        load(path)
    except InventoryError as error:
        return [problem.partition(": ")[2] for problem in error.problems]
    return []


AT = "hosts.ai.roles.gateway"


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ("{upstream: halo}", 'no host is called "halo"'),
        ("{upstream: ai/chat}", 'llama_server on ai has no instances "chat"'),
        ("{upstream: door}", 'host "door" carries no llama_server that could answer'),
        ("{models: {lost: {}}}", 'no model is called "lost": define it under models'),
        ("{models: {house: {model: quen}}}", 'no model is called "quen" (did you mean "qwen"?): define it under models'),
        ("{models: {spare: {}}}", 'no llama-server behind the gateway serves "spare": see its upstream'),
        ("{models: {qwen: {upstream: halo}}}", 'no host is called "halo"'),
        ("{models: {a: {model: qwen, aliases: [b]}, b: {model: qwen}}}", 'models: "b" would be b and a: give each name to one model'),
        ("{models: {a: {model: qwen}}, pi: {model: b}}", 'pi.model: no public name is "b"'),
        ("{database: {postgres: halo}}", 'no host is called "halo"'),
        ("{database: {postgres: door}}", "a gateway reaches PostgreSQL by the socket of its own host: name ai"),
        ("{database: {postgres: ai}}", "there is no PostgreSQL on ai: add the role postgres to it"),
        ("{database: mysql}", '"mysql" is not sqlite or a mapping'),
        ("{callers: [192.0.2.0/24]}", "nothing on ai keeps others away: add the role firewall"),
        ("{callers: [192.0.2.7/24]}", '"192.0.2.7/24" is neither an address nor a network'),
        ('{listen: "0.0.0.0:80"}', "0.0.0.0:80 is a port that only root may open: take one above 1023"),
        ('{listen: "127.0.0.1:8080"}', "gateway cannot listen on 127.0.0.1:8080: on ai, llama_server listens on 127.0.0.1:8080"),
        ("{listen: []}", "should be a list of 1 or more, this is empty"),
        ('{metrics_listen: "lo:99999"}', "port 99999 is not between 1 and 65535"),
        ("{pi: {profile: pi4}}", '"pi4" is not one of pi5-fast'),
        ("{queue: {wait_s: 0}}", "queue.wait_s"),
        ("{default_limits: {requests: 0}}", "default_limits.requests"),
    ],
)
def test_each_is_told_with_what_to_do(here: str, words: str, tmp_path: Path) -> None:
    found = told(tmp_path, here)
    assert len(found) == 1 and words in found[0], found


def test_one_without_a_server_is_told_to_name_some(tmp_path: Path) -> None:
    (found,) = told(tmp_path, there="gateway:")
    assert found == (
        'hosts.door.roles.gateway: host "door" carries no llama_server that could answer: '
        "name llama-servers of other hosts in upstream, or add the role llama_server to door"
    )


def test_a_server_out_of_its_reach_is_told(tmp_path: Path) -> None:
    (found,) = told(tmp_path, there="gateway: {upstream: ai}")
    assert "llama_server on ai listens on 127.0.0.1:8080, out of door's reach: set for example 0.0.0.0:8080" in found
    assert not told(tmp_path, there="gateway: {upstream: ai}", serves="0.0.0.0:8080")


def test_a_database_without_a_gateway_is_refused(tmp_path: Path) -> None:
    (found,) = told(tmp_path, there="postgres:")
    assert (
        found == "hosts.door.roles.postgres: there is no gateway on door that would have a database there: remove postgres from this host"
    )
    assert not told(tmp_path, here="{database: {postgres: ai}}", more="postgres:")


def test_a_user_may_ask_by_every_name_that_a_gateway_gives(tmp_path: Path) -> None:
    here = "{models: {house: {model: qwen, aliases: [house.gguf]}}}"
    assert not told(tmp_path, here, named="house, house.gguf, q")
    (found,) = told(tmp_path, here, named="horse")
    assert found.startswith('users.alice.models.0: no model is called "horse"') or 'no model is called "horse"' in found


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("{gateway: halo}", 'no host is called "halo"'),
        ("{gateway: ai}", "the way to a gateway is not encrypted, so it has to be on the reverse proxy's own host"),
        ("{gateway: door}", "there is no gateway on door: add the role gateway to it"),
        ("{litellm: halo}", 'no host is called "halo"'),
        ("{litellm: ai}", "there is no LiteLLM on ai: add the role litellm to it"),
    ],
)
def test_a_site_leads_to_a_gateway_of_its_own_host(there: str, words: str, tmp_path: Path) -> None:
    (found,) = told(tmp_path, there=f"caddy: {{sites: {{ai.home.example: {{upstream: {there}}}}}}}")
    assert words in found


def test_a_site_before_a_gateway_opens_no_routes(tmp_path: Path) -> None:
    more = "caddy: {sites: {ai.home.example: {upstream: {gateway: ai}, routes: [GET /metrics]}}}"
    (found,) = told(tmp_path, more=more)
    assert "a gateway says itself what its users may ask for: leave routes out" in found
    (found,) = told(tmp_path, '{listen: "tailscale0:8001"}', more="caddy: {sites: {ai.home.example: {upstream: {gateway: ai}}}}")
    assert "the gateway of ai listens on network interfaces alone: add an address to its listen, such as 127.0.0.1:8001" in found


def test_a_site_leads_to_litellm_of_its_own_host_and_opens_no_routes(tmp_path: Path) -> None:
    site = "caddy: {{sites: {{ai.home.example: {{upstream: {{litellm: ai}}{}}}}}}}"
    assert not told(tmp_path, more=f"litellm:\n      {site.format('')}")
    (found,) = told(tmp_path, more=f"litellm:\n      {site.format(', routes: [GET /metrics]')}")
    assert "LiteLLM says itself what its users may ask for: leave routes out" in found
    (found,) = told(tmp_path, more="litellm:", there=site.format(""))
    assert "the way to LiteLLM is not encrypted, so it has to be on the reverse proxy's own host: add the role litellm to door" in found


def test_a_site_leads_to_langfuse_of_its_own_host_by_the_url_that_it_sends_people_to(tmp_path: Path) -> None:
    image = f"docker.io/example/any:1@sha256:{'5eed' * 16}"
    images = ", ".join(f"{each}: '{image}'" for each in ("web", "worker", "postgres", "clickhouse", "valkey", "store"))
    langfuse = f"docker:\n      langfuse: {{{{email: ann@home.example, images: {{{{{images}}}}}{{}}}}}}"
    site = "caddy: {{sites: {{traces.home.example: {{upstream: {{langfuse: ai}}{}}}}}}}"
    whole, url = site.format(""), ", url: 'https://traces.home.example'"
    assert not told(tmp_path, more=f"{langfuse.format(url)}\n      {whole}")
    (found,) = told(tmp_path, more=f"{langfuse.format('')}\n      {whole}")
    assert "sent to http://127.0.0.1:3000: set hosts.ai.roles.langfuse.url to https://traces.home.example" in found
    (found,) = told(tmp_path, more=f"{langfuse.format(url)}\n      {site.format(', routes: [GET /metrics]')}")
    assert "Langfuse says itself what its users may ask for: leave routes out" in found
    (found,) = told(tmp_path, more=whole)
    assert "there is no Langfuse on ai: add the role langfuse to it" in found
    (found,) = told(tmp_path, more=langfuse.format(url), there=whole)
    assert "the way to Langfuse is not encrypted, so it has to be on the reverse proxy's own host: add the role langfuse to door" in found


def test_a_bridge_has_no_key_for_a_gateway(tmp_path: Path) -> None:
    caddy = "caddy: {sites: {ai.home.example: {upstream: {gateway: ai}}}}"
    seat = "client: {accounts: {ann: {client: laptop, bridge: 127.0.0.1:8399}}}"
    (found,) = told(tmp_path, there=seat, more=caddy, clients="{laptop: }")
    assert "ai.home.example leads to a gateway, which asks each user for a key, and a bridge shows none" in found
