#!/usr/bin/env bash
# A first look: starts a server on a fresh data folder, loads schema-examples/saas, and asks 16 questions over
# gRPC, each with its decision and its reason; the last four are an agent's, in somebody's name. Leaves the server
# running; with ONCE=1 it stops it and fails unless every answer was the expected one.
#
# PROCURA names the binary (`make -s bin` prints it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

procura=${PROCURA:?names the binary; run this through make quickstart}
once=${ONCE:-}
unset PROCURA_SERVER

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' plain=''
fi

home=$(mktemp -d "${TMPDIR:-/tmp}/procura-quickstart.XXXXXX")
server=''

# Nothing may stay behind but a server that was promised.
keep=''
clean_up() {
  local status=$?
  [ -n "$keep" ] && return
  if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
    wait "$server" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ] && [ -s "$home/log" ]; then
    printf '\n%sthe server said:%s\n' "$bold" "$plain" >&2
    tail -n 20 "$home/log" >&2
  fi
  rm -rf "$home"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a server on the address given and waits until it says that it is ready; sets `server` and `address`.
start() {
  : >"$home/ready"
  # A session of its own: Ctrl-C in this terminal is not meant for it.
  if command -v setsid >/dev/null 2>&1; then
    setsid "$procura" serve --data "$home/data" --listen "$1" >"$home/ready" 2>"$home/log" </dev/null &
  else
    nohup "$procura" serve --data "$home/data" --listen "$1" >"$home/ready" 2>"$home/log" </dev/null &
  fi
  server=$!
  local turn
  for turn in $(seq 300); do
    address=$(sed -n 's/^procura is ready: .*, listening on \(.*\)$/\1/p' "$home/ready")
    [ -n "$address" ] && return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=''
  return 1
}

# The usual port where it is free, else any.
address=''
if ! start 127.0.0.1:50051 && ! start 127.0.0.1:0; then
  echo 'the server did not start' >&2
  exit 1
fi
export PROCURA_SERVER=$address

printf '%sProcura answers: may this subject do that to this object?%s\n\n' "$bold" "$plain"
printf 'A server listens on %s, with a fresh embedded store in %s/data.\n' "$address" "$home"

"$procura" schema write schema-examples/saas.zed >/dev/null
tuples=$(sed -n '/^relationships:/,/^assertions:/{/^  /p}' schema-examples/saas.yaml)
"$procura" tuple write - <<<"$tuples" >/dev/null
cat <<TEXT
It has loaded ${bold}schema-examples/saas.zed${plain}, and these tuples among others:

  org:acme#admin@user:rita                         rita is an admin of acme
  workspace:lab#org@org:acme                       the lab belongs to acme
  project:alpha#workspace@workspace:lab            alpha stands in the lab
  workspace:lab#editor@group:engineers#member      the engineers edit in the lab
  group:engineers#member@user:dana                 dana is one of them

The schema says what follows: roles come down from the org to its workspaces to their projects.
TEXT

asked=0
wrong=0
# By which delegation the next questions are asked, and the reason that must be named; empty: by none.
via=''
reason=''

# ask EXPECTED QUESTION WORDS…: asks over gRPC, prints the words, the decision and why, and counts.
ask() {
  local expected=$1 question=$2
  shift 2
  local answer code=0
  answer=$("$procura" check "$question" ${via:+--via "$via"} --explain=line) || code=$?
  local decision=${answer%% *} colour=$red because=''
  [ "$decision" = ALLOW ] && colour=$green
  because=$(sed -n 's/^  because //p' <<<"$answer")
  # Of a chain: the test that failed, and where in the chain.
  local failed
  failed=$(sed -n 's/^  \([A-Z_]* at hop [0-9]*\)$/\1/p' <<<"$answer")
  because=${because:-$failed}
  asked=$((asked + 1))
  printf '\n%2d. %s\n    %s%-5s%s %s\n' "$asked" "$*" "$colour" "$decision" "$plain" "$question${via:+ --via $via}"
  [ -n "$because" ] && printf '    %sbecause %s%s\n' "$dim" "$because" "$plain"
  # The exit code is the answer too, for scripts: both must say so.
  local code_expected=1
  [ "$expected" = ALLOW ] && code_expected=0
  if [ "$decision" != "$expected" ] || [ "$code" -ne "$code_expected" ] || [ "$failed" != "$reason" ]; then
    wrong=$((wrong + 1))
    printf '    %sexpected %s%s %s (exit code %s)\n' "$bold" "$expected" "$plain" "$reason" "$code"
  fi
  return 0
}

