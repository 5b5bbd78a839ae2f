#!/bin/sh
# Written by Paddock.
#
# Before the image's own entry: fetches the back end where its volume has none that is whole, and gives LocalAI its
# key, which it takes from a variable alone.
set -eu
cd /
if [ ! -e "/backends/$PADDOCK_BACKEND/.paddock-whole" ]; then
  rm -rf "/backends/$PADDOCK_BACKEND"
  ./local-ai backends install "$PADDOCK_BACKEND"
  touch "/backends/$PADDOCK_BACKEND/.paddock-whole"
fi
LOCALAI_API_KEY=$(cat /run/secrets/key)
export LOCALAI_API_KEY
exec /entrypoint.sh
