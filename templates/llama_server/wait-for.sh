#!/bin/sh
# Written by Paddock. Waits for device nodes and files that are not there yet while the machine boots. 90 s after its
# start nothing is waited for any more: a card that is gone holds nobody up.
# sh wait-for.sh PATH…
set -eu

for path; do
  while [ ! -e "$path" ]; do
    read -r up_s _ </proc/uptime
    if [ "${up_s%.*}" -ge 90 ]; then
      echo "<4>$path is not there; llama-server starts without it"
      break
    fi
    sleep 1
  done
done
