// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/marblerun/marblerun/api"
)

// WebhookHint is the advice when a webhook that the API server must ask does not answer.
const WebhookHint = "A webhook of the cluster does not answer: " +
	"'kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations'."

// explainConfig adds a hint to an error of reading the configuration, for which there were these files.
func explainConfig(err error, o Options, files []string) error {
	switch {
	case clientcmd.IsEmptyConfig(err):
		return api.WithHint(cmp.Or(missing(files), err),
			"Name a cluster: set KUBECONFIG, pass --kubeconfig FILE, or have ~/.kube/config.")
	case clientcmd.IsContextNotFound(err), o.Context != "" && strings.Contains(err.Error(), "does not exist"):
		return api.WithHint(err, "'kubectl config get-contexts' lists the contexts.")
	case errors.Is(err, fs.ErrNotExist) && o.Kubeconfig != "":
		return api.WithHint(err, "--kubeconfig names a file as kubectl reads it.")
	case clientcmd.IsConfigurationInvalid(err):
		return api.WithHint(err, "Compare with what 'kubectl config view' shows.")
	case strings.Contains(err.Error(), "error loading config file"):
		return api.WithHint(err, "It is not a kubeconfig as 'kubectl config view' shows one. --kubeconfig names another file.")
	}
	return err
}

// missing is the error of files of which none exists; nil: one does.
func missing(files []string) error {
	var errs []error
	for _, file := range files {
		_, err := os.Stat(file)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Explain adds a hint to an error of a request, unless it has one.
func (c *Cluster) Explain(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); text != strings.TrimSpace(text) {
		err = trimmed{err}
	}
	if api.Hint(err) != "" {
		return err
	}
	if hint := c.hint(err); hint != "" {
		return api.WithHint(err, hint)
	}
	return err
}

// trimmed is an error without the line ends that the API server's and Helm's errors can have.
type trimmed struct{ error }

// Error and Unwrap make it an error.
func (t trimmed) Error() string { return strings.TrimSpace(t.error.Error()) }
func (t trimmed) Unwrap() error { return t.error }

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
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		return fmt.Sprintf("The namespace's quota is too small: kubectl -n %s describe resourcequota", c.Namespace)
	case strings.Contains(text, "failed calling webhook"):
		return WebhookHint
	case strings.Contains(text, "admission webhook"), strings.Contains(text, "ValidatingAdmissionPolicy"):
		return "A rule of this cluster forbids it. Who runs the cluster knows what it asks for."
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
