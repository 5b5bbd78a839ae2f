"""A fleet that uses every role and every template, with a name for each text of a person in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Certificate, Knowledge, ModelDigest
from resources import File
from roles.client.settings import bridge_key_name
from roles.front import PEPPER
from roles.gateway.settings import master_key_name
from roles.host_plan import host_plan
from roles.langfuse.settings import MADE, LangfuseImages
from roles.langfuse.settings import secret_name as langfuse_secret
from roles.litellm import settings as litellm
from roles.llama_cpp.releases import releases
from roles.llama_server.settings import api_key_name
from roles.localai.settings import key_name
from roles.users import user_key_name
from tests.unit.roles.small_fleet import HARDWARE, pem

ROOT = "acme-root.pem"
MEMORY = 7838

TRACING = tuple(LangfuseImages.model_fields)
"""The containers of Langfuse."""

HARMLESS: Mapping[str, str] = {
    "Document.fleet": "home",
    "Document.domain": "home.example",
    "Document.networks[]": "192.0.2.0/24",
    "Document.hosts{key}": "box",
    "Document.models{key}": "chat",
    "Document.clients{key}": "laptop",
    "HostEntry.address": "192.0.2.10",
    "FirewallSettings.allow{}[]": "2001:db8:0:1::/64",
    "FirewallSettings.addresses{}[]": "2001:db8::2",
    "DockerSettings.data_root": "/srv/docker",
    "DockerSettings.log_size": "10m",
    "Nvidia.driver": "installed",
    "Nvidia.power_limit_w{key}": "0000:01:00.0",
    "LlamaCppSettings.options{key}": "LLAMA_OWN",
    "LlamaCppSettings.options{}": "off",
    "LlamaCppSettings.programs[]": "llama-quantize",
    "ModelsSettings.directory": "/srv/models",
    "LlamaServerSettings.listen": "0.0.0.0:8080",
    "LlamaServerSettings.preset{key}": "ctx-size",
    "LlamaServerSettings.preset{}": "4096",
    "LlamaServerSettings.memory_max": "24G",
    "LlamaServerSettings.base_image": "debian:13@sha256:" + "5eed" * 16,
    "LlamaServerSettings.environment{key}": "GGML_OWN",
    "LlamaServerSettings.environment{}": "a value",
    "LlamaServerSettings.user": "server",
    "LlamaServerSettings.instances{key}": "far",
    "InstanceSettings.listen": "0.0.0.0:8090",
    "InstanceSettings.gpus[]": "GPU-00000000-0000-0000-0000-000000000000",
    "InstanceSettings.preset{key}": "chat-template-file",
    "InstanceSettings.preset{}": "/root/chat.jinja",
    "InstanceSettings.environment{key}": "GGML_ITS_OWN",
    "InstanceSettings.environment{}": "another value",
    "InstanceSettings.memory_max": "8G",
    "RpcWorkerSettings.listen": "192.0.2.14:50051",
    "RpcWorkerSettings.memory_max": "6G",
    "ModelEntry.preset{key}": "override-kv",
    "ModelEntry.preset{}": "tokenizer.ggml.add_bos_token=bool:false",
    "ModelEntry.aliases[]": "qwen2.5:3b",
    "ModelSource.path": "/home/ann/models/far.gguf",
    "AdminSettings.listen": "0.0.0.0:8079",
    "WatchdogSettings.notify": "logger lost",
    "WatchdogSettings.notify[]": "/usr/bin/logger",
    "WatchdogSettings.notify_as": "nobody",
    "ExpirySettings.notify": "logger over",
    "ExpirySettings.notify[]": "/usr/bin/logger",
    "ExpirySettings.notify_as": "nobody",
    "CaddySettings.listen[]": "192.0.2.12:443",
    "CaddySettings.sites{key}": "ai.home.example",
    "CaddySettings.accept{key}": "2.11.3",
    "CaddySettings.accept{}": "it is here already",
    "CaddyPackage.version": "2.11.4-1",
    "PackageFile.version": "1.20.1-1",
    "Acme.email": "hostmaster@home.example",
    "Acme.directory": "https://acme.example/directory",
    "Site.origins[]": "https://chat.home.example",
    "Site.routes[]": "GET /slots/*",
    "NodeExporterSettings.listen": "192.0.2.15:9100",
    "AlertmanagerSettings.listen": "192.0.2.10:9093",
    "AlertmanagerSettings.receivers{key}": "ann",
    "Mail.to[]": "ann@home.example",
    "Mail.sender": "paddock@home.example",
    "Mail.server": "mail.home.example:587",
    "Mail.user": "paddock",
    "Webhook.url": "https://hooks.home.example/fleet",
    "Ntfy.url": "https://ntfy.home.example/fleet",
    "DeadMan.url": "https://watch.home.example/fleet",
    "PrometheusSettings.listen": "192.0.2.10:9090",
    "PrometheusSettings.leave_out[]": "lobby/gateway",
    "GatewaySettings.listen[]": "192.0.2.15:8001",
    "GatewaySettings.callers[]": "2001:db8:0:1::/64",
    "GatewaySettings.models{key}": "default",
    "GatewaySettings.metrics_listen": "127.0.0.1:9101",
    "GatewaySettings.memory_max": "512M",
    "LitellmSettings.models{key}": "quick",
    "LitellmSettings.memory_max": "2G",
    "LitellmSettings.image": f"docker.io/example/litellm:1@sha256:{'5eed' * 16}",
    "PublicModel.aliases[]": "chat.Q4_0.gguf",
    "Pi.keys_generate[]": "127.0.0.0/8",
    **{f"LangfuseImages.{each}": f"docker.io/example/{each}:1@sha256:{'5eed' * 16}" for each in TRACING},
    **{f"LangfuseMemory.{each}": "1g" for each in TRACING},
    "LangfuseSettings.url": "https://traces.home.example",
    "LangfuseSettings.email": "ann@home.example",
    "LangfuseSettings.listen": "192.0.2.16:3000",
    "LocalaiSettings.image": f"docker.io/example/localai:1@sha256:{'5eed' * 16}",
    "LocalaiSettings.listen": "192.0.2.16:5100",
    "LocalaiSettings.card": "GPU-00000000-0000-0000-0000-000000000000",
    "LocalaiSettings.models{key}": "painter",
    "LocalaiSettings.backend": "cuda12-diffusers",
    "LocalaiSettings.memory": "4096m",
    "ImageModel.model": "segmind/SSD-1B",
    "ImageModel.pipeline": "StableDiffusionXLPipeline",
    "ImageModel.scheduler": "k_dpmpp_2m",
    "ImageModel.size": "512x512",
    "ClientSettings.accounts{key}": "ann",
    "Seat.home": "/home/ann",
    "Seat.bridge": "127.0.0.1:8399",
}
"""What a person may write, by model and field: `{key}` is a key of a mapping, `{}` a value, `[]` an element of a list."""


def fleet(text: Mapping[str, str] = HARMLESS) -> Fleet:
    """What the inventory says, as far as one can be made of it that no file was read for."""
    said = document(text)
    hosts = {name: {"name": name, **host} for name, host in said["hosts"].items()}
    return Fleet.model_validate({**{key: value for key, value in said.items() if key != "fleet"}, "name": said["fleet"], "hosts": hosts})


def document(text: Mapping[str, str] = HARMLESS) -> dict[str, Any]:
    """An inventory: `box` serves, `rig` does so as an account, `door` is the proxy in front of them, `desk` is where a person sits,
    `crew` computes for `box`, `lobby` has the gateway before it."""
    box, chat, client = (text[f"Document.{name}{{key}}"] for name in ("hosts", "models", "clients"))
    site = text["CaddySettings.sites{key}"]
    far = {text["LlamaServerSettings.instances{key}"]: _instance(text)}
    watchdog = {"notify": text["WatchdogSettings.notify"], "notify_as": text["WatchdogSettings.notify_as"]}
    expiry = {"notify": [text["ExpirySettings.notify[]"], "over"], "notify_as": text["ExpirySettings.notify_as"]}
    build = {text["LlamaCppSettings.options{key}"]: text["LlamaCppSettings.options{}"]}
    serving: dict[str, Any] = {
        "base": {"time": "elsewhere"},
        "llama_cpp": {"options": build, "programs": [text["LlamaCppSettings.programs[]"]]},
        "models": {"directory": text["ModelsSettings.directory"]},
    }
    hosts: dict[str, Any] = {
        box: {
            "address": text["HostEntry.address"],
            "roles": {
                **serving,
                "docker": {"data_root": text["DockerSettings.data_root"], "log_size": text["DockerSettings.log_size"]},
                "llama_server": {
                    "listen": text["LlamaServerSettings.listen"],
                    "models": [chat],
                    "encrypted": False,
                    "preset": {text["LlamaServerSettings.preset{key}"]: text["LlamaServerSettings.preset{}"]},
                    "memory_max": text["LlamaServerSettings.memory_max"],
                    "instances": {**far, "split": {"model": chat, "listen": "0.0.0.0:8095", "workers": ["crew"]}},
                    "environment": {
                        text["LlamaServerSettings.environment{key}"]: text["LlamaServerSettings.environment{}"],
                        "TOKEN": {"secret": "own"},
                    },
                    "api_key": True,
                },
                "admin": {"listen": text["AdminSettings.listen"]},
                "watchdog": watchdog,
                "alertmanager": {
                    "listen": text["AlertmanagerSettings.listen"],
                    "receivers": {
                        text["AlertmanagerSettings.receivers{key}"]: {
                            "mail": {
                                "to": [text["Mail.to[]"]],
                                "sender": text["Mail.sender"],
                                "server": text["Mail.server"],
                                "user": text["Mail.user"],
                                "password": {"secret": "own"},
                            }
                        },
                        "hook": {"webhook": {"url": text["Webhook.url"], "token": {"secret": "own"}}},
                        "bell": {"ntfy": {"url": text["Ntfy.url"], "token": {"secret": "own"}}},
                        "chat": {"telegram": {"chat": 1, "token": {"secret": "own"}}},
                    },
                    "dead_man": {"url": text["DeadMan.url"]},
                },
                "prometheus": {"listen": text["PrometheusSettings.listen"], "leave_out": [text["PrometheusSettings.leave_out[]"]]},
                "firewall": {
                    "allow": {"8080": [text["FirewallSettings.allow{}[]"]]},
                    "addresses": {"door": [text["FirewallSettings.addresses{}[]"]]},
                },
            },
        },
        "rig": {
            "address": "192.0.2.11",
            "roles": {
                "gpu": {
                    "nvidia": {
                        "driver": text["Nvidia.driver"],
                        "power_limit_w": {text["Nvidia.power_limit_w{key}"]: 90},
                    },
                    "amd": {"gtt_mib": MEMORY},
                },
                **serving,
                "llama_server": {
                    "models": [chat],
                    "user": text["LlamaServerSettings.user"],
                    "instances": {name: {**each, "gpus": [text["InstanceSettings.gpus[]"]]} for name, each in far.items()},
                },
                "watchdog": {**watchdog, "notify": [text["WatchdogSettings.notify[]"], "lost"]},
            },
        },
        "hull": {
            "address": "192.0.2.17",
            "roles": {
                **serving,
                "docker": {},
                "llama_server": {"models": [chat], "runtime": "container", "base_image": text["LlamaServerSettings.base_image"]},
            },
        },
        "door": {
            "address": "192.0.2.12",
            "roles": {
                "caddy": {
                    "listen": [text["CaddySettings.listen[]"]],
                    "sites": {
                        site: {"upstream": box, "origins": [text["Site.origins[]"]], "routes": [text["Site.routes[]"]]},
                        "public.example": {
                            "upstream": box,
                            "acme": {"email": text["Acme.email"], "directory": text["Acme.directory"], "root": ROOT},
                        },
                    },
                    "package": {"path": "caddy.deb", "sha256": "5eed" * 16, "version": text["CaddyPackage.version"]},
                    "accept": {text["CaddySettings.accept{key}"]: text["CaddySettings.accept{}"]},
                    "expiry": {**expiry, "notify": text["ExpirySettings.notify"]},
                }
            },
        },
        "desk": {
            "address": "192.0.2.13",
            "roles": {
                "client": {
                    "accounts": {
                        text["ClientSettings.accounts{key}"]: {
                            "client": client,
                            "home": text["Seat.home"],
                            "site": site,
                            "browsers": ["chromium", "chrome", "brave", "brave-flatpak", "firefox"],
                            "bridge": text["Seat.bridge"],
                            "pi": True,
                        }
                    },
                    "expiry": {**expiry, "days": 20},
                }
            },
        },
    }
    hosts["crew"] = {
        "address": "192.0.2.14",
        "roles": {
            "llama_cpp": serving["llama_cpp"],
            "rpc_worker": {
                "listen": text["RpcWorkerSettings.listen"],
                "memory_max": text["RpcWorkerSettings.memory_max"],
                "cache": True,
            },
        },
    }
    hosts["lobby"] = {
        "address": "192.0.2.15",
        "roles": {
            "firewall": {},
            "postgres": {},
            "node_exporter": {"listen": text["NodeExporterSettings.listen"]},
            "gateway": {
                "listen": [text["GatewaySettings.listen[]"]],
                "callers": [text["GatewaySettings.callers[]"]],
                "upstream": [box],
                "models": {
                    text["GatewaySettings.models{key}"]: {"model": chat, "upstream": box, "aliases": [text["PublicModel.aliases[]"]]}
                },
                "database": {"postgres": "lobby"},
                "metrics_listen": text["GatewaySettings.metrics_listen"],
                "memory_max": text["GatewaySettings.memory_max"],
                "master_key": True,
                "pi": {"model": text["GatewaySettings.models{key}"], "keys_generate": [text["Pi.keys_generate[]"]]},
            },
        },
    }
    hosts["traces"] = {
        "address": "192.0.2.16",
        "roles": {
            "docker": {
                "toolkit": {"url": "https://mirror.home.example/toolkit.deb", "sha256": "5eed" * 16, "version": text["PackageFile.version"]}
            },
            "localai": {
                **{name: text[f"LocalaiSettings.{name}"] for name in ("image", "listen", "card", "backend", "memory")},
                "models": {
                    text["LocalaiSettings.models{key}"]: {
                        name: text[f"ImageModel.{name}"] for name in ("model", "pipeline", "scheduler", "size")
                    }
                },
            },
            "langfuse": {
                "images": {each: text[f"LangfuseImages.{each}"] for each in TRACING},
                "memory": {each: text[f"LangfuseMemory.{each}"] for each in TRACING},
                "listen": text["LangfuseSettings.listen"],
                "url": text["LangfuseSettings.url"],
                "email": text["LangfuseSettings.email"],
            },
        },
    }
    hosts["lobby"]["roles"]["litellm"] = {
        "upstream": [box],
        "models": {text["LitellmSettings.models{key}"]: {"model": chat, "upstream": box}},
        "memory_max": text["LitellmSettings.memory_max"],
    }
    hosts["traces"]["roles"]["litellm"] = {
        "upstream": [box],
        "runtime": "container",
        "image": text["LitellmSettings.image"],
        "langfuse": "traces",
    }
    models = {
        chat: {
            "preset": {text["ModelEntry.preset{key}"]: text["ModelEntry.preset{}"]},
            "aliases": [text["ModelEntry.aliases[]"]],
        },
        "far-away": {"source": {"path": text["ModelSource.path"], "sha256": "5eed" * 16}},
    }
    return {
        "fleet": text["Document.fleet"],
        "domain": text["Document.domain"],
        "networks": [text["Document.networks[]"]],
        "hosts": hosts,
        "models": models,
        "clients": {client: {"admin": True}},
        "users": {"alice": {"models": [text["GatewaySettings.models{key}"]]}},
    }


def _instance(text: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "model": "far-away",
        "listen": text["InstanceSettings.listen"],
        "preset": {text["InstanceSettings.preset{key}"]: text["InstanceSettings.preset{}"]},
        "environment": {text["InstanceSettings.environment{key}"]: text["InstanceSettings.environment{}"]},
        "memory_max": text["InstanceSettings.memory_max"],
    }


def context(fleet: Fleet) -> Knowledge:
    """What is known of it. Of `rig` and of its cards, nothing is."""
    hardware: dict[str, Hardware] = {name: HARDWARE for name in fleet.hosts if name != "rig"}
    keys = [f"admin.{name}" for name in fleet.hosts] + [api_key_name(name) for name in fleet.hosts]
    seats = [bridge_key_name("desk", account) for account in fleet.hosts["desk"].roles.client.accounts]  # type: ignore[attr-defined]
    gateway = [
        PEPPER,
        master_key_name("lobby"),
        *(name(host) for name in (litellm.master_key_name, litellm.salt_key_name) for host in ("lobby", "traces")),
        *map(user_key_name, fleet.users),
    ]
    traces = [langfuse_secret(what, "traces") for what in MADE]
    sites = [entrance.name for entrance in fleet.entrances()]
    return Knowledge(
        hardware=hardware,
        releases=releases(fleet, hardware, {}),
        ca=pem("the CA"),
        roots={ROOT: pem("the root")},
        secrets=dict.fromkeys((*keys, *seats, *gateway, *traces, key_name("traces"), "own"), "sk-of-a-server-or-of-a-seat-or-of-users"),
        servers={name: Certificate(f"chain of {name}", f"key of {name}") for name in sites},
        clients={name: Certificate(pem(name)) for name in fleet.clients},
        identities={name: Certificate(pem(name), f"key of {name}") for name in fleet.clients},
        models=dict.fromkeys(fleet.models, ModelDigest("5eed" * 16, 62656)),
    )


def files(fleet: Fleet, known: Knowledge) -> list[File]:
    """All that would land on its hosts, in the order of their plans."""
    plans = [host_plan(host, fleet, known) for host in fleet.hosts.values()]
    return [each for plan in plans for part in plan.values() for each in part if isinstance(each, File)]
