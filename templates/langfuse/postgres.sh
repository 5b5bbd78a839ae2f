#!/bin/sh
# Written by Paddock.
#
# Before the image's own entry: gives a database that is there already the password of today. A new one gets it from the
# image.
set -eu
if [ -s "$PGDATA/PG_VERSION" ]; then
  password=$(cat "$POSTGRES_PASSWORD_FILE")
  echo "ALTER ROLE langfuse PASSWORD '$password';" |
    gosu postgres postgres --single -D "$PGDATA" langfuse >/dev/null
fi
exec docker-entrypoint.sh postgres
