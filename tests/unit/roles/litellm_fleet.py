"""The small fleet with LiteLLM before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml
from small_fleet import Small

from inventory.fleet import Fleet
from inventory.knowledge import Certificate, Knowledge
from resources import File, Resource
from roles.front import PEPPER
from roles.host_plan import host_plan
from roles.litellm.plan import ACCESS, CONFIGURATION
from roles.litellm.settings import master_key_name, salt_key_name
from roles.llama_server.settings import api_key_name
from roles.users import user_key_name

SALT, ALICES = "pepper-of-thirty-two-letters-or-more", "sk-of-alice-and-nobody-else"
MASTER, OWN_SALT, SERVERS = "sk-of-the-master-alone", "sk-that-litellm-encrypts-with", "sk-of-the-server"


class Fronted:
    """The small fleet with LiteLLM on `one`, and with users."""

    def __init__(self, **settings: Any) -> None:
        self.small = Small()
        self.small.roles["one"].pop("caddy")
        self.small.roles["one"]["litellm"] = settings
        self.small.secrets = {
            PEPPER: SALT,
            user_key_name("alice"): ALICES,
            master_key_name("one"): MASTER,
            salt_key_name("one"): OWN_SALT,
            api_key_name("ai"): SERVERS,
        }
        self.users: dict[str, Any] = {}
        self.services: dict[str, Mapping[str, str]] = {}

    @property
    def fleet(self) -> Fleet:
        return Fleet.model_validate({**self.small.fleet.model_dump(exclude_unset=True), "users": self.users})

    @property
    def known(self) -> Knowledge:
        hosts = {
            name: Certificate(f"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{name}", "k") for name in self.small.roles
        }
        return replace(self.small.context, secrets=self.small.secrets, hosts=hosts, services=self.services)

    @property
    def plan(self) -> dict[str, Resource]:
        parts = host_plan(self.fleet.hosts["one"], self.fleet, self.known)
        return {each.id: each for part in parts.values() for each in part}

    def file(self, path: str) -> File:
        file = self.plan[f"file:{path}"]
        assert isinstance(file, File)
        return file

    def text(self, path: str) -> str:
        return self.file(path).data.decode()

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.text(CONFIGURATION))
        return found

    @property
    def access(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text(ACCESS))
        return found
