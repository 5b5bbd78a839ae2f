#!/bin/sh
# A host gives its models to other hosts of the fleet for the time of a run: one unit, which ends by itself after half a
# day at the latest. Before this come: $listen (ADDRESS:PORT), $proof (the sha256 of the token: the token itself never
# lies here), and files(), which prints a line SHA256 PATH each.
# shellcheck disable=SC2154 # they come before this
set -eu
umask 077
own=/run/paddock/offer
systemctl stop paddock-offer 2>/dev/null || true
systemctl reset-failed paddock-offer 2>/dev/null || true
rm -rf "$own"
mkdir -p /run/paddock
chmod 755 /run/paddock
mkdir -m 755 "$own" "$own/files"
files | while read -r sum path; do
  ln -s "$path" "$own/files/$sum"
done
printf '%s\n' "$proof" >"$own/proof"
chmod 644 "$own/proof"
cat >"$own/answer.sh" <<'END'
#!/bin/sh
# One request on standard input, the answer on standard output. GET /SHA256, from the byte on that Range says, for who
# knows the token.
set -eu
LC_ALL=C
cr=$(printf '\r') given='' from=0 sum=none

# answer STATUS LENGTH
answer() {
  printf 'HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %s\r\n' "$1" "$2"
}

# refuse STATUS
refuse() {
  answer "$1" 0
  echo "$cr"
  exit 0
}

read -r verb path _ || exit 0
while read -r line; do
  line=${line%"$cr"}
  [ -n "$line" ] || break
  case $line in
    [Aa]uthorization:\ Bearer\ *) given=${line#*Bearer } ;;
    [Rr]ange:\ bytes=*-)
      from=${line#*=}
      from=${from%-}
      ;;
  esac
done
given=$(printf %s "$given" | sha256sum)
read -r proof </run/paddock/offer/proof || refuse '403 Forbidden'
[ "${given%% *}" = "$proof" ] || refuse '403 Forbidden'
case $verb/${path#/} in
  GET/*[!0-9a-f]*) ;;
  GET/?*) sum=${path#/} ;;
esac
file=/run/paddock/offer/files/$sum
[ -r "$file" ] || refuse '404 Not Found'
size=$(stat -L -c %s "$file") || refuse '404 Not Found'
case $from in
  '' | *[!0-9]*) from=0 ;;
esac
[ "$from" -lt "$size" ] || refuse '416 Range Not Satisfiable'
if [ "$from" = 0 ]; then
  answer '200 OK' "$size"
else
  answer '206 Partial Content' $((size - from))
  printf 'Content-Range: bytes %s-%s/%s\r\n' "$from" $((size - 1)) "$size"
fi
printf 'Content-Type: application/octet-stream\r\n\r\n'
exec tail -c +$((from + 1)) "$file"
END
chmod 644 "$own/answer.sh"
systemd-run --quiet --collect --unit=paddock-offer \
  --description='Models for other hosts of the fleet, while paddock runs' \
  -p DynamicUser=yes -p RuntimeMaxSec=12h -p ProtectHome=read-only -p NoNewPrivileges=yes -p TasksMax=64 \
  systemd-socket-activate --accept --inetd --listen="$listen" sh "$own/answer.sh"
for _ in $(seq 50); do
  [ -z "$(ss -Hltn "sport = :${listen##*:}")" ] || exit 0
  systemctl is-active --quiet paddock-offer || break
  sleep 0.1
done
echo "does not listen on $listen" >&2
exit 1
