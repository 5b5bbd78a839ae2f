from __future__ import annotations

from collections.abc import Mapping

from roles.role import RoleSettings


class PostgresSettings(RoleSettings):
    """The distribution's PostgreSQL, with the database `paddock_gateway` for the gateway of the same host.

    The gateway's account reaches it by the Unix socket alone, without a password, and owns nothing but the tables in it. Paddock changes no
    other database and nothing of the configuration. Data stay when the role leaves.
    """

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"gateway": f"there is no gateway on {host} that would have a database there: remove postgres from this host"}
