#!/bin/sh
# Written by Paddock. Lets callers in to a llama-server once it is warm, and has it end what it answers before it stops.
#
# callers.sh admit DIRECTORY LOADED SECONDS router|instance KIND=MODEL…
# callers.sh drain DIRECTORY LOADED FIGURES SECONDS router|instance
#
# In DIRECTORY, which is there while it runs, it listens on http.sock. HAProxy before it sends callers to open.sock, a
# link to that. LOADED keeps over a restart which models a router had in memory. KIND is what a model is for.
set -eu
LC_ALL=C
export LC_ALL

# admit DIRECTORY LOADED SECONDS router|instance KIND=MODEL…: goes on while systemd has it for started. Whatever does
# not work in so many seconds is left to the first caller
admit() {
  socket=$1/http.sock loaded=$2 limit_s=$3 kind=$4
  open=$1/open.sock
  shift 4
  until [ "$(status_of /health --max-time 5)" = 200 ]; do
    sleep 0.5
  done
  end=$(($(now) + limit_s))
  for each; do
    if [ "$kind" = instance ] || grep -qxF -e "${each#*=}" "$loaded" 2>/dev/null; then
      warm "${each%%=*}" "${each#*=}"
    fi
  done
  rm -f "$loaded"
  ln -sfn http.sock "$open"
}

# warm KIND MODEL: asks what makes a router load it, and a card compile what it computes with
warm() {
  left_s=$((end - $(now)))
  if [ "$left_s" -le 0 ]; then
    echo "<4>$2 is not warmed up: the $limit_s s for that are over"
    return
  fi
  case $1 in
    embedding) set -- "$2" /v1/embeddings '"input": "1"' ;;
    rerank) set -- "$2" /v1/rerank '"query": "1", "documents": ["1"]' ;;
    *) set -- "$2" /v1/completions '"prompt": "1", "max_tokens": 1' ;;
  esac
  status=$(status_of "$2?autoload=true" --max-time "$left_s" -H "Content-Type: application/json" \
    -d "{\"model\": \"$1\", $3}")
  [ "$status" = 200 ] || echo "<4>$1 is not warmed up: HTTP $status after $((limit_s - end + $(now))) s"
}

# drain DIRECTORY LOADED FIGURES SECONDS router|instance: who asks from now on waits in HAProxy, whose FIGURES say how
# many are being answered. One that answers nothing any more is not waited for
drain() {
  [ -n "${MAINPID-}" ] || return 0 # it has ended by itself
  socket=$1/http.sock loaded=$2 figures=$3 limit_s=$4
  [ "$5" = instance ] || note_loaded
  mv -nT "$socket" "$socket.drained" 2>/dev/null || true # else it has not come so far as to listen
  socket=$socket.drained
  end=$(($(now) + limit_s))
  if [ "$(status_of /health --max-time 5)" = 200 ]; then
    until at_rest || [ "$(now)" -ge "$end" ]; do
      sleep 0.2
    done
  fi
  ended
}

# note_loaded: the names of the models that it has in memory
note_loaded() {
  ask /models --max-time 5 -f | sed 's/{"id":"/\n/g' |
    sed -n 's/^\([^"]*\)".*"status":{[^{}]*"value":"loaded".*/\1/p' >"$loaded"
}

# at_rest: whether HAProxy sends nobody there any more, and nobody is being answered
at_rest() {
  said=$(curl -sf --max-time 5 --unix-socket "$figures" 'http://localhost/;csv' | sed -n '/^answers,main,/p' |
    cut -d, -f5,18)
  case $said in
    '' | 0,DOWN*) ;;
    *) return 1 ;;
  esac
}

# ended: it has half a minute to end, counted from here, however long it was waited for
ended() {
  kill -TERM "$MAINPID" || return 0
  for _ in $(seq 150); do
    [ -d "/proc/$MAINPID" ] || return 0
    sleep 0.2
  done
  kill -KILL "$MAINPID"
}

# now: the seconds since the machine was started: no clock that is set moves them
now() {
  read -r up </proc/uptime
  echo "${up%%.*}"
}

# status_of PATH CURL-ARGUMENT…: 000 where no answer came
status_of() {
  ask "$@" -o /dev/null -w '%{http_code}' || true
}

# ask PATH CURL-ARGUMENT…: the key goes by standard input, for arguments are everybody's to read
ask() {
  path=$1
  shift
  if [ -n "${LLAMA_API_KEY-}" ]; then
    printf 'header = "Authorization: Bearer %s"\n' "$LLAMA_API_KEY"
  fi | curl -s --unix-socket "$socket" "$@" -K - "http://localhost$path"
}

verb=$1
shift
case $verb in
  admit) admit "$@" </dev/null & ;;
  drain) drain "$@" ;;
esac
