#!/bin/sh
# Written by Paddock. Fails while a certificate of caddy nears its end, and tells somebody once; with --look it says so and no more.
set -u
LC_ALL=C; export LC_ALL
run=${RUNTIME_DIRECTORY:-/run/paddock/expiry/caddy} # for each file that is a fault: what was told of it last
day_s=86400 most_s=$((90 * 86400))

pems() {
  cat <<'END'
ca /etc/caddy/paddock/ca.pem
leaf /etc/caddy/paddock/ai.home.example.pem
leaf /etc/caddy/paddock/clients/laptop.pem
END
}

round() { # WHAT TO DO with a fault, and with a file that is well
  faults=$(pems | while read -r kind path; do
    found=$(judged "$kind" "$path" </dev/null)
    if [ -n "$found" ]; then echo fault; "$1" "$path" "$found" >&2 </dev/null; else "$2" "$path"; fi
  done)
  [ -z "$faults" ]
}

judged() { # KIND FILE: nothing where all is well, else `soon` or `over`, and the words
  [ -s "$2" ] || { echo "over $2 is not there: \`paddock up\` puts it there"; return; }
  last=0 number=0
  while number=$((number + 1)); pem=$(certificate "$number" "$2"); [ -n "$pem" ]; do
    ends_s=$(seconds enddate) begins_s=$(seconds startdate)
    [ -n "$ends_s" ] && [ -n "$begins_s" ] || { openssl_says -checkend "$most_s" >/dev/null && return; continue; } # a date that only openssl can read
    [ "$ends_s" -le "$last" ] || last=$ends_s
    least_s=$(((ends_s - begins_s) / 5)); [ "$least_s" -le "$most_s" ] || least_s=$most_s
    ! openssl_says -checkend "$least_s" >/dev/null || return
    [ "$1" = ca ] || break
  done
  [ "$last" != 0 ] || { echo "over $2 holds no certificate that can be read: \`paddock up\` puts it there anew"; return; }
  left_s=$((last - $(date +%s))) date=$(date -u -d "@$last" +%F)
  case $1 in
    ca) what="the fleet's CA in $2" remedy="\`paddock certs roll-over begin\` makes the next" ;;
    *) what=$2 remedy="\`paddock up\` renews it" ;;
  esac
  if [ "$left_s" -le 0 ]; then echo "over $what ended on $date: $remedy"
  else echo "soon $what ends in $((left_s / day_s)) days, on $date: $remedy"; fi
}

certificate() { awk -v wanted="$1" '/^-----BEGIN CERTIFICATE-----/ { at++ } at == wanted; /^-----END CERTIFICATE-----/ && at == wanted { exit }' "$2"; } # NUMBER FILE
openssl_says() { printf '%s\n' "$pem" | openssl x509 -noout "$@" 2>/dev/null; }
seconds() { said=$(openssl_says "-$1") && date -d "${said#*=}" +%s 2>/dev/null; }

told() { # FILE FOUND: somebody else than the journal hears of it once, and once more when it is over
  echo "<3>${2#* }"
  noted=$(note_of "$1"); [ "$(cat "$noted" 2>/dev/null)" != "${2%% *}" ] || return 0
  echo "${2%% *}" >"$noted"
}

said() { echo "${2#* }"; }
well() { rm -f "$(note_of "$1")"; }
nothing() { :; }
note_of() { echo "$run/$(printf %s "$1" | tr / _)"; }

case ${1-} in
  --look) round said nothing 2>&1 ;;
  *) round told well ;;
esac
