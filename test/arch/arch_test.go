// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package arch keeps the doors between the rooms: which package may import which, and why. It also keeps the habits that a
// machine can check: package comments, licence headers, no init functions.
package arch

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/marblerun/marblerun/"

// rule forbids the packages below from to depend, directly or not, on the packages below forbidden.
type rule struct {
	from      string
	forbidden []string
	why       string
	except    []string
	// exempt are packages below from that the rule does not bind; why says why.
	exempt []string
}

var rules = []rule{
	{from: "manifest", forbidden: []string{"internal", "api", "marble"},
		why: "the manifest language is public and pure"},
	{from: "attest", forbidden: []string{"manifest", "internal", "api", "marble"},
		why: "attestation returns reasons, the manifest adds the path"},
	{from: "ttls", forbidden: []string{"internal", "manifest", "attest"},
		why: "the transparent-TLS format is public and pure"},
	{from: "api", forbidden: []string{"internal"},
		why:    "users of the client library get no Coordinator; those of coordinatortest ask for one, in their tests",
		exempt: []string{"api/coordinatortest"}},
	{from: "cmd", forbidden: []string{"api/coordinatortest"},
		why: "a Coordinator that believes everybody is for tests"},
	{from: "marble", forbidden: []string{"internal", "manifest"},
		why: "the data plane has the fewest dependencies of all"},
	{from: "internal/cli", forbidden: []string{"internal/coordinator", "internal/server", "internal/vault", "internal/journal"},
		why: "the CLI is a client: it sees what the API shows"},
	{from: "cmd/coordinator", forbidden: []string{"attest/softtee", "api/client", "internal/cli"},
		why:    "a Coordinator gets a software TEE's root as a file and its issuer as a socket, never as code",
		except: []string{"attest/softtee/issuersock"}},
	{from: "cmd/marble-injector", forbidden: []string{"internal/coordinator", "internal/vault", "internal/journal", "internal/cli",
		"internal/kube/install", "internal/server/rest", "internal/server/mesh", "api", "attest", "manifest", "marble", "charts"},
		why: "the webhook reads Pods and nothing else: no Helm, no Kubernetes client library, no Coordinator"},
	{from: "cmd/coordinator", forbidden: []string{"internal/kube", "charts", "release"},
		why: "a Coordinator knows nothing of Kubernetes, which it does not trust"},
	{from: "internal/kube/install", forbidden: []string{"internal/cli", "internal/coordinator", "internal/server", "internal/vault",
		"internal/journal", "internal/kube/inject"},
		why: "installing is a matter of charts and the API server"},
	{from: "charts", forbidden: []string{"internal", "api", "attest", "manifest", "marble"},
		why: "the chart is files"},
	{from: "internal/coordinator", forbidden: []string{"internal/server", "internal/cli"},
		why: "the kernel knows no transport"},
	{from: "internal/journal", forbidden: []string{"internal/coordinator", "manifest", "internal/pki"},
		why: "the journal sees ciphertext only"},
	{from: "internal/pki", forbidden: []string{"internal/coordinator", "manifest"},
		why: "certificate profiles depend on nothing above them"},
}

// thirdParty lists what each program of the trusted computing base may link, besides the standard library. Each entry has
// its reason in docs/design/dependencies.md.
var thirdParty = map[string][]string{
	"cmd/coordinator": {
		"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text", "github.com/google/uuid",
	},
	"cmd/marble-injector": {}, // the standard library only
	"cmd/premain-libos": {
		"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text",
	},
}

type listed struct {
	ImportPath string
	Standard   bool
	Deps       []string
	Dir        string
	GoFiles    []string
}

// list returns the packages of patterns; with deps also all that they depend on.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Deps,Dir,GoFiles"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, err.(*exec.ExitError).Stderr)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func below(path, folder string) bool {
	return path == module+folder || strings.HasPrefix(path, module+folder+"/")
}

func TestDoors(t *testing.T) {
	all := list(t, "./...")
	for _, r := range rules {
		found := false
		for _, p := range all {
			isExempt := func(f string) bool { return below(p.ImportPath, f) }
			if !below(p.ImportPath, r.from) || slices.ContainsFunc(r.exempt, isExempt) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				isBelow := func(f string) bool { return below(dep, f) }
				if slices.ContainsFunc(r.forbidden, isBelow) && !slices.ContainsFunc(r.except, isBelow) {
					t.Errorf("%s must not depend on %s: %s", p.ImportPath, dep, r.why)
				}
			}
		}
		if !found {
			t.Errorf("rule for %s matches no package: mend the rule", r.from)
		}
	}
}

// Every third-party package in a program of the trusted computing base is listed, and nothing is listed in vain.
func TestThirdPartyPackages(t *testing.T) {
	doc, err := os.ReadFile("../../docs/design/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for program, allowed := range thirdParty {
		used := map[string]bool{}
		for _, p := range list(t, "-deps", "./"+program) {
			if p.Standard || strings.HasPrefix(p.ImportPath, module) {
				continue
			}
			i := slices.IndexFunc(allowed, func(a string) bool { return strings.HasPrefix(p.ImportPath, a) })
			if i < 0 {
				t.Errorf("%s links %s, which is not listed", program, p.ImportPath)
				continue
			}
			used[allowed[i]] = true
		}
		for _, a := range allowed {
			if !used[a] {
				t.Errorf("%s does not link %s any more: remove it from the list", program, a)
			}
			if !strings.Contains(string(doc), strings.TrimSuffix(a, "/")) {
				t.Errorf("docs/design/dependencies.md gives no reason for %s", a)
			}
		}
	}
}

// Every package has a comment that says what it is for, every file the licence header, no file an init function.
func TestHabits(t *testing.T) {
	for _, p := range list(t, "./...") {
		if strings.HasSuffix(p.ImportPath, "/marblepb") {
			continue // generated
		}
		documented := len(p.GoFiles) == 0
		for _, name := range p.GoFiles {
			f := parse(t, filepath.Join(p.Dir, name))
			documented = documented || f.Doc != nil
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s/%s has an init function", p.ImportPath, name)
				}
			}
		}
		if !documented {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
	}
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(src[:min(len(src), 400)]), "SPDX-License-Identifier: Apache-2.0") {
		t.Errorf("%s has no licence header", path)
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
