# Tries a release on its host before `current` moves to it, as root: sh gate.sh RELEASE TRIAL
# TRIAL is what roles/llama_cpp/gate.py packs. Where the release is refused, it leaves with 1, the last line on standard
# error saying why.
#
# trial.sh stands in front of it: the gate is a transient unit, as is each llama-server that it starts.
#
# shellcheck shell=sh disable=SC2154,SC2034 # set, or read, there
set -eu
trial=paddock-gate server=paddock-gate-server
home=/run/$trial socket=/run/$server/gate.sock log=log environment=environment
# how a release that is refused ends the unit: by any other way out nobody has judged it
refused=3
# a driver compiles its shaders first: on a processor that takes a minute, and ten where that is busy
gate_s=1800

# try RELEASE TRIAL
try() {
  rc=0
  supervise "$gate_s" "The gate of a llama.cpp release" "$(realpath "$1")" "$(realpath "$2")" || rc=$?
  case $rc in
    0) ;;
    "$refused") exit 1 ;;
    *)
      echo "the gate did not come to its end (status $rc), so nobody knows about the release: run it again," \
        "or see journalctl -u $trial" >&2
      exit 1
      ;;
  esac
}

# inside CALLER ITS-CALLER RELEASE TRIAL
inside() {
  ends_with "$1" "$2"
  program=$3/bin/llama-server
  cd "$home"
  tar -xf "$4" --no-same-owner
  properties=properties
  if [ ! -e flags-only ]; then
    runs_here
    lists_devices
  fi
  for service in services/*/; do
    [ ! -d "$service" ] || accepts "${service%/}"
  done
  [ ! -e flags-only ] || exit 0
  properties=properties
  if [ -s devices ]; then
    while IFS= read -r device <&3; do
      offloads "$device"
    done 3<devices
  else
    answers "the processor"
  fi
}

# runs_here: the release is for this processor
runs_here() {
  rc=0
  run "$program" --version || rc=$?
  has=" $(awk -F ': *' '/^(flags|Features)[ \t]*:/ { print $2; exit }' /proc/cpuinfo) "
  # Where nobody tells what the processor has, only the run itself can say.
  lacks=
  [ "$has" = "  " ] || lacks=$(missing_of "$has" <features)
  dies=
  [ "$rc" != 132 ] || dies="it dies of an illegal instruction (SIGILL): "
  if [ -n "$lacks" ]; then
    # shellcheck disable=SC2086 # a word each
    refuse "processor: ${dies}it was built to use $(words $lacks), which this processor lacks;" \
      "build it for this processor (cpu: auto) or for any (cpu: portable)"
  fi
  [ "$rc" = 0 ] || died "--version" "$rc"
}

# missing_of HAS: of the words that come in, a line each, those that are not among HAS
missing_of() {
  while IFS= read -r each; do
    case $1 in
      *" $each "*) ;;
      *) echo "$each" ;;
    esac
  done
}

# lists_devices: llama-server sees the devices that it is to serve on
lists_devices() {
  [ -s devices ] || return 0
  rc=0
  run "$program" --list-devices || rc=$?
  [ "$rc" = 0 ] || died "--list-devices" "$rc"
  listed=" $(sed -n 's/^ \{1,\}\([A-Za-z]\{1,\}[0-9]\{1,\}\): .*/\1/p' log | paste -s -d ' ') "
  lacks=$(missing_of "$listed" <devices)
  [ -n "$lacks" ] || return 0
  [ "$listed" != "  " ] || listed=none
  # shellcheck disable=SC2086 # a word each
  refuse "devices: $(words $lacks) cannot be seen (--list-devices has $(words $listed)), so it would serve on less" \
    "than was meant; see that the driver works, that its packages are there, and that the service may use the device"
}

