// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/marblerun/marblerun/api"
)

// explainConfig adds a hint to an error of reading the configuration.
func explainConfig(err error, o Options) error {
	switch {
	case clientcmd.IsEmptyConfig(err):
		return api.WithHint(err, "Name a cluster: set KUBECONFIG, pass --kubeconfig FILE, or have ~/.kube/config.")
	case clientcmd.IsContextNotFound(err), o.Context != "" && strings.Contains(err.Error(), "does not exist"):
		return api.WithHint(err, "'kubectl config get-contexts' lists the contexts.")
	case errors.Is(err, fs.ErrNotExist) && o.Kubeconfig != "":
		return api.WithHint(err, "--kubeconfig names a file as kubectl reads it.")
	case clientcmd.IsConfigurationInvalid(err):
		return api.WithHint(err, "Compare with what 'kubectl config view' shows.")
	}
	return err
}

// Explain adds a hint to an error of a request, unless it has one.
func (c *Cluster) Explain(err error) error {
	if err == nil || api.Hint(err) != "" {
		return err
	}
	if hint := c.hint(err); hint != "" {
		return api.WithHint(err, hint)
	}
	return err
}

func (c *Cluster) hint(err error) string {
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var timeout net.Error
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case apierrors.IsUnauthorized(err):
		return fmt.Sprintf("The API server %s does not accept the credentials of the kubeconfig. They may have expired.",
			c.Place)
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("'marblerun precheck -n %s' lists what MarbleRun needs permission for.", c.Namespace)
	case strings.Contains(text, "connection refused"), strings.Contains(text, "actively refused"):
		return fmt.Sprintf("Nothing answers at %s. Is the cluster running, and is this the right one? "+
			"--kubeconfig and --context choose another.", c.Place)
	case errors.As(err, &dns):
		return fmt.Sprintf("The name of the API server %s is unknown here. --context chooses another cluster.", c.Place)
	case errors.As(err, &unknownCA), errors.As(err, &hostname), strings.Contains(text, "x509:"):
		return fmt.Sprintf("The certificate of the API server %s is not the one that the kubeconfig expects. "+
			"Get a new kubeconfig from whoever runs the cluster.", c.Place)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("The API server %s does not answer. Is there a VPN or a firewall in between?", c.Place)
	}
	return ""
}
