// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"fmt"
	"reflect"
	"sort"
	"text/template/parse"

	"github.com/marblerun/marblerun/manifest/internal/source"
)

// What things cost, in units of MaxWork.
const (
	nodeCost    = 128
	compareCost = 4096 // comparing may look at 1 MiB of each side
)

// walker checks a parse tree, collects references, and adds the hidden actions that pay during execution.
type walker struct {
	t      *Template
	lines  source.Lines
	errs   Errors
	tree   *parse.Tree
	calls  map[string][]string // template → templates it executes
	nodes  int
	cost   int64 // of the list being walked, without the bodies of ranges
	ranges int   // nesting
	rooted bool  // dot is the Data
}

// walk checks and instruments all trees.
func (t *Template) walk() Errors {
	w := &walker{t: t, lines: source.NewLines([]byte(t.text)), calls: make(map[string][]string)}
	for _, name := range sortedKeys(t.trees) {
		w.define(name, t.trees[name])
	}
	w.checkCalls()
	w.errs.sort()
	return w.errs
}

func (w *walker) define(name string, tree *parse.Tree) {
	w.tree, w.rooted, w.cost, w.ranges = tree, name == root, nodeCost, 0
	if tree.Root == nil {
		tree.Root = &parse.ListNode{NodeType: parse.NodeList}
	}
	w.list(tree.Root)
	if name == root {
		w.t.cost = w.cost
		return
	}
	w.prepay(tree.Root)
}

// prepay makes executing the list cost what it costs.
func (w *walker) prepay(list *parse.ListNode) {
	n := &parse.NumberNode{NodeType: parse.NodeNumber, Pos: list.Pos, IsInt: true, Int64: w.cost, Text: fmt.Sprint(w.cost)}
	step := &parse.ActionNode{NodeType: parse.NodeAction, Pos: list.Pos, Pipe: &parse.PipeNode{
		NodeType: parse.NodePipe, Pos: list.Pos, Cmds: []*parse.CommandNode{command(list.Pos, stepFunction, n)},
	}}
	list.Nodes = append([]parse.Node{step}, list.Nodes...)
}

func command(pos parse.Pos, function string, args ...parse.Node) *parse.CommandNode {
	name := parse.NewIdentifier(function).SetPos(pos)
	return &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos, Args: append([]parse.Node{name}, args...)}
}

func (w *walker) list(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		w.node(n)
	}
}

func (w *walker) node(n parse.Node) {
	w.count(n, nodeCost)
	switch n := n.(type) {
	case *parse.ActionNode:
		w.pipe(n.Pipe)
		w.noteBare(n.Pipe)
		if len(n.Pipe.Decl) == 0 {
			n.Pipe.Cmds = append(n.Pipe.Cmds, command(n.Pipe.Pos, printFunction))
		}
	case *parse.IfNode:
		w.pipe(n.Pipe)
		w.list(n.List)
		w.list(n.ElseList)
	case *parse.WithNode:
		w.pipe(n.Pipe)
		w.unrooted(n.List)
		w.list(n.ElseList)
	case *parse.RangeNode:
		w.rangeNode(n)
	case *parse.TemplateNode:
		w.calls[w.tree.Name] = append(w.calls[w.tree.Name], n.Name)
		if w.t.trees[n.Name] == nil {
			w.fail(n, "there is no template %q", n.Name)
		}
		w.pipe(n.Pipe)
	}
}

// noteBare notes an action that is nothing but a path to what a function ought to encode.
func (w *walker) noteBare(p *parse.PipeNode) {
	if len(p.Decl) > 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return
	}
	value := p.Cmds[0].Args[0]
	switch w.typeOf(value) {
	case reflect.TypeFor[Secret](), reflect.TypeFor[Certificate](), reflect.TypeFor[PublicKey](),
		reflect.TypeFor[PrivateKey]():
		line, column := w.position(value)
		w.t.bare = append(w.t.bare, Bare{Text: value.String(), Line: line, Column: column})
	}
}

// unrooted walks a list whose dot is not the Data.
func (w *walker) unrooted(list *parse.ListNode) {
	defer func(rooted bool) { w.rooted = rooted }(w.rooted)
	w.rooted = false
	w.list(list)
}

func (w *walker) rangeNode(n *parse.RangeNode) {
	w.pipe(n.Pipe)
	w.checkRange(n)
	before := w.cost
	w.cost = nodeCost
	w.ranges++
	w.unrooted(n.List)
	w.ranges--
	w.prepay(n.List)
	w.cost = before
	w.list(n.ElseList)
}

