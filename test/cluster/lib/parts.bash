# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by node: one function per part of Kubernetes, which starts it with launch.

etcd() {
	launch etcd kube-all etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
		--initial-cluster default=http://127.0.0.1:2380
}

apiserver() {
	local pki=$STATE/pki
	launch apiserver kube-all apiserver --etcd-servers http://127.0.0.1:2379 \
		--bind-address 0.0.0.0 --secure-port 6443 --advertise-address "$NODE_IP" \
		--tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
		--service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
		--service-account-issuer https://kubernetes.default.svc.cluster.local \
		--service-cluster-ip-range "$SERVICE_CIDR" --authorization-mode Node,RBAC \
		--enable-admission-plugins NodeRestriction --allow-privileged \
		--kubelet-client-certificate "$pki/kubelet-client.crt" --kubelet-client-key "$pki/kubelet-client.key" \
		--kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP --profiling=false
}

# controllers: with the default rate of requests, they would take 5 s to start.
controllers() {
	local pki=$STATE/pki conf=$STATE/controller-manager.conf
	launch controller-manager kube-all controller-manager --kubeconfig "$conf" \
		--authentication-kubeconfig "$conf" --authorization-kubeconfig "$conf" \
		--bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
		--service-account-private-key-file "$pki/sa.key" --root-ca-file "$pki/ca.crt" \
		--cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
		--flex-volume-plugin-dir /run/volume-plugins \
		--service-cluster-ip-range "$SERVICE_CIDR" --allocate-node-cidrs=false --kube-api-qps 200 --kube-api-burst 400
}

scheduler() {
	local conf=$STATE/scheduler.conf
	launch scheduler kube-all scheduler --kubeconfig "$conf" --authentication-kubeconfig "$conf" \
		--authorization-kubeconfig "$conf" --bind-address 127.0.0.1 --leader-elect=false
}

# snapshotter prints overlayfs, or native (slower: it copies) where the state folder is itself on an overlay.
snapshotter() {
	local d=$STATE/containerd/try
	mkdir -p "$d"/{lower,upper,work,merged}
	if mount -t overlay overlay -o "lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work" "$d/merged" 2>/dev/null; then
		umount "$d/merged"
		echo overlayfs
	else
		echo native
	fi
	rm -rf "$d"
}

# containers starts containerd. restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may lower that value, and a sandbox
# would fail with "can't get final child's PID from pipe: EOF".
containers() {
	cat >/run/containerd.toml <<-TOML
		version = 2
		root = "$STATE/containerd"
		state = "/run/containerd"
		disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
		  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
		[grpc]
		address = "/run/containerd/containerd.sock"
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "localhost/pause:1"
		disable_apparmor = true
		restrict_oom_score_adj = true
		[plugins."io.containerd.grpc.v1.cri".containerd]
		snapshotter = "$(snapshotter)"
		default_runtime_name = "runc"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
		SystemdCgroup = false
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "$CNI_PLUGINS"
		conf_dir = "/run/cni/net.d"
	TOML
	launch containerd containerd --config /run/containerd.toml
}

kubelet() {
	local files
	files=$(ulimit -Hn)
	[ "$files" != unlimited ] && [ "$files" -lt 1000000 ] || files=1000000
	cat >/run/kubelet.yaml <<-YAML
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: "$STATE/pki/ca.crt"}}
		authorization: {mode: AlwaysAllow}
		tlsCertFile: "$STATE/pki/kubelet-server.crt"
		tlsPrivateKeyFile: "$STATE/pki/kubelet-server.key"
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		volumePluginDir: /run/volume-plugins
		cgroupDriver: cgroupfs
		failCgroupV1: false
		failSwapOn: false
		clusterDNS: [$DNS_IP]
		clusterDomain: cluster.local
		resolvConf: ""
		makeIPTablesUtilChains: false
		evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%,
		  imagefs.available: 0%, imagefs.inodesFree: 0%}
		imageGCHighThresholdPercent: 100
		syncFrequency: 10s
		oomScoreAdj: 0
		maxOpenFiles: $files
	YAML
	launch kubelet kube-all kubelet --config /run/kubelet.yaml --kubeconfig "$STATE/kubelet.conf" \
		--hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
}

# proxy leaves the sizes of the connection table alone: they can be set in the machine's first network namespace only.
proxy() {
	cat >/run/proxy.yaml <<-YAML
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		clientConnection: {kubeconfig: "$STATE/proxy.conf"}
		mode: $PROXY_MODE
		nftables: {minSyncPeriod: 100ms}
		iptables: {minSyncPeriod: 100ms}
		clusterCIDR: $POD_CIDR
		hostnameOverride: $NODE_NAME
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
	YAML
	launch proxy kube-all proxy --config /run/proxy.yaml
}
