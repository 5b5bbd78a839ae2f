"""The tables, the same for SQLite and Postgres. Imported by migrations alone: what serves does without SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, ForeignKey, Index, Integer, MetaData, Table, Text

METADATA = MetaData(
    naming_convention={"pk": "%(table_name)s_pkey", "fk": "%(table_name)s_%(column_0_name)s_fkey", "ix": "%(table_name)s_%(column_0_name)s"}
)

USERS = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("models", Text),  # JSON; null: all
    Column("limits", Text),  # JSON; null: the configuration's
    Column("weight", Double, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("username", Text, ForeignKey("users.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("digest", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("created", Double, nullable=False),  # seconds since 1970, as the two below
    Column("expires", Double),
    Column("revoked", Double),
    Column("disabled", Boolean, nullable=False),
    Index("keys_digest", "digest", unique=True),
)

CHANGES = Table(
    "changes",  # one row: it counts each change of users and keys, by which other processes see that there was one
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("counter", BigInteger, nullable=False),
)

LLAMA_REQUESTS = Table(
    "llama_requests",
    METADATA,
    Column("username", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("ttft_ms", Double),
    Column("queued_ms", Double, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("request_bytes", BigInteger, nullable=False),
    Column("response_bytes", BigInteger, nullable=False),
    # SQLite has no type for a time: there it is ISO 8601 text in UTC
    Column("created_at", DateTime(timezone=True).with_variant(Text(), "sqlite"), nullable=False, index=True),
    Column("request_id", Text, nullable=False),
    # What was written together, and the row's place in it: a batch that is written again is known again
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
)

LENDINGS = Table(
    "lendings",
    METADATA,
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("window_s", Integer, primary_key=True, autoincrement=False),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
)
