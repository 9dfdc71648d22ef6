# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by cluster: what it has on the machine outside of its namespaces, which is a process, cgroups and the state folder;
# how to make and how to remove them.

need_root() { [ "$(id -u)" -eq 0 ] || die "$command needs root: it makes namespaces and cgroups" "sudo -E $0 $command"; }

# identity prints PID and start time, which together name a process for ever (until the next boot).
identity() {
	local stat fields
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	read -ra fields <<<"${stat##*) }" # the name before may hold anything
	[ "${fields[0]}" != Z ] || return 1
	echo "$1 ${fields[19]} $(cat /proc/sys/kernel/random/boot_id)"
}

# same_process FILE: whether the process whose identity FILE holds lives.
same_process() {
	local pid rest
	read -r pid rest 2>/dev/null <"$1" || return 1
	[ "$(identity "$pid")" = "$pid $rest" ]
}

running() { same_process "$state/node"; }
starting() { same_process "$state/starter"; } # true also later: the starter lives as long as the node

# node_pid prints the PID, as this machine sees it, of the first process in the node.
node_pid() { running && cut -d' ' -f1 "$state/node"; }

since() { local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/})); printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10)); }

# check_machine refuses with all reasons at once.
check_machine() {
	need_root
	local p missing=()
	for p in containerd ctr runc nft iptables conntrack ip unshare nsenter setpriv openssl mount awk; do
		command -v "$p" >/dev/null || missing+=("$p")
	done
	[ -n "$(cni_plugins)" ] || missing+=("CNI plugins")
	[ ${#missing[@]} -eq 0 ] || die "missing programs: ${missing[*]}" "$0 build"
	unshare --mount --net --pid --fork --uts --ipc --cgroup true 2>/dev/null ||
		die "the kernel gives no new namespaces" "run it on a machine or in a privileged container (docker run --privileged)"
	unshare --mount --net sh -c 'ip link add br0 type bridge && ip link add v0 type veth peer name v1' 2>/dev/null ||
		die "the kernel has no bridge or veth devices" "modprobe bridge veth"
	[ "${MARBLERUN_CLUSTER_PROXY:-nftables}" != nftables ] || unshare --net nft add table ip t 2>/dev/null ||
		die "the kernel has no nftables" "modprobe nf_tables, or MARBLERUN_CLUSTER_PROXY=iptables"
	[ -n "$(cgroup_roots)" ] || die "no cgroups below /sys/fs/cgroup" "mount them, or docker run --privileged --cgroupns=host"
}

# cgroup_roots prints the hierarchies: the one of cgroup v2, or all of v1 (a hybrid machine's v2 has no controllers we need).
cgroup_roots() {
	local c
	if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then echo /sys/fs/cgroup; return; fi
	for c in /sys/fs/cgroup/*/; do
		[ ! -e "$c/cgroup.procs" ] || [ "$(stat -fc %T "$c")" = cgroup2fs ] || echo "${c%/}"
	done
}

make_cgroups() {
	local c p
	for c in $(cgroup_roots); do
		mkdir -p "$c/$group"
		[ ! -e "$c/cpuset.cpus" ] || [ ! -e "$c/$group/cpuset.cpus" ] || {
			cat "$c/cpuset.cpus" >"$c/$group/cpuset.cpus"
			cat "$c/cpuset.mems" >"$c/$group/cpuset.mems"
		}
		if [ -e "$c/cgroup.subtree_control" ]; then # v2: pass the controllers down
			for p in cpuset cpu io memory pids hugetlb; do echo "+$p" >"$c/cgroup.subtree_control" || true; done 2>/dev/null
		fi
	done
}

# start_node starts lib/node as PID 1 of new namespaces, in cgroups of its own.
start_node() {
	(
		for c in $(cgroup_roots); do echo $BASHPID >"$c/$group/cgroup.procs"; done
		identity $BASHPID >"$state/starter.new"
		mv "$state/starter.new" "$state/starter"
		exec setsid env -i PATH="$state/programs:$PATH" HOME="$state/home" LC_ALL=C STATE="$state" CNI_PLUGINS="$(cni_plugins)" \
			PROXY_MODE="${MARBLERUN_CLUSTER_PROXY:-nftables}" LIB="$here/lib" \
			unshare --mount --net --pid --fork --kill-child --uts --ipc --cgroup "$here/lib/node"
	) >"$state/log/node.log" 2>&1 </dev/null &
	disown
	until [ -e "$state/starter" ] || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
}

# group_processes prints the PIDs in the cluster's cgroups: all that it started, whatever became of their parents.
group_processes() {
	local c
	for c in $(cgroup_roots); do
		[ ! -d "$c/$group" ] || find "$c/$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}

# clear_away [keep-logs] ends the node, whose kernel namespaces go with its first process, and removes what is left.
clear_away() {
	local pid end=$((SECONDS + 30))
	if pid=$(node_pid); then kill -KILL "$pid" 2>/dev/null || true; fi
	while [ -n "$(group_processes)" ]; do
		[ $SECONDS -lt $end ] || die "processes of $name do not end: $(group_processes | tr '\n' ' ')"
		for pid in $(group_processes); do kill -KILL "$pid" 2>/dev/null || true; done
		sleep 0.05
	done
	remove_cgroups
	if [ "${1:-}" = keep-logs ]; then
		find "$state" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf --one-file-system {} +
	else
		rm -rf --one-file-system "$state"
		rmdir "${state%/*}" 2>/dev/null || true # unless other clusters are there
	fi
}

remove_cgroups() {
	local c
	for c in $(cgroup_roots); do
		[ ! -d "$c/$group" ] || for _ in {1..100}; do
			find "$c/$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
			sleep 0.05 # the kernel takes a moment after the last process
		done
	done
}

memory() {
	local f
	for f in "/sys/fs/cgroup/memory/$group/memory.usage_in_bytes" "/sys/fs/cgroup/$group/memory.current"; do
		[ ! -r "$f" ] || { echo $(($(<"$f") >> 20)); return; }
	done
	echo '?'
}