# accepts DIRECTORY: of a service: its command line, and where it is a router each of its presets
accepts() {
  unit=$(cat "$1/unit") properties=$1/properties presets=
  [ ! -e "$1/presets" ] || presets=$(cat "$1/presets")
  line=$1/arguments
  set --
  while IFS= read -r each; do
    set -- "$@" "$each"
  done <"$line"
  if [ -z "$presets" ]; then
    takes "$unit" "$@"
    return
  fi
  rc=0
  serve "$program" "$@" || rc=$?
  [ "$rc" = 0 ] || unknown "$unit" "$rc"
  rm -rf models
  mkdir models
  if ! told=$(ask /models); then
    end
    refuse "flags: $unit: the router does not say which models it has"
  fi
  end
  printf '%s\n' "$told" | arguments
  for line in models/*; do
    [ -e "$line" ] || continue
    set --
    while IFS= read -r each; do
      set -- "$@" "$each"
    done <"$line"
    takes "$unit" "$@"
  done
}

# takes UNIT ARGUMENT…: --version comes last, and ends it once all before it have been read (common/arg.cpp), with no
# model loaded
takes() {
  unit=$1
  shift
  rc=0
  run "$program" "$@" --version || rc=$?
  [ "$rc" = 0 ] || unknown "$unit" "$rc"
}

# arguments: from a router's /models: for each model a file in models/, an argument a line, without the program's name
arguments() {
  awk '{
    while (i = index($0, "\"args\":[")) {
      $0 = substr($0, i + 8); n++; argument = 0
      while (match($0, /^,?"([^"\\]|\\.)*"/)) {
        each = substr($0, 1, RLENGTH); $0 = substr($0, RLENGTH + 1); sub(/^,?"/, "", each); sub(/"$/, "", each)
        for (plain = ""; i = index(each, "\\"); each = substr(each, i + 2))
          plain = plain substr(each, 1, i - 1) substr(each, i + 1, 1)
        if (argument++) print plain each >("models/" n)
      }
      close("models/" n)
    }
  }'
}

# offloads DEVICE
offloads() {
  answers "$1" --device "$1"
  layers=$(sed -n 's/.*offloaded \([0-9]\{1,\}\/[0-9]\{1,\}\) layers to GPU.*/\1/p' log | tail -n 1)
  if [ -z "$layers" ] || [ "${layers%/*}" != "${layers#*/}" ] ||
    ! grep -qE "(^|[^A-Za-z0-9])$1 model buffer size" log; then
    refuse "offload: with its log at -lv 4, it shows ${layers:-no} layers on a GPU, and not all of them on $1;" \
      "it would serve on the processor"
  fi
}

# answers NAME ARGUMENT…: a tiny model, in as little memory as can be: another release may be serving on the same card
answers() {
  name=$1
  shift
  rc=0
  # What is set in the environment is no more than thrift, and a llama.cpp that knows nothing of it ignores it.
  serve env LLAMA_ARG_FIT=off LLAMA_ARG_CACHE_RAM=0 "$program" --model "$home/tiny.gguf" --host "$socket" \
    --ctx-size 256 --batch-size 32 --ubatch-size 32 --parallel 1 --n-gpu-layers 99 --verbosity 4 "$@" || rc=$?
  [ "$rc" = 0 ] || died "a tiny model on $name" "$rc"
  # One token: each length of a prompt has shaders of its own.
  said=$(ask /completion --max-time "$ready_s" -d '{"prompt": [1], "n_predict": 8, "temperature": 0}') || said=
  end
  case $said in
    *"$(cat answer)"*) ;;
    "") refuse "completion: a tiny model on $name comes up and does not answer$(telling)" ;;
    *)
      content=$(printf %s "$said" | sed -n 's/.*"content":"\(\([^"\\]\|\\.\)*\)".*/\1/p' | cut -c 1-80)
      refuse "completion: a tiny model on $name answers nonsense: $content; the device or its driver computes wrongly"
      ;;
  esac
}

# unknown UNIT EXIT-CODE: of a server that does not take what is rendered for it
unknown() {
  model=
  [ "${line#models/}" = "$line" ] || model=$(awk 'before == "--alias" { print; exit } { before = $0 }' "$line")
  where="$1${model:+, section [$model] of $presets}"
  key=$(sed -n "s/.*option '\([^']*\)' not recognized in preset '\([^']*\)'.*/\"\1\" in section [\2] of /p" log |
    head -n 1)
  flag=$(sed -n 's/.*error: invalid argument: *//p' log | head -n 1)
  value=$(sed -n 's/.*error while handling argument //p' log | head -n 1)
  other="it was removed or renamed, or is misspelt; \`llama-server --help\` of the release lists what there is"
  [ -z "$key" ] || refuse "flags: $1: this llama.cpp does not know the key $key$presets: $other"
  [ -z "$flag" ] || refuse "flags: $where: this llama.cpp does not know $flag: $other"
  [ -z "$value" ] || refuse "flags: $where: this llama.cpp does not take $value;" \
    "\`llama-server --help\` of the release lists what it takes"
  died "$where" "$2"
}

# refuse WORDS…
refuse() {
  { grep . log | tail -n 8 | cut -c 1-300; } >&2 2>/dev/null || true
  echo "the gate refuses it: $*" >&2
  exit "$refused"
}

case $1 in
  --inside)
    shift
    inside "$@"
    ;;
  *) try "$1" "$2" ;;
esac
