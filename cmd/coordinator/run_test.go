// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/internal/server"
)

const manifestJSON = `{
	"Packages": {"app": {"UniqueID": "0000000000000000000000000000000000000000000000000000000000000000"}},
	"Marbles": {"web": {"Package": "app", "MaxActivations": 2, "Parameters": {"Argv": ["web"]}}}
}`

// lines collects log lines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// noTEE is what detection says on an ordinary machine.
func noTEE(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) {
	return nil, nil, issue.ErrNoTEE
}

// program is a running Coordinator, in this process.
type program struct {
	t                     *testing.T
	log                   *lines
	client, mesh, metrics string // addresses
	stop                  func() bool
	http                  *http.Client
}

// surroundings are simulation on random ports, with the state in dir.
func surroundings(dir string, more ...string) process {
	p := env(append([]string{
		envSimulation, "1", envClientAddr, "127.0.0.1:0", envMeshAddr, "127.0.0.1:0", envMetricsAddr, "127.0.0.1:0",
		envSealDir, dir,
	}, more...)...)
	p.stderr, p.detect = &lines{}, noTEE
	return p
}

// start runs the program until it listens. A program that ends before that ends the test.
func start(t *testing.T, p process) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	listening, ended := make(chan *server.Server, 1), make(chan bool, 1)
	p.listening = func(s *server.Server) { listening <- s }
	go func() { ended <- run(ctx, p) }()
	r := &program{t: t, log: p.stderr.(*lines), stop: sync.OnceValue(func() bool { cancel(); return <-ended })}
	t.Cleanup(func() { r.stop() })
	select {
	case s := <-listening:
		r.client, r.mesh, r.metrics = s.ClientAddr().String(), s.MeshAddr().String(), s.MetricsAddr().String()
	case ok := <-ended:
		t.Fatalf("ended with %v: %s", ok, r.log)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	r.http = &http.Client{Transport: transport}
	return r
}

// fails runs a program that must end by itself, and returns its log.
func fails(t *testing.T, p process) string {
	t.Helper()
	if run(t.Context(), p) {
		t.Errorf("ended well: %s", p.stderr)
	}
	return p.stderr.(*lines).String()
}

func (r *program) get(path string) (int, wire.Response) {
	r.t.Helper()
	resp, err := r.http.Get("https://" + r.client + path)
	return r.read(resp, err)
}

func (r *program) post(path, body string) (int, wire.Response) {
	r.t.Helper()
	resp, err := r.http.Post("https://"+r.client+path, "", strings.NewReader(body))
	return r.read(resp, err)
}

func (r *program) read(resp *http.Response, err error) (int, wire.Response) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%v; log: %s", err, r.log)
	}
	defer resp.Body.Close()
	var body wire.Response
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func (r *program) state() int {
	r.t.Helper()
	_, body := r.get("/api/v2/status")
	var s wire.StatusV2
	if err := json.Unmarshal(body.Data, &s); err != nil {
		r.t.Fatal(err)
	}
	return s.Code
}

// root is the certificate that the client API presents.
func (r *program) root() string {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.client, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	return string(c.ConnectionState().PeerCertificates[0].Raw)
}

// activate joins as a Marble would: a fresh TLS key, a CSR, no evidence.
func (r *program) activate(marbleType, uuid string) (*marblepb.ActivationResp, error) {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a"}}, key)
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:"+r.mesh, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
	})))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	return marblepb.NewMarbleClient(conn).Activate(r.t.Context(), &marblepb.ActivationReq{
		CSR: csr, MarbleType: marbleType, UUID: uuid,
	})
}

const uuid1 = "0000000A-0000-0000-0000-000000000001"

// One life of a Coordinator (coordinator-runtime §15, checks 1 to 4, 14, 15).
func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := start(t, surroundings(dir))
	if s := r.state(); s != 2 {
		t.Fatalf("state %d", s)
	}
	if _, err := r.activate("web", uuid1); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("activation in state 2: %v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil && !os.IsNotExist(err) {
		t.Errorf("state directory before a manifest: %v, %v", entries, err)
	}
	if code, body := r.post("/manifest", manifestJSON); code != 200 {
		t.Fatalf("set manifest: %d %s", code, body.Message)
	}
	if resp, err := r.activate("web", uuid1); err != nil || resp.GetParameters().GetArgv()[0] != "web" {
		t.Errorf("activation: %v", err)
	}
	if _, err := r.activate("stranger", uuid1); status.Code(err) != codes.PermissionDenied {
		t.Errorf("unknown type: %v", err)
	}
	r.checkMetrics()
	root := r.root()
	if !r.stop() {
		t.Errorf("stopped with an error: %s", r.log)
	}

	r = start(t, surroundings(dir))
	if s := r.state(); s != 3 || r.root() != root {
		t.Errorf("after a restart: state %d, same root: %v", s, r.root() == root)
	}
	if _, err := r.activate("web", uuid1); err != nil {
		t.Errorf("second activation: %v", err)
	}
	if _, err := r.activate("web", uuid1); status.Code(err) != codes.PermissionDenied {
		t.Errorf("activation beyond MaxActivations: %v", err)
	}
	for _, path := range []string{"/api/v2/activations", "/api/v2/update", "/api/v2/recovery-secrets", "/api/v2/manifest"} {
		if code, body := r.get(path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body.Message)
		}
	}
}

