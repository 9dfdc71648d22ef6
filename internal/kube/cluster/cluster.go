// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster is the way to a Kubernetes API server: which one, as whom, and what to do if it cannot be reached.
//
// Invariants: there is one choice of cluster for everything, Helm included, made by the rules of kubectl (a file that
// is named, the list in $KUBECONFIG, ~/.kube/config, the service account of the Pod that this runs in). Nothing is
// connected to before the first request. Every error of a request that Explain has seen says what to do.
package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// dialTimeout bounds the attempt to reach an API server that does not answer at all.
const dialTimeout = 10 * time.Second

// Options choose a cluster.
type Options struct {
	// Kubeconfig is a file; empty: as kubectl does. Context is one of its contexts; empty: the current one.
	Kubeconfig, Context string
	// Namespace is that of the MarbleRun installation.
	Namespace string
	// Warn is told the API server's warnings, e.g. of deprecated fields. Nil: they are dropped.
	Warn func(string)
}

// Cluster is a Kubernetes cluster and a namespace in it.
type Cluster struct {
	// Namespace is that of the MarbleRun installation.
	Namespace string
	// Client speaks to the API server.
	Client kubernetes.Interface
	// Access is the same way to the same API server, as Helm wants it.
	Access *Access
	// Place names the cluster for people, e.g. `https://127.0.0.1:6443 (context "kind")`.
	Place string
}

// Open reads the configuration. It does not connect.
func Open(o Options) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	overrides.Context.Namespace = o.Namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, explainConfig(err, o, rules.Precedence)
	}
	// A person waits: requests are few, so the client need not hold them back.
	config.QPS, config.Burst = 100, 300
	config.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	config.WarningHandler = warnings(o.Warn)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, explainConfig(err, o, rules.Precedence)
	}
	return &Cluster{
		Namespace: o.Namespace, Client: client, Access: &Access{config: config, loader: loader},
		Place: place(config, loader, o.Context),
	}, nil
}

func place(config *rest.Config, loader clientcmd.ClientConfig, context string) string {
	if raw, err := loader.RawConfig(); err == nil && context == "" {
		context = raw.CurrentContext
	}
	if context == "" {
		return config.Host
	}
	return fmt.Sprintf("%s (context %q)", config.Host, context)
}

// warnings is a rest.WarningHandler.
type warnings func(string)

// HandleWarningHeader hands on what RFC 7234 §5.5 calls miscellaneous warnings; Kubernetes uses no others.
func (w warnings) HandleWarningHeader(code int, _ string, text string) {
	if w != nil && code == 299 && text != "" {
		w(text)
	}
}

// Quiet keeps the libraries from writing to stderr on their own, for the whole process: what matters of it comes back
// as errors, and some of it would show values that may be secret. It is for the edge of a program.
func Quiet() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler)) // package log writes there then, too
}
