// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// Access is what Helm calls a RESTClientGetter. What the API server offers is asked once and kept in memory, not in
// files below HOME as kubectl does: a command of ours runs once.
type Access struct {
	config *rest.Config
	loader clientcmd.ClientConfig

	once      sync.Once
	discovery discovery.CachedDiscoveryInterface
	err       error
}

// ToRESTConfig returns a copy of the connection's configuration.
func (a *Access) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(a.config), nil }

// ToRawKubeConfigLoader returns the configuration with the overrides of this run, the namespace among them.
func (a *Access) ToRawKubeConfigLoader() clientcmd.ClientConfig { return a.loader }

// ToDiscoveryClient returns what tells what the API server offers.
func (a *Access) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	a.once.Do(func() {
		client, err := discovery.NewDiscoveryClientForConfig(a.config)
		if err != nil {
			a.err = err
			return
		}
		a.discovery = memory.NewMemCacheClient(client)
	})
	return a.discovery, a.err
}

// ToRESTMapper returns what knows the path of a kind.
func (a *Access) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := a.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(client), nil
}