func (w *walker) checkRange(n *parse.RangeNode) {
	if w.ranges >= MaxRangeDepth {
		w.fail(n, "range is nested more than %d deep", MaxRangeDepth)
	}
	if len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
		w.fail(n, "range is allowed over fields only, not over results of functions")
		return
	}
	over := n.Pipe.Cmds[0].Args[0]
	switch over := over.(type) {
	case *parse.FieldNode, *parse.ChainNode:
	case *parse.VariableNode:
		if len(over.Ident) == 1 {
			w.fail(n, "range is allowed over fields only, not over the variable %s", over)
		}
	default:
		w.fail(n, "range is allowed over fields only, not over %s", over)
		return
	}
	if typ := w.typeOf(over); typ != nil && typ.Kind() != reflect.Map && typ.Kind() != reflect.Slice {
		w.fail(n, "range is allowed over lists and maps only, %s is neither", over)
	}
}

func (w *walker) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	w.count(p, nodeCost)
	for _, v := range p.Decl {
		if v.Ident[0] == "$" {
			w.fail(v, "the variable $ cannot be set")
		}
	}
	for _, c := range p.Cmds {
		w.command(c)
	}
}

func (w *walker) command(c *parse.CommandNode) {
	w.count(c, nodeCost)
	args := c.Args
	if name, ok := args[0].(*parse.IdentifierNode); ok {
		args = w.function(name, args[1:])
	}
	for _, a := range args {
		w.argument(a)
	}
}

// function checks a function's constant arguments and returns those that remain to be checked.
func (w *walker) function(name *parse.IdentifierNode, args []parse.Node) []parse.Node {
	switch name.Ident {
	case "eq", "ne", "lt", "le", "gt", "ge":
		w.count(name, compareCost*int64(1+len(args)))
	case "printf":
		if format, ok := first(args).(*parse.StringNode); ok {
			if _, err := checkFormat(format.Text); err != nil {
				w.fail(format, "%v", err)
			}
		}
	case "index":
		if len(args) < 2 {
			break
		}
		key, ok := args[1].(*parse.StringNode)
		if path := w.rootPath(args[0]); ok && isSecrets(path) {
			w.reference(args[0], append(path, key.Text))
			return args[2:]
		}
	}
	return args
}

func first(args []parse.Node) parse.Node {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

func (w *walker) argument(n parse.Node) {
	w.count(n, nodeCost)
	switch n := n.(type) {
	case *parse.IdentifierNode:
		w.function(n, nil)
	case *parse.PipeNode:
		w.pipe(n)
	case *parse.ChainNode:
		w.argument(n.Node)
	case *parse.DotNode:
		w.t.all = w.t.all || w.rooted
	case *parse.FieldNode, *parse.VariableNode:
		if path := w.rootPath(n); path != nil {
			w.reference(n, path)
		}
	}
}

// checkCalls refuses recursion and pays for the root's calls.
func (w *walker) checkCalls() {
	state := make(map[string]int) // 1 being visited, 2 done
	var visit func(name string) bool
	visit = func(name string) bool {
		if state[name] != 0 {
			return state[name] == 1
		}
		state[name] = 1
		for _, callee := range w.calls[name] {
			if visit(callee) {
				return true
			}
		}
		state[name] = 2
		return false
	}
	for _, name := range sortedKeys(w.t.trees) {
		if visit(name) {
			w.errs = append(w.errs, &Error{Name: w.t.name, Line: 1, Column: 1, Text: "templates call each other in a circle",
				Hint: "{{template}} must not lead back to where it stands"})
			return
		}
	}
}

func (w *walker) count(n parse.Node, cost int64) {
	w.cost += cost
	if w.nodes++; w.nodes == MaxNodes+1 {
		w.fail(n, "has more than %d nodes", MaxNodes)
	}
}

func (w *walker) fail(n parse.Node, format string, args ...any) *Error {
	line, column := w.position(n)
	e := &Error{Name: w.t.name, Line: line, Column: column, Text: fmt.Sprintf(format, args...)}
	if len(w.errs) < maxErrors {
		w.errs = append(w.errs, e)
	}
	return e
}

// maxErrors bounds the errors of one template.
const maxErrors = 100

func (w *walker) position(n parse.Node) (line, column int) {
	return w.lines.Position(min(int(n.Position()), len(w.t.text)))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
