# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by cluster: one CA on P-256, the certificates of API server and kubelet, and a kubeconfig per component. The names
# and groups are those that Kubernetes' own RBAC rules expect (kubernetes.io/docs/setup/best-practices/certificates).

make_pki() ( # make_pki STATE
	# shellcheck source=net.bash
	. "$here/lib/net.bash"
	umask 077
	mkdir -p "$1/pki"
	cd "$1/pki"
	key ca
	openssl req -x509 -new -key ca.key -subj /CN=kubernetes -days 3650 -out ca.crt
	key sa
	openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
	sign apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$API_SERVICE_IP,IP:$NODE_IP"
	sign kubelet-server "/CN=$NODE_NAME" "extendedKeyUsage=serverAuth
subjectAltName=DNS:$NODE_NAME,IP:$NODE_IP"
	local client=extendedKeyUsage=clientAuth
	sign kubelet-client /O=system:masters/CN=apiserver-kubelet-client $client
	sign admin /O=system:masters/CN=admin $client
	sign kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" $client
	sign controller-manager /CN=system:kube-controller-manager $client
	sign scheduler /CN=system:kube-scheduler $client
	sign proxy /CN=system:kube-proxy $client
	local u
	for u in admin kubelet controller-manager scheduler proxy; do kubeconfig "$u" >"$1/$u.conf"; done
)

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

sign() { # sign NAME SUBJECT EXTENSIONS
	key "$1"
	openssl req -new -key "$1.key" -subj "$2" |
		openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile <(printf '%s\n' "$3") -out "$1.crt" 2>/dev/null
}

kubeconfig() {
	cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: context, context: {cluster: cluster, user: user}}]
current-context: context
YAML
}
