#!/bin/sh
# Written by Paddock.
#
# Before the image's own entry: fetches the back end where its volume has none that is whole.
set -eu
cd /
if [ ! -e "/backends/$PADDOCK_BACKEND/.paddock-whole" ]; then
  rm -rf "/backends/$PADDOCK_BACKEND"
  ./local-ai backends install "$PADDOCK_BACKEND"
  touch "/backends/$PADDOCK_BACKEND/.paddock-whole"
fi
exec /entrypoint.sh
