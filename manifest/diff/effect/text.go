// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/manifest/diff"
	"github.com/marblerun/marblerun/manifest/problem"
)

// maxListed is how many names are listed; of more, only the number is said.
const maxListed = 20

// Names are quoted names, or their number if they are many.
func Names(names []string) string {
	if len(names) > maxListed {
		return fmt.Sprintf("%d names", len(names))
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = problem.Quote(n)
	}
	return strings.Join(out, ", ")
}

func quoted(noun, name string) string { return noun + " " + problem.Quote(name) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Text is the report for people: lines that begin with "!" are warnings.
func (r Report) Text() string {
	var b strings.Builder
	b.WriteString(r.Needs.text(r.Kind))
	section := ""
	for _, c := range r.Changes {
		if c.Section != section {
			section = c.Section
			b.WriteString("\n" + title(section) + "\n")
		}
		mark := "  - "
		if c.Warning {
			mark = "  ! "
		}
		b.WriteString(mark + c.Text + affects(c) + "\n")
	}
	if r.Running != nil {
		b.WriteString("\n" + r.Running.text())
	}
	return b.String()
}

func title(section string) string {
	if section == TLS {
		return "TLS tags"
	}
	if section == Marbles {
		return "Marbles"
	}
	return strings.ToUpper(section[:1]) + section[1:]
}

// affects are the names that a change concerns, in brackets, but for the one that its text is about.
func affects(c diff.Change) string {
	var parts []string
	a := c.Affects
	for _, list := range []struct {
		noun  string
		names []string
	}{{"packages", a.Packages}, {"secrets", a.Secrets}, {"Marbles", a.Marbles}, {"users", a.Users}} {
		subject := len(list.names) == 1 && strings.Contains(c.Text, " "+problem.Quote(list.names[0]))
		if len(list.names) > 0 && !subject {
			parts = append(parts, list.noun+": "+Names(list.names))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " [" + strings.Join(parts, "; ") + "]"
}

func (n Needs) text(kind string) string {
	what := "This is a full update: it replaces the whole manifest.\n"
	if kind == Package {
		what = "This is a package update: it raises security versions and leaves the manifest as it is.\n"
	}
	var who string
	switch {
	case len(n.Users) == 0 && kind == Package:
		who = "Nobody may apply it: no user has the permission " + n.Permission + " on all its packages."
	case len(n.Users) == 0:
		who = "Nobody may apply it: no user has the permission " + n.Permission + "."
	case kind == Package:
		who = "Any of these users applies it alone: " + Names(n.Users) + "."
	default:
		who = fmt.Sprintf("It is applied once %d of %s agreed, whoever submits it included: %s.",
			n.Acknowledgments, count(len(n.Users), "user"), Names(n.Users))
	}
	return what + who + "\n"
}

func (r Running) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Running Marbles: %d activated since the CA rotated the last time (%s)\n",
		r.Marbles, r.Since.UTC().Format(time.RFC3339))
	for _, t := range r.Types {
		uuids := ""
		if len(t.UUIDs) <= maxListed {
			uuids = ": " + strings.Join(t.UUIDs, ", ")
		}
		fmt.Fprintf(&b, "  - %s: %d must restart%s\n", quoted("Marble", t.Type), t.Count, uuids)
		for _, reason := range t.Reasons {
			b.WriteString("      " + reason + "\n")
		}
		if len(t.Reasons) == 0 && len(t.Refused) == 0 {
			b.WriteString("      only because its certificate is of the old CA\n")
		}
		for _, reason := range t.Refused {
			b.WriteString("    ! would not be admitted again: " + reason + "\n")
		}
		b.WriteString(refusedText(t.RefusedMarbles))
	}
	if r.Older > 0 {
		fmt.Fprintf(&b, "  %s activated before that only; if they still run, they should have restarted then\n",
			wereCount(r.Older))
	}
	if r.Collapsed > 0 {
		fmt.Fprintf(&b, "  The Coordinator remembers %s by number only; such Marbles are missing here\n",
			count(int(min(r.Collapsed, 1<<31-1)), "older activation"))
	}
	return b.String()
}

func wereCount(n int) string {
	if n == 1 {
		return "1 Marble was"
	}
	return fmt.Sprintf("%d Marbles were", n)
}

// refusedText says who would be refused, those with the same reasons together.
func refusedText(marbles []RefusedMarble) string {
	by := map[string][]string{}
	for _, m := range marbles {
		reasons := strings.Join(m.Reasons, "; ")
		by[reasons] = append(by[reasons], m.UUID)
	}
	var b strings.Builder
	for _, reasons := range slices.Sorted(maps.Keys(by)) {
		who := fmt.Sprintf("%d of them", len(by[reasons]))
		if len(by[reasons]) <= maxListed {
			who = strings.Join(by[reasons], ", ")
		}
		fmt.Fprintf(&b, "    ! would not be admitted again, if they run what they ran: %s\n        %s\n", who, reasons)
	}
	return b.String()
}

// sorted are the keys of a map, sorted.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// union are the keys of both maps, sorted.
func union[V any](a, b map[string]V) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}
