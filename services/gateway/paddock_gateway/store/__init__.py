"""Users, keys, the request log and lent limits, in SQLite or Postgres. `store.opening.open_store` is the way in.

SQLAlchemy and Alembic know the schema and make it (`schema`, `migrate`); what serves speaks SQL to sqlite3 and asyncpg alone, which keeps
their 25 MiB out of the process.
"""
