"""Whether the private key that the inventory names can be used: found out before a host is asked to let it in."""

from __future__ import annotations

from pathlib import Path

from paramiko import Agent, PasswordRequiredException, PKey, SSHException


def in_agent(key: Path) -> bool:
    """Whether the SSH agent has it, told by the public half beside it. Then the file need not be opened, and may have a passphrase."""
    public = key.with_name(f"{key.name}.pub")
    kept = public.read_text().split()[1:2] if public.is_file() else []
    return bool(kept) and any(each.get_base64() in kept for each in Agent().get_keys())


def unusable(key: Path) -> str | None:
    """Why the file is of no use, in words; None where it is well."""
    try:
        PKey.from_path(key)
    except OSError as error:
        return f"the key {key} cannot be read ({error.strerror}): name the right one with `ssh_key:`"
    except (PasswordRequiredException, TypeError):  # the second is cryptography's word for a passphrase that is missing
        return f"the key {key} has a passphrase: hand it to your SSH agent first, with `ssh-add {key}`"
    except (SSHException, ValueError):
        return f"{key} is not a private key: name the right one with `ssh_key:`"
    return None
