#!/bin/sh
# Written by Paddock. Fails while a certificate of caddy nears its end, and tells somebody once; with --look it says
# so and no more.
set -eu
LC_ALL=C
export LC_ALL
# for each file that is a fault: what was told of it last
run=${RUNTIME_DIRECTORY:-/run/paddock/expiry/caddy}
day_s=86400
most_s=$((90 * day_s))

# pems: what is looked at, KIND PATH a line
pems() {
  cat <<'END'
ca /etc/caddy/paddock/ca.pem
leaf /etc/caddy/paddock/ai.home.example.pem
leaf /etc/caddy/paddock/clients/laptop.pem
END
}

# round FAULTY WELL: calls one function for each file that is a fault, and the other for each that is well
round() {
  faults=$(pems | while read -r kind path; do
    found=$(judged "$kind" "$path" </dev/null)
    if [ -n "$found" ]; then
      echo fault
      "$1" "$path" "$found" >&2 </dev/null
    else
      "$2" "$path"
    fi
  done)
  [ -z "$faults" ]
}

# judged KIND FILE: nothing where all is well, else `soon` or `over`, and the words
judged() {
  if [ ! -s "$2" ]; then
    echo "over $2 is not there: \`paddock up\` puts it there"
    return
  fi
  last=0
  number=1
  pem=$(certificate "$number" "$2") || true
  while [ -n "$pem" ]; do
    ends_s=$(seconds enddate) || ends_s=
    begins_s=$(seconds startdate) || begins_s=
    if [ -z "$ends_s" ] || [ -z "$begins_s" ]; then # a date that only openssl can read
      if openssl_says -checkend "$most_s" >/dev/null; then
        return
      fi
    else
      if [ "$ends_s" -gt "$last" ]; then
        last=$ends_s
      fi
      least_s=$(((ends_s - begins_s) / 5))
      if [ "$least_s" -gt "$most_s" ]; then
        least_s=$most_s
      fi
      if openssl_says -checkend "$least_s" >/dev/null; then
        return
      fi
      [ "$1" = ca ] || break
    fi
    number=$((number + 1))
    pem=$(certificate "$number" "$2") || true
  done
  if [ "$last" = 0 ]; then
    echo "over $2 holds no certificate that can be read: \`paddock up\` puts it there anew"
    return
  fi
  left_s=$((last - $(date +%s)))
  date=$(date -u -d "@$last" +%F)
  case $1 in
    ca)
      what="the fleet's CA in $2"
      remedy="\`paddock certs roll-over begin\` makes the next"
      ;;
    *)
      what=$2
      remedy="\`paddock up\` renews it"
      ;;
  esac
  if [ "$left_s" -le 0 ]; then
    echo "over $what ended on $date: $remedy"
  else
    echo "soon $what ends in $((left_s / day_s)) days, on $date: $remedy"
  fi
}

# certificate NUMBER FILE
certificate() {
  awk -v wanted="$1" '
    /^-----BEGIN CERTIFICATE-----/ { at++ }
    at == wanted
    /^-----END CERTIFICATE-----/ && at == wanted { exit }' "$2"
}

# openssl_says ARGUMENT…: of the certificate in $pem
openssl_says() {
  printf '%s\n' "$pem" | openssl x509 -noout "$@" 2>/dev/null
}

# seconds enddate|startdate: of that certificate, since 1970
seconds() {
  said=$(openssl_says "-$1") || return
  date -d "${said#*=}" +%s 2>/dev/null
}

# told FILE FOUND: somebody else than the journal hears of it once, and once more when it is over
told() {
  echo "<3>${2#* }"
  noted=$(note_of "$1")
  if [ "$(cat "$noted" 2>/dev/null)" = "${2%% *}" ]; then
    return
  fi
  echo "${2%% *}" >"$noted" || true
}

# said FILE FOUND
said() {
  echo "${2#* }"
}

# well FILE
well() {
  rm -f "$(note_of "$1")"
}

# nothing FILE
nothing() {
  :
}

# note_of FILE
note_of() {
  echo "$run/$(printf %s "$1" | tr / _)"
}

case ${1-} in
  --look) round said nothing 2>&1 ;;
  *) round told well ;;
esac
