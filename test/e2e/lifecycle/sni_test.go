// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// passThrough is nginx as docs/howto/kubernetes/ingress.md has it, for two names.
const passThrough = `
include /etc/nginx/modules-enabled/*.conf;
daemon off;
pid %[1]s/pid;
events {}
stream {
  map $ssl_preread_server_name $backend {
    one.example.com  %[2]s:4433;
    two.example.com  %[3]s:4433;
    default          127.0.0.1:9;  # nobody
  }
  server {
    listen 127.0.0.1:%[4]d;
    ssl_preread on;
    proxy_pass $backend;
  }
}
`

// TestSNI reaches two Coordinators through one address of a real nginx, which chooses by the name in the greeting and
// does not end TLS.
func TestSNI(t *testing.T) {
	t.Parallel()
	kit.New(t).NodeOnly() // elsewhere nginx would have to be in the cluster
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("SKIP: nginx is not installed: apt-get install nginx libnginx-mod-stream")
	}
	one, two := newPlane(t, "one"), newPlane(t, "two")
	for name, p := range map[string]*plane{"one.example.com": one, "two.example.com": two} {
		p.restricted(p.ns)
		p.Helm(append([]string{"install", "marblerun", p.Chart("marblerun"), "-n", p.ns,
			"--set", "coordinator.hostname=" + name}, simulation()...)...)
	}
	one.reach(2)
	two.reach(2)
	gate := one.startProxy(one.clusterIP(), two.clusterIP())

	// A Coordinator is set up through the proxy, by its name, and the other one does not notice.
	out := gate.Do(gate.cli("manifest", "set", one.manifest(), gate.at("one.example.com"), "-i"))
	one.has("manifest set", out.Stdout, "Manifest successfully set")
	one.reach(3)
	two.reach(2)
	one.has("status by name", gate.Do(gate.cli("status", gate.at("one.example.com"), "-i")).Stdout, "3: ")
	two.has("status by name", gate.Do(gate.cli("status", gate.at("two.example.com"), "-i")).Stdout, "2: ")

	root := one.rootBy(gate.cli, gate.at("one.example.com"))
	if direct := one.root(); root != direct {
		t.Errorf("the root certificate is\n%s\nand through the proxy\n%s", direct, root)
	}
	if other := two.rootBy(gate.cli, gate.at("two.example.com")); other == root {
		t.Error("both names lead to the same Coordinator")
	}
	// What a browser or curl does: name and certificate are checked.
	if err := gate.verified("one.example.com", root); err != nil {
		t.Errorf("one.example.com: %v", err)
	}
	if err := gate.verified("two.example.com", root); err == nil {
		t.Error("two.example.com shows a certificate of the other Coordinator")
	}
	// Nobody answers to an unknown name, or to none.
	for _, name := range []string{"three.example.com", "127.0.0.1"} {
		out := gate.DoFails(gate.cli("status", gate.at(name), "-i"))
		one.has("an unknown name", out.Stderr, "Error: ")
	}
}

// clusterIP is the address of the client Service.
func (p *plane) clusterIP() string {
	p.Helper()
	return p.Kubectl("-n", p.ns, "get", "service", clientAPI, "-o", "jsonpath={.spec.clusterIP}")
}

// proxy is an nginx on loopback, and a way to use names that nobody registered.
type proxy struct {
	*kit.Kit
	port  int
	hosts string // a file in place of /etc/hosts
}

// startProxy starts nginx in front of two addresses.
func (p *plane) startProxy(one, two string) *proxy {
	p.Helper()
	dir := p.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.Fatal(err)
	}
	g := &proxy{p.Kit, l.Addr().(*net.TCPAddr).Port, filepath.Join(dir, "hosts")}
	l.Close()
	hosts := "127.0.0.1 localhost one.example.com two.example.com three.example.com\n"
	config := fmt.Sprintf(passThrough, dir, one, two, g.port)
	for file, text := range map[string]string{"hosts": hosts, "nginx.conf": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			p.Fatal(err)
		}
	}
	log := filepath.Join(dir, "log")
	nginx := exec.Command("nginx", "-c", filepath.Join(dir, "nginx.conf"), "-e", log)
	nginx.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // its workers end with it
	if err := nginx.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		_ = nginx.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		err := nginx.Wait()
		if text, _ := os.ReadFile(log); p.Failed() {
			p.Logf("nginx: %v\n%s", err, text)
		}
	})
	p.Eventually("nginx listens", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", g.port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return g
}

func (g *proxy) at(name string) string { return fmt.Sprintf("%s:%d", name, g.port) }

// cli is a command of the CLI that sees g.hosts as /etc/hosts, in a mount namespace of its own.
func (g *proxy) cli(args ...string) kit.Command {
	return kit.Command{Args: slices.Concat(
		[]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec marblerun "$@"`, g.hosts}, args)}
}

// verified connects to a name, and believes one root certificate.
func (g *proxy) verified(name, root string) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(root)) {
		g.Fatalf("no certificate: %s", root)
	}
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.port), &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].DNSNames; !slices.Contains(got, name) {
		return fmt.Errorf("it is for %s", strings.Join(got, ", "))
	}
	return nil
}
