# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# What the pages of this folder begin with, except deploy.md. In a bash of its own, from the root of the checkout:
# . docs/howto/kubernetes/setup.sh
# It installs Marblerun in simulation into the cluster of your kubeconfig, makes a temporary folder ($work), forwards the
# client API to $MARBLERUN, and sets the samples' manifest with a recovery key.

work=$(mktemp -d)
export XDG_CONFIG_HOME="$work/config" # where marblerun keeps certificates
export MARBLERUN=localhost:4433

# forward keeps forwarding a port, also when the Pod is replaced: forward NAMESPACE TARGET PORTS
forward() {
  while sleep 0.3; do kubectl -n "$1" port-forward "$2" "$3" --address localhost || true; done >>"$work/forward.log" 2>&1 &
}

# await_status CODE returns when the Coordinator answers with that status, and prints it.
await_status() {
  for _ in $(seq 120); do
    marblerun status $MARBLERUN -i >"$work/status" 2>"$work/status.log" && grep "^$1:" "$work/status" && return
    sleep 1
  done
  cat "$work/status" "$work/status.log"
  return 1
}

# in_json FILE prints a PEM file as it stands in a JSON string, with \n for line ends.
in_json() { awk '{ printf "%s\\n", $0 }' "$1"; }

# manifest prints the samples' manifest with a recovery key: manifest NAME FILE
manifest() {
  echo "{ \"RecoveryKeys\": { \"$1\": \"$(in_json "$2")\" },"
  tail -n +2 samples/kubernetes/manifest.json
}

cleanup() {
  kubectl delete namespace echo --ignore-not-found
  marblerun uninstall
  kubectl delete namespace marblerun
  for job in $(jobs -p); do
    pkill -P "$job" || true # what the loop of forward runs
    kill "$job" || true
  done
  rm -rf "$work"
}

marblerun install --simulation --domain=mycluster.example.com
forward marblerun svc/coordinator-client-api 4433:4433
await_status 2
openssl genrsa -out "$work/owner.pem" 3072 2>/dev/null
openssl rsa -in "$work/owner.pem" -pubout -out "$work/owner.pub" 2>/dev/null
manifest owner "$work/owner.pub" >"$work/manifest.json"
marblerun manifest set "$work/manifest.json" $MARBLERUN -i --recoverydata "$work/recovery.json"
kubectl -n marblerun rollout status deployment/marblerun-coordinator --timeout=120s