func (r *program) checkMetrics() {
	r.t.Helper()
	metrics := r.scrape("/metrics")
	for _, want := range []string{
		"coordinator_state 3",
		`coordinator_marble_activations_total{type="web",uuid=""} 1`,
		`coordinator_marble_activations_success_total{type="web",uuid=""} 1`,
		`coordinator_marble_activations_total{type="unknown",uuid=""} 2`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 1`,
		`server_client_api_http_request_total{code="200",method="post",path="/manifest"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			r.t.Errorf("missing %s in\n%s", want, metrics)
		}
	}
	var events []struct{ Activation map[string]any }
	if err := json.Unmarshal([]byte(r.scrape("/events")), &events); err != nil {
		r.t.Fatal(err)
	}
	want := map[string]any{"marbleType": "web", "uuid": strings.ToLower(uuid1), "quote": nil}
	if len(events) != 1 || !cmp.Equal(events[0].Activation, want) {
		r.t.Errorf("events %v", events)
	}
	// Q2: metrics change nothing about unknown paths.
	if code, _ := r.get("/nothing"); code != 405 {
		r.t.Errorf("unknown path: %d", code)
	}
}

func (r *program) scrape(path string) string {
	r.t.Helper()
	resp, err := http.Get("http://" + r.metrics + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// coordinator-runtime §5, and every line is JSON within bounds.
func TestLogLines(t *testing.T) {
	r := start(t, surroundings(t.TempDir()))
	r.post("/manifest", manifestJSON)
	_, _ = r.activate("web", uuid1)
	_, _ = r.activate("stranger", uuid1)
	r.stop()
	log := r.log.String()
	for line := range strings.Lines(log) {
		var l struct {
			Level, Caller, Msg string
			TS                 float64
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Level == "" || l.Caller == "" || l.Msg == "" || l.TS == 0 {
			t.Errorf("%v in %s", err, line)
		}
	}
	for _, want := range []string{
		`"msg":"Starting coordinator","version":"0.0.0-dev","commit":"unknown","distributed":false`,
		`"level":"warn"`, `"msg":"Failed to get quote. Proceeding in simulation mode.","error":`,
		`"msg":"No sealed state found. Proceeding with new state."`,
		`"msg":"Starting the client server","address":"127.0.0.1:0"`,
		`"msg":"Starting client https server","address":"` + r.client + `"`,
		`"msg":"Starting the marble server","grpcAddr":"127.0.0.1:0"`,
		`"msg":"Started gRPC server","grpcAddr":"` + r.mesh + `"`,
		`"msg":"SetManifest called"`, `"msg":"SetManifest successful"`,
		`"msg":"Received activation request"`, `"MarbleType":"web"`, `"msg":"Successfully activated new Marble"`,
		`"msg":"Marble verification failed"`,
		`"msg":"Usage of deprecated API endpoint. Consider using /api/v2/manifest instead"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("missing %s", want)
		}
	}
	if strings.Contains(log, "recovery data") { // Q4
		t.Errorf("misleading line: %s", log)
	}
}

func TestDevModeLogsText(t *testing.T) {
	r := start(t, surroundings(t.TempDir(), envDevMode, "1"))
	r.stop()
	for line := range strings.Lines(r.log.String()) {
		if strings.Count(line, "\t") < 3 {
			t.Errorf("line %q", line)
		}
	}
}

func TestStartupManifest(t *testing.T) {
	dir, other := t.TempDir(), strings.Replace(manifestJSON, "web", "site", 2)
	file := filepath.Join(dir, "manifest.json")
	state := filepath.Join(dir, "state")
	begin := func(content string) *program {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return start(t, surroundings(state, envStartupManifest, file))
	}
	r := begin(manifestJSON)
	if s := r.state(); s != 3 {
		t.Errorf("state %d", s)
	}
	r.stop()
	for _, content := range []string{manifestJSON, other} { // skipped when something is set
		r = begin(content)
		var got wire.ManifestV2
		if _, body := r.get("/api/v2/manifest"); json.Unmarshal(body.Data, &got) != nil || string(got.Manifest) != manifestJSON {
			t.Errorf("after a restart: %s", body.Data)
		}
		r.stop()
	}
	if !strings.Contains(r.log.String(), "skipping the startup manifest") {
		t.Errorf("no warning: %s", r.log)
	}
}

func TestWhatEndsTheProgram(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	inTEE := func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) { return someTEE{}, nil, nil }
	broken := func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) {
		return nil, nil, fmt.Errorf("broken")
	}
	tests := map[string]struct {
		env    []string
		detect func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error)
		want   []string
	}{
		"client address taken": {[]string{envClientAddr, taken.Addr().String()}, noTEE, []string{"Cannot listen", envClientAddr, "address already in use"}},
		"mesh address taken":   {[]string{envMeshAddr, taken.Addr().String()}, noTEE, []string{"Cannot listen", envMeshAddr}},
		"bad address":          {[]string{envMeshAddr, "nonsense"}, noTEE, []string{"missing port"}},
		"no TEE": {[]string{envSimulation, ""}, noTEE,
			[]string{"Cannot establish trust", "no source of TEE evidence found", "set EDG_COORDINATOR_SIMULATION=1"}},
		"simulation in a TEE":     {nil, inTEE, []string{"EDG_COORDINATOR_SIMULATION: refused in a TEE", "sgx (test)"}},
		"old simulation in a TEE": {[]string{envSimulation, "", envOESimulation, "1"}, inTEE, []string{"OE_SIMULATION: refused in a TEE"}},
		"dev mode in a TEE":       {[]string{envSimulation, "", envDevMode, "1"}, inTEE, []string{"EDG_COORDINATOR_DEV_MODE: refused in a TEE"}},
		"software root in a TEE": {[]string{envSimulation, "", envSoftTEERoot, "/root.pem"}, inTEE,
			[]string{"EDG_COORDINATOR_SOFTTEE_ROOT: refused in a TEE"}},
		"software TEE in a TEE": {[]string{envSimulation, "", envSoftTEESocket, "/socket"}, inTEE,
			[]string{"EDG_SOFTTEE_SOCKET: refused in a TEE"}},
		"a TEE without evidence": {[]string{envSimulation, ""}, inTEE, []string{"cannot create Coordinator core", "no quote today"}},
		"software TEE and simulation": {[]string{envSoftTEESocket, "/socket"}, noTEE,
			[]string{"EDG_SOFTTEE_SOCKET and EDG_COORDINATOR_SIMULATION contradict each other"}},
		"software TEE without its root": {[]string{envSimulation, "", envSoftTEESocket, "/socket"}, noTEE,
			[]string{"EDG_SOFTTEE_SOCKET needs EDG_COORDINATOR_SOFTTEE_ROOT"}},
		"bad bundle":                {[]string{envSoftTEERoot, bad}, noTEE, []string{"setting up the verification of evidence"}},
		"detection fails":           {nil, broken, []string{"looking for a TEE: broken"}},
		"startup manifest missing":  {[]string{envStartupManifest, "/does/not/exist"}, noTEE, []string{"Cannot set startup manifest", "/does/not/exist"}},
		"startup manifest invalid":  {[]string{envStartupManifest, bad}, noTEE, []string{"Cannot set startup manifest"}},
		"seal directory impossible": {[]string{envSealDir, "/dev/null/x"}, noTEE, []string{"Cannot create Coordinator core", "/dev/null/x"}},
		"unsupported":               {[]string{envDistributed, "1"}, noTEE, []string{"Invalid configuration", "not supported yet"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := surroundings(t.TempDir(), tt.env...)
			p.detect = tt.detect
			log := fails(t, p)
			last := log[strings.LastIndex(strings.TrimSuffix(log, "\n"), "\n")+1:]
			for _, want := range append(tt.want, "ERROR") {
				if !strings.Contains(strings.ToUpper(last), strings.ToUpper(want)) {
					t.Errorf("the last line lacks %q: %s", want, last)
				}
			}
		})
	}
}

type someTEE struct{}

func (someTEE) Name() string    { return "test" }
func (someTEE) TEE() attest.TEE { return attest.SGX }
func (someTEE) Issue(context.Context, [64]byte) ([]byte, error) {
	return nil, fmt.Errorf("no quote today")
}

// Metrics are worth a warning, no more.
func TestMetricsAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p := surroundings(t.TempDir(), envMetricsAddr, taken.Addr().String())
	listening := make(chan *server.Server, 1)
	p.listening = func(s *server.Server) { listening <- s }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan bool, 1)
	go func() { ended <- run(ctx, p) }()
	if s := <-listening; s.MetricsAddr() != nil {
		t.Error("metrics at a taken address")
	}
	cancel()
	if !<-ended || !strings.Contains(p.stderr.(*lines).String(), "Cannot listen for metrics") {
		t.Errorf("log: %s", p.stderr)
	}
}

// The same ports can be used again at once.
func TestRestartOnTheSamePorts(t *testing.T) {
	dir := t.TempDir()
	r := start(t, surroundings(dir))
	for range 3 {
		r.state()
		r.stop()
		r = start(t, surroundings(dir, envClientAddr, r.client, envMeshAddr, r.mesh, envMetricsAddr, r.metrics))
	}
	if s := r.state(); s != 2 {
		t.Errorf("state %d", s)
	}
}
