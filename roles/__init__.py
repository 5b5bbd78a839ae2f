"""The roles, in the order in which a fleet takes them on. A role's modules are loaded when they are needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roles.role import RoleSettings

ROLES = (
    "base",
    "firewall",
    "gpu",
    "docker",
    "llama_cpp",
    "models",
    "rpc_worker",
    "llama_server",
    "admin",
    "postgres",
    "localai",
    "langfuse",
    "gateway",
    "litellm",
    "caddy",
    "client",
    "watchdog",
    "node_exporter",
    "alertmanager",
    "prometheus",
)


@cache
def settings_of(role: str) -> type[RoleSettings]:
    """The settings class of a role: `llama_cpp` → `roles.llama_cpp.settings.LlamaCppSettings`."""
    name = "".join(part.capitalize() for part in role.split("_")) + "Settings"
    settings: type[RoleSettings] = getattr(import_module(f"roles.{role}.settings"), name)
    return settings


@cache
def plan_of(role: str) -> ModuleType:
    """The module with the role's `plan` or `plan_beside`, and its `needs`, `refusals` and `remarks` where it has them."""
    return import_module(f"roles.{role}.plan")


def checks_of(role: str) -> ModuleType:
    """The module with the role's `check_*` functions."""
    return import_module(f"roles.{role}.checks")
