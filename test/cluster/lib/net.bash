# Copyright The Marblerun Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced: names and addresses in the node. Every cluster has a network namespace of its own, so all have the same ones.
NODE_NAME=kube-node
NODE_IP=10.200.0.1
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
