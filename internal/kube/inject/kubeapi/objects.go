// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
)

// Secret is what is read of a Secret.
type Secret struct {
	// Version is the resource version.
	Version string
	Data    map[string][]byte
}

// Webhook is what is read of one webhook of a configuration.
type Webhook struct {
	Name string
	// Namespace and Service are those of the Service that is called; "" if a URL is.
	Namespace, Service string
	// CABundle is PEM.
	CABundle []byte
}

// Webhooks is what is read of a MutatingWebhookConfiguration.
type Webhooks struct {
	Version  string
	Webhooks []Webhook
}

type metadata struct {
	Name            string            `json:"name,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
}

type secretObject struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   metadata          `json:"metadata"`
	Data       map[string][]byte `json:"data,omitempty"` // base64
}

func secretsPath(namespace string) string {
	return "/api/v1/namespaces/" + url.PathEscape(namespace) + "/secrets"
}

const managed = "?fieldManager=" + manager

// Secret reads a Secret.
func (c *Client) Secret(ctx context.Context, namespace, name string) (Secret, error) {
	var o secretObject
	err := c.call(ctx, http.MethodGet, secretsPath(namespace)+"/"+url.PathEscape(name), "", nil, &o)
	return Secret{Version: o.Metadata.ResourceVersion, Data: o.Data}, err
}

// CreateSecret creates a Secret with the members of data that are not nil; ErrConflict if it exists.
func (c *Client) CreateSecret(ctx context.Context, namespace, name string, data map[string][]byte) error {
	data = maps.Clone(data)
	maps.DeleteFunc(data, func(_ string, value []byte) bool { return value == nil })
	return c.call(ctx, http.MethodPost, secretsPath(namespace)+managed, typeJSON, secretObject{
		APIVersion: "v1", Kind: "Secret", Data: data,
		Metadata: metadata{Name: name, Namespace: namespace,
			Labels: map[string]string{"app.kubernetes.io/part-of": "marblerun"}},
	}, nil)
}

// PatchSecret sets members of a Secret's data, and removes those that are nil, if it still has the version.
func (c *Client) PatchSecret(ctx context.Context, namespace, name, version string, data map[string][]byte) error {
	members := map[string]any{}
	for key, value := range data {
		members[key] = nil
		if value != nil {
			members[key] = value
		}
	}
	return c.call(ctx, http.MethodPatch, secretsPath(namespace)+"/"+url.PathEscape(name)+managed, typeMergePatch,
		map[string]any{"metadata": metadata{ResourceVersion: version}, "data": members}, nil)
}

func webhooksPath(name string) string {
	return "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + url.PathEscape(name)
}

// Webhooks reads a MutatingWebhookConfiguration.
func (c *Client) Webhooks(ctx context.Context, name string) (Webhooks, error) {
	var o struct {
		Metadata metadata `json:"metadata"`
		Webhooks []struct {
			Name         string `json:"name"`
			ClientConfig struct {
				CABundle []byte `json:"caBundle"`
				Service  struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
				} `json:"service"`
			} `json:"clientConfig"`
		} `json:"webhooks"`
	}
	if err := c.call(ctx, http.MethodGet, webhooksPath(name), "", nil, &o); err != nil {
		return Webhooks{}, err
	}
	w := Webhooks{Version: o.Metadata.ResourceVersion}
	for _, one := range o.Webhooks {
		to := one.ClientConfig
		w.Webhooks = append(w.Webhooks, Webhook{one.Name, to.Service.Namespace, to.Service.Name, to.CABundle})
	}
	return w, nil
}

// PatchCABundle sets the CA bundle of the webhooks at the given positions, if the configuration still has the version.
func (c *Client) PatchCABundle(ctx context.Context, name, version string, at []int, bundle []byte) error {
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	// An update with another resource version than the object's is a conflict, also when a patch makes it.
	ops := []op{{"replace", "/metadata/resourceVersion", version}}
	for _, i := range at {
		ops = append(ops, op{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
	}
	return c.call(ctx, http.MethodPatch, webhooksPath(name)+managed, typeJSONPatch, ops, nil)
}
