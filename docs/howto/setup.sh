# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# What the pages of this folder begin with. In a bash of its own, from the root of the checkout: . docs/howto/setup.sh
# It builds, makes a temporary folder ($work), and starts a Coordinator in simulation at $MARBLERUN.

make -s build
export PATH="$PWD/bin:$PATH"
work=$(mktemp -d)
export XDG_CONFIG_HOME="$work/config" # where marblerun keeps certificates
export MARBLERUN=localhost:4433
export EDG_COORDINATOR_SIMULATION=1 EDG_COORDINATOR_SEAL_DIR="$work/state"

# start_coordinator returns when it answers, and prints its status, which is also in $work/status.
start_coordinator() {
  coordinator >>"$work/coordinator.log" 2>&1 &
  coordinator_pid=$!
  until marblerun status $MARBLERUN -i >"$work/status" 2>/dev/null; do
    kill -0 $coordinator_pid || return # it ended
    sleep 0.1
  done
  cat "$work/status"
}

stop_coordinator() {
  kill $coordinator_pid
  wait $coordinator_pid || true
}

# new_user NAME makes a client certificate and its key: $work/NAME.crt and $work/NAME.key, in PEM.
new_user() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$1" \
    -keyout "$work/$1.key" -out "$work/$1.crt" 2>/dev/null
}

# in_json FILE prints a PEM file as it stands in a JSON string, with \n for line ends.
in_json() { awk '{ printf "%s\\n", $0 }' "$1"; }

# refused COMMAND succeeds if the command fails.
refused() { if "$@"; then return 1; fi; }

cleanup() {
  stop_coordinator
  rm -rf "$work"
}

start_coordinator
