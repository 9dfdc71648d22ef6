// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi/apitest"
)

const review = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","namespace":"ns",` +
	`"object":{"metadata":{"labels":{"marblerun/marbletype":"web"}},"spec":{"containers":[{"name":"web"}]}}}}`

// logged collects log lines of a running program.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a program that a test has started.
type running struct {
	webhook, metrics string
	log              *logged
	stop             context.CancelFunc
	code             chan int
}

func start(t *testing.T, env map[string]string, folder string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{log: &logged{}, stop: cancel, code: make(chan int, 1)}
	bound := make(chan struct{})
	args = append([]string{"-listen=127.0.0.1:0", "--metricsAddr", "127.0.0.1:0", "-shutdownDelay=0s"}, args...)
	go func() {
		r.code <- Run(ctx, Process{
			Args: args, Getenv: func(name string) string { return env[name] }, Stderr: r.log, Version: "1.2.3", Commit: "c0ffee",
			ServiceAccount: folder,
			Listening: func(webhook, metrics net.Addr) {
				r.webhook, r.metrics = webhook.String(), metrics.String()
				close(bound)
			},
		})
	}()
	t.Cleanup(cancel)
	select {
	case <-bound:
	case code := <-r.code:
		t.Fatalf("ended with %d:\n%s", code, r.log)
	}
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if code := <-r.code; code != 0 {
		t.Errorf("ended with %d:\n%s", code, r.log)
	}
}

func trusting(bundle []byte, name string) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
}

func body(t *testing.T, answer *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// selfSigned writes a certificate for "injector" and returns it as PEM, and the paths.
func selfSigned(t *testing.T) (bundle []byte, cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"injector"},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	cert, key = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	write(t, cert, bundle)
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return bundle, cert, key
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWithFiles(t *testing.T) {
	bundle, cert, key := selfSigned(t)
	r := start(t, map[string]string{"EDG_HTTP_ERROR_LOG_LEVEL": "info"}, "", "-tlsCertFile="+cert, "--tlsKeyFile", key,
		"-coordAddr=c.x:2001", "-clusterDomain=example", "-sgxResource=example.com/epc", "-sgxQuantity=3Mi")
	client := trusting(bundle, "injector")
	answer, err := client.Post("https://"+r.webhook+"/mutate", "application/json", strings.NewReader(review))
	if text := body(t, answer, err); answer.Status != "200 OK" || !strings.Contains(text, `"allowed":true`) {
		t.Errorf("%s %s", answer.Status, text)
	}
	if answer.ProtoMajor != 2 {
		t.Errorf("HTTP/%d", answer.ProtoMajor)
	}
	answer, err = client.Get("https://" + r.webhook + "/healthz")
	if text := body(t, answer, err); answer.StatusCode != 200 || text != "" {
		t.Errorf("%d %q", answer.StatusCode, text)
	}
	if _, err := trusting(nil, "injector").Get("https://" + r.webhook + "/healthz"); err == nil {
		t.Error("a client without the CA was content")
	}
	// The client sees the refusal of its own handshake before the server has counted it; the test's own time limit ends
	// a server that never counts.
	var text string
	for !strings.Contains(text, "marble_injector_tls_handshakes_failed_total 1\n") {
		answer, err = http.Get("http://" + r.metrics + "/metrics")
		text = body(t, answer, err)
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{`marble_injector_reviews_total{outcome="patched"} 1`,
		`version_info{version="1.2.3",commit="c0ffee"} 1`,
		`not_after_seconds{certificate="serving"} `} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s:\n%s", want, text)
		}
	}
	r.end(t)
	for _, want := range []string{`"msg":"Starting marble-injector webhook","version":"1.2.3","commit":"c0ffee"`,
		`"msg":"Starting Server"`, `"msg":"Reviewed a pod"`, "TLS handshake error", `"msg":"marble-injector stopped"`} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, r.log)
		}
	}
}

func TestManaged(t *testing.T) {
	api := apitest.New()
	api.PutWebhooks("marble-injector-ns", "ns/marble-injector")
	server := httptest.NewTLSServer(api)
	t.Cleanup(server.Close)
	folder := t.TempDir()
	write(t, filepath.Join(folder, "namespace"), []byte("ns"))
	write(t, filepath.Join(folder, "token"), []byte(apitest.Token))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	write(t, filepath.Join(folder, "ca.crt"), ca)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	one := start(t, env, folder, "-caSecret=ca")
	two := start(t, env, folder, "-caSecret=ca")
	for _, r := range []*running{one, two} {
		for { // until the certificate is there; the test's own time limit ends a program that never gets one
			answer, err := trusting(api.CABundle("marble-injector-ns", 0), "marble-injector.ns.svc").Post(
				"https://"+r.webhook+"/mutate", "application/json; charset=utf-8", strings.NewReader(review))
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if text := body(t, answer, nil); answer.StatusCode != 200 {
				t.Errorf("%d %s", answer.StatusCode, text)
			}
			break
		}
	}
	one.end(t)
	two.end(t)
	if data := api.SecretData("ns", "ca"); len(data) != 2 {
		t.Errorf("the Secret has %d members", len(data))
	}
}

func TestWrongFromTheStart(t *testing.T) {
	_, cert, key := selfSigned(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"help", []string{"-h"}, 0, []string{"-coordAddr", "-tlsCertFile", "-caSecret"}},
		{"unknown flag", []string{"-nonsense"}, 2, []string{"-nonsense"}},
		{"argument", []string{"serve"}, 2, []string{"serve"}},
		{"several", []string{"-coordAddr=x", "-sgxResource=epc", "-sgxQuantity=ten"}, 2,
			[]string{`\"x\"`, `\"epc\"`, `\"ten\"`}},
		{"lives", []string{"-caSecret=ca", "-certLife=10h", "-caLife=20h"}, 2, []string{"three times"}},
		{"short life", []string{"-caSecret=ca", "-certLife=1s"}, 2, []string{"1m0s"}},
		{"negative time", []string{"-shutdownDelay=-1s"}, 2, []string{"negative"}},
		{"no certificate", []string{"-tlsCertFile=/nowhere/tls.crt"}, 1, []string{"/nowhere/tls.crt"}},
		{"no cluster", []string{"-caSecret=ca"}, 1, []string{"KUBERNETES_SERVICE_HOST"}},
		{"address", []string{"-tlsCertFile=" + cert, "-tlsKeyFile=" + key, "-listen=127.0.0.1:99999"}, 1,
			[]string{"-listen"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log logged
			code := Run(t.Context(), Process{Args: c.args, Getenv: func(string) string { return "" }, Stderr: &log})
			if code != c.code {
				t.Errorf("code %d, want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%s lacks %s", log.String(), want)
				}
			}
		})
	}
}
