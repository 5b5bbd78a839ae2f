#!/bin/sh
# Written by Paddock. Makes the directories of a release's saved slots, and drops those of other releases beside them.
# sh slots.sh DIRECTORY…
set -eu

for path; do
  for other in "${path%/*}"/*/.paddock-slots; do
    [ -e "$other" ] || continue
    [ "${other%/*}" = "$path" ] || rm -rf "${other%/*}"
  done
  mkdir -p -m 700 "$path"
  [ -e "$path/.paddock-slots" ] || : >"$path/.paddock-slots"
done
