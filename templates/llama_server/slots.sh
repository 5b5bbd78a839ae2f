#!/bin/sh
# Written by Paddock. Makes the directories of a release's saved slots, and drops those of other releases beside them.
# sh slots.sh DIRECTORY…
set -eu

for path; do
  for other in "${path%/*}"/*/.paddock-slots; do
    [ -e "$other" ] || continue
    [ "${other%/*}" = "$path" ] || rm -rf "${other%/*}"
  done
  [ -d "$path" ] || mkdir -m 700 "$path" || [ -d "$path" ] # another server's start may have been quicker
  [ -e "$path/.paddock-slots" ] || : >"$path/.paddock-slots"
done