printf '\n%sFrom the org down.%s rita has one tuple, at the very top.\n' "$bold" "$plain"
ask ALLOW 'org:acme#manage@user:rita'             'Does rita run acme?'
ask ALLOW 'workspace:lab#manage@user:rita'        'So she runs its workspace, the lab,'
ask ALLOW 'project:alpha#edit@user:rita'          '… and edits the project in it,'
ask ALLOW 'project:alpha#delete@user:rita'        '… and may delete it.'

printf '\n%sFrom a workspace down.%s dana is an engineer; the engineers edit in the lab.\n' "$bold" "$plain"
ask ALLOW 'project:alpha#edit@user:dana'          'May dana edit alpha?'
ask DENY  'project:alpha#delete@user:dana'        'Delete it? An editor does not.'
ask ALLOW 'project:alpha#edit@user:omar'          'omar is an intern, and interns are engineers: a group in a group.'
ask DENY  'project:payroll#edit@user:dana'        'payroll stands in another workspace.'

printf '\n%sOn one project alone.%s\n' "$bold" "$plain"
ask ALLOW 'project:payroll#view@user:dana'        'There dana was made a viewer, directly.'
ask DENY  'project:beta#view@user:dana'           'beta is in the lab too, but dana is suspended there.'
ask DENY  'project:alpha#view@user:vera'          'vera runs the office: a stranger in the lab.'

printf '\n%sBetween customers.%s\n' "$bold" "$plain"
ask DENY  'project:reactor#view@user:rita'        'globex has a project; an admin of acme sees nothing of it.'

printf '\n%sFor somebody else.%s agent:coder edits in the lab, by a role of its own. For an hour rita lets it\n' "$bold" "$plain"
printf 'edit and delete alpha for her. What it may do so is what all allow: its role, her word, and her own roles.\n'
via=$("$procura" delegation create --from user:rita --to agent:coder --permission edit,delete --within project:alpha \
  --for 1h | sed -n 's/^created //p')
ask ALLOW 'project:alpha#edit@agent:coder'        'May the agent edit alpha for rita?'
reason='OUT_OF_SCOPE at hop 1'
ask DENY  'project:beta#edit@agent:coder'         'beta? Both may by themselves; she spoke of alpha.'
reason='ACTOR_LACKS_PERMISSION at hop 1'
ask DENY  'project:alpha#delete@agent:coder'      'Delete alpha? She may, and said so; its own role does not.'
"$procura" delegation revoke "$via" >/dev/null
reason='DELEGATION_REVOKED at hop 1'
ask DENY  'project:alpha#edit@agent:coder'        'She takes it back. Edit alpha?'
via='' reason=''

printf '\n%s%d questions, %d answered as expected%s\n' "$bold" "$asked" "$((asked - wrong))" "$plain"

if [ -n "$once" ]; then
  [ "$wrong" -eq 0 ]
  exit
fi

keep=1
disown "$server" 2>/dev/null || true
cat <<TEXT

The server goes on (process $server, log in $home/log). Some things to paste:

  export PROCURA_SERVER=$address PATH="$(dirname "$procura"):\$PATH"
  procura check 'project:alpha#edit@user:dana' --explain     # the whole path
  procura tuple write 'project:alpha#viewer@user:vera'       # let vera in
  procura check 'project:alpha#view@user:vera'
  procura tuple read --object project:alpha
  procura delegation list                                    # who may act for whom
  procura test schema-examples/*.yaml
  grpcurl -plaintext $address list                           # the API describes itself

To stop it: kill $server && rm -r $home
TEXT
[ "$wrong" -eq 0 ]
