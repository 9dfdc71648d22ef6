// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject"
	"github.com/marblerun/marblerun/internal/logging"
)

// config is all that the command line and the environment say.
type config struct {
	inject      inject.Config
	listen      string
	metrics     string // "" turns metrics off
	certFile    string
	keyFile     string
	managed     managed
	lameDuck    time.Duration
	drain       time.Duration
	logLevel    slog.Level
	logText     bool
	httpLogging slog.Level
}

// managed is about the certificate of our own; off if secret is "".
type managed struct {
	secret, webhooks, service, namespace string
	servingLife, caLife                  time.Duration
}

// readConfig reads flags and environment; usage goes to out. Single and double dashes are the same.
func readConfig(args []string, getenv func(string) string, out io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("marble-injector", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.inject.CoordinatorAddr, "coordAddr", "coordinator-mesh-api.marblerun:2001",
		"host:port of the Coordinator's Marble API, given to Marbles")
	f.StringVar(&c.inject.ClusterDomain, "clusterDomain", "cluster.local", "DNS domain of the cluster")
	f.StringVar(&c.inject.Resource, "sgxResource", inject.IntelEPC, "extended resource of the SGX device plugin")
	f.StringVar(&c.inject.Quantity, "sgxQuantity", "",
		"amount of the SGX resource per container (default 10Mi for "+inject.IntelEPC+", else 10)")
	f.StringVar(&c.certFile, "tlsCertFile", "/etc/webhook/certs/tls.crt",
		"serving certificate (PEM), read again when it changes")
	f.StringVar(&c.keyFile, "tlsKeyFile", "/etc/webhook/certs/tls.key", "its key (PEM)")
	f.StringVar(&c.managed.secret, "caSecret", "",
		"look after the serving certificate with a CA kept in this Secret, instead of the files")
	f.StringVar(&c.managed.webhooks, "webhookConfig", "",
		"MutatingWebhookConfiguration whose caBundle is kept in step (default marble-injector-<namespace>)")
	f.StringVar(&c.managed.service, "service", "marble-injector", "Service by which the API server calls the webhook")
	f.StringVar(&c.managed.namespace, "namespace", "",
		"namespace of Secret and Service (default that of the service account)")
	f.DurationVar(&c.managed.servingLife, "certLife", 30*24*time.Hour,
		"life of a serving certificate, replaced after 2/3 of it")
	f.DurationVar(&c.managed.caLife, "caLife", 365*24*time.Hour, "life of the CA, replaced after 5/6 of it")
	f.StringVar(&c.listen, "listen", ":8443", "address of the webhook")
	f.StringVar(&c.metrics, "metricsAddr", "", "address of /metrics, plain HTTP (default off)")
	f.DurationVar(&c.lameDuck, "shutdownDelay", 5*time.Second,
		"how long to go on accepting after SIGTERM, while the Service still sends requests here")
	f.DurationVar(&c.drain, "shutdownTimeout", 10*time.Second, "how long requests in work may take after that")
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	c.logText = getenv("EDG_COORDINATOR_DEV_MODE") == "1"
	if c.logText || getenv("EDG_DEBUG_LOGGING") == "1" {
		c.logLevel = slog.LevelDebug
	}
	c.httpLogging = logging.ParseLevel(getenv("EDG_HTTP_ERROR_LOG_LEVEL"))
	return c, c.check(f.Args())
}

// minLife of certificates, so that looking after them keeps up.
const minLife = time.Minute

// check returns all problems that can be seen without looking around.
func (c config) check(rest []string) error {
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q: everything is said by flags", rest[0]))
	}
	if c.managed.secret != "" && (c.managed.servingLife < minLife || c.managed.caLife < 3*c.managed.servingLife) {
		errs = append(errs, fmt.Errorf("-certLife %v must be at least %v, and -caLife %v at least three times -certLife",
			c.managed.servingLife, minLife, c.managed.caLife))
	}
	if c.lameDuck < 0 || c.drain < 0 {
		errs = append(errs, errors.New("-shutdownDelay and -shutdownTimeout must not be negative"))
	}
	_, err := inject.New(c.inject)
	return errors.Join(append(errs, err)...)
}
