# Answers sudo's question for its password as long as this connection lasts. Reads the password from standard input, a
# line, keeps it in memory alone, and prints the path of the program for SUDO_ASKPASS, which asks here. Ends when
# standard input does, however that comes. No value is passed in: all of this is an argument of `sh -c`.
set -eu
umask 077
base=${XDG_RUNTIME_DIR:-$HOME}

# is_left PATH - whether a killed run has left it. Earlier versions kept the password itself, in a file.
is_left() {
  [ -f "$1" ] && return 0
  holder=${1%.*}
  ! kill -0 "${holder##*.}" 2>/dev/null
}

for each in "$HOME"/.paddock-askpass.* "$base"/.paddock-askpass.*; do
  if [ -e "$each" ] && is_left "$each"; then
    rm -rf "$each"
  fi
done

IFS= read -r password
at=$(mktemp -d "$base/.paddock-askpass.$$.XXXXXXXX")
mkfifo "$at/answer"
cat >"$at/ask" <<PROGRAM
#!/bin/sh
# One after the other: two at a time would share the letters.
exec 9<"$at/ask"
flock 9
until IFS= read -r password <"$at/answer"; do
  [ -p "$at/answer" ] || exit 1
done
printf '%s\n' "\$password"
PROGRAM
chmod 700 "$at/ask"

# leave - takes all of it away. Who waits at the pipe is let go.
leave() {
  trap "" HUP INT TERM
  exec 4<>"$at/answer"
  rm -rf "$at"
}

trap leave EXIT
trap "exit 0" HUP INT TERM
exec 3<&0
{
  cat <&3
  kill "$$"
} >/dev/null 2>&1 &
echo "$at/ask"
exec >/dev/null 2>&1
trap "" PIPE # who has gone before it has read harms nothing
while [ -p "$at/answer" ]; do
  printf '%s\n' "$password" >"$at/answer" || true
done
