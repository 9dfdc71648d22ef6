# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by cluster: the programs, compiled once into a folder named after what they are compiled from.

# inputs prints the name of that folder. The Go toolchain is no part of it: a newer one needs no new build.
inputs() {
	(cd "$here/build" && { uname -m; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; }) |
		sha256sum | cut -c1-16
}
programs=$cache/$(inputs)

# helm is the program's path: the version is the one in the module's own go.mod.
helm=$cache/helm-$(awk '$1 == "helm.sh/helm/v4" {print $2; exit}' "$here/../../go.mod")/helm

built() { [ -e "$programs/complete" ]; }

build() {
	packages
	mkdir -p "$cache"
	exec 9<"$cache"
	flock -n 9 || { say "another build is at work: waiting for it"; flock 9; }
	if built; then say "programs are there: $programs"; else build_programs; fi
	if [ -x "$helm" ]; then say "helm is there: $helm"; else build_helm; fi
	exec 9<&-
}

build_programs() {
	need_go
	local work version minor flags
	work=$(mktemp -d "$cache/building.XXXXXX")
	trap "rm -rf '$work'" EXIT
	version=$(awk '$1 == "k8s.io/kubernetes" {print $2; exit}' "$here/build/go.mod")
	minor=${version#v1.}
	flags="-s -w"
	for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		flags+=" -X $p.gitVersion=$version -X $p.gitMajor=1 -X $p.gitMinor=${minor%%.*}"
	done
	say "compiling Kubernetes $version (about 10 minutes on two cores and 5 GB of disk when nothing is cached)"
	compile "$here/build" "$flags" "$work/" ./kube-all ./coredns ./pause ./mkimage k8s.io/kubernetes/cmd/kubectl
	mkdir "$work/images"
	"$work/mkimage" -o "$work/images/pause.tar" -t localhost/pause:1 -user 65535:65535 "$work/pause:/pause"
	"$work/mkimage" -o "$work/images/coredns.tar" -t localhost/coredns:1 "$work/coredns:/coredns"
	rm "$work/pause" "$work/coredns"
	touch "$work/complete"
	chmod 755 "$work"
	mv -T "$work" "$programs"
	trap - EXIT
	say "programs are in $programs"
}

build_helm() {
	need_go
	say "compiling helm"
	mkdir -p "${helm%/*}"
	compile "$here/../.." "-s -w" "$helm.new" helm.sh/helm/v4/cmd/helm
	mv "$helm.new" "$helm"
}

# compile FOLDER LDFLAGS OUTPUT PACKAGE...: go build, with a line of progress every 15 seconds.
compile() {
	local folder=$1 flags=$2 output=$3 log pid began=$SECONDS
	shift 3
	log=$(mktemp)
	CGO_ENABLED=0 GOFLAGS='' GOWORK=off go -C "$folder" build -v -trimpath -buildvcs=false -ldflags "$flags" -o "$output" "$@" \
		>"$log" 2>&1 9<&- &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		sleep 1
		(((SECONDS - began) % 15)) || say "$((SECONDS - began)) s: $(progress "$log")"
	done
	if ! wait $pid; then
		grep -v '^go: downloading' "$log" | tail -n 30 >&2
		rm "$log"
		die "go build failed" "it needs a Go module proxy (GOPROXY) or a filled module cache, and about 3 GB of memory"
	fi
	say "$((SECONDS - began)) s: $(progress "$log")"
	rm "$log"
}

progress() {
	awk '/^go: downloading/ {d++; next} {c++} END {printf "%d modules downloaded, %d packages compiled\n", d, c}' "$1"
}

need_go() { command -v go >/dev/null || die "there is no Go" "install the version that go.mod names: https://go.dev/dl"; }

# packages installs the Debian packages of the programs that are missing.
packages() {
	local missing=() pair
	for pair in containerd:containerd ctr:containerd runc:runc nft:nftables iptables:iptables conntrack:conntrack \
		ip:iproute2 unshare:util-linux setpriv:util-linux openssl:openssl mount:mount awk:mawk; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ -n "$(cni_plugins)" ] || missing+=(containernetworking-plugins)
	[ ${#missing[@]} -gt 0 ] || return 0
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
	need_root
	command -v apt-get >/dev/null || die "missing programs, and no apt-get to install: ${missing[*]}" \
		"install what your distribution calls these Debian packages"
	say "installing ${missing[*]}"
	apt-get update -qq
	without_services env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# without_services keeps packages from starting their services (Debian Policy 9.11.3: 101 forbids): the cluster runs its
# own containerd.
without_services() {
	local policy=/usr/sbin/policy-rc.d rc=0
	[ ! -e $policy ] || { "$@"; return; }
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	"$@" || rc=$?
	rm -f $policy
	return $rc
}

cni_plugins() {
	local d
	for d in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
		[ ! -x $d/bridge ] || { echo $d; return; }
	done
}
