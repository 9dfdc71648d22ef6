// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"net"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/manifest/problem"
	"github.com/marblerun/marblerun/manifest/template"
)

func (c *checker) marbles() {
	for _, name := range sortedKeys(c.m.Marbles) {
		m, path := c.m.Marbles[name], problem.Key("$.Marbles", name)
		if _, ok := c.m.Packages[m.Package]; !ok {
			c.Fail(path+".Package", "there is no package %s", problem.Quote(m.Package)).Hint =
				c.Meant(m.Package, c.names.packages)
		}
		c.marbleTags(path, m)
		for i, allowed := range m.AllowedNames {
			if !validName(allowed) {
				c.Fail(problem.Item(path+".AllowedNames", i), "%s is neither a DNS name nor an IP address",
					problem.Quote(allowed)).Hint =
					"*.example.org allows all names with one more label"
			}
		}
		c.values(path+".Parameters.Files", m.Parameters.Files, FileTemplate)
		c.values(path+".Parameters.Env", m.Parameters.Env, EnvTemplate)
	}
	if c.templates > MaxTemplates {
		c.Fail("$.Marbles", "there are %d templates, %d are allowed", c.templates, MaxTemplates).Hint =
			"set NoTemplates where {{ is meant literally"
	}
	if c.actionBytes > MaxActionBytes {
		c.Fail("$.Marbles", "the actions of all templates have %d bytes, %d are allowed",
			c.actionBytes, MaxActionBytes).Hint =
			"set NoTemplates where {{ is meant literally"
	}
}

func (c *checker) marbleTags(path string, m Marble) {
	connections, known := 0, true
	for i, tag := range m.TLS {
		t, ok := c.m.TLS[tag]
		if !ok {
			known = false
			c.Fail(problem.Item(path+".TLS", i), "there is no TLS tag %s", problem.Quote(tag)).Hint = c.Meant(tag, c.names.tags)
		}
		connections += len(t.Incoming) + len(t.Outgoing)
	}
	if len(m.TLS) > 0 && known && connections == 0 {
		c.Warn(path+".TLS", "the tags have no connections, so the Marble gets no transparent TLS")
	}
}

// values checks the entries of Files or Env.
func (c *checker) values(path string, values map[string]Value, kind TemplateKind) {
	for _, name := range sortedKeys(values) {
		v, at := values[name], problem.Key(path, name)
		if kind == EnvTemplate {
			c.envEntry(at, name, v)
		}
		if !v.NoTemplates {
			c.template(at, string(v.Data), kind)
		}
	}
}

func (c *checker) envEntry(path, name string, v Value) {
	if bytes.IndexByte(v.Data, 0) >= 0 {
		c.Fail(path, "the value contains a NUL byte").Hint =
			"an environment variable cannot hold one; encode the value or use Files"
	}
	if name == "" || strings.ContainsAny(name, "=\x00") {
		c.Warn(path, "%s cannot be the name of an environment variable", problem.Quote(name))
	}
}

// template compiles a template and looks up the secrets it names.
func (c *checker) template(path, text string, kind TemplateKind) {
	if size := template.ActionBytes(text); size > 0 {
		c.templates++
		c.actionBytes += size
	}
	if c.templates > MaxTemplates || c.actionBytes > MaxActionBytes {
		return
	}
	t, err := template.Compile(templateName(path), text, kind)
	if err != nil {
		for _, p := range templateProblems(path, err) {
			c.Fail(p.Path, "%s", p.Text).Hint = p.Hint
		}
		return
	}
	for _, bare := range t.Bare() {
		c.Warn(path, "the template prints %s without a function, so its bytes come out as decimal numbers (at %d:%d)",
			problem.Shorten(bare.Text, 100), bare.Line, bare.Column).Hint = encodings(kind)
	}
	for _, use := range t.Uses() {
		if _, ok := c.m.Secrets[use.Secret]; !ok {
			c.Fail(path, "the template uses the secret %s, which is not defined (at %d:%d)",
				problem.Quote(use.Secret), use.Line, use.Column).Hint = c.Meant(use.Secret, c.names.secrets)
		}
	}
}

// encodings are the functions that print a secret.
func encodings(kind TemplateKind) string {
	if kind == EnvTemplate {
		return "use hex or base64; string for a plain secret, pem for .Cert, .Public and .Private"
	}
	return "use hex, base64 or raw; pem for .Cert, .Public and .Private"
}

// tags checks all TLS tags, used or not.
func (c *checker) tags() {
	for _, name := range sortedKeys(c.m.TLS) {
		path := problem.Key("$.TLS", name)
		for i, e := range c.m.TLS[name].Incoming {
			c.incoming(problem.Item(path+".Incoming", i), e)
		}
		for i, e := range c.m.TLS[name].Outgoing {
			at := problem.Item(path+".Outgoing", i)
			if e.Addr == "" {
				c.Fail(at+".Addr", "an outgoing connection needs an Addr")
			}
			c.port(at+".Port", e.Port)
		}
	}
}

func (c *checker) incoming(path string, e TLSEntry) {
	c.port(path+".Port", e.Port)
	switch {
	case e.Cert == "" && e.DisableClientAuth:
		c.Fail(path+".DisableClientAuth", "client authentication can be disabled only for a certificate of one's own").Hint =
			"set Cert"
	case e.Cert == "":
	case !e.DisableClientAuth:
		c.Fail(path+".Cert", "a Cert requires DisableClientAuth").Hint = "clients outside the mesh have no Marble certificate"
	}
	if e.Cert == "" {
		return
	}
	switch s, ok := c.m.Secrets[e.Cert]; {
	case !ok:
		c.Fail(path+".Cert", "there is no secret %s", problem.Quote(e.Cert)).Hint = c.Meant(e.Cert, c.names.secrets)
	case !s.IsCertificate():
		c.Warn(path+".Cert", "the secret %s is of type %s, not a certificate", problem.Quote(e.Cert), problem.Quote(s.Type))
	}
}

func (c *checker) port(path, port string) {
	if port == "" {
		c.Fail(path, "a connection needs a Port")
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		c.Warn(path, "%s is not a port", problem.Quote(port))
	}
}

// validName accepts an IP address or a DNS name, with "*." in front at most.
func validName(name string) bool {
	if net.ParseIP(name) != nil {
		return true
	}
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return true
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
