// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest/diff"
)

// defaultTCBStatus is accepted, besides UpToDate, by packages that list none (contract §3).
const defaultTCBStatus = string(attest.SWHardeningNeeded)

// difference adds the changes that are said field by field. Marbles, users, roles and the settings are said otherwise.
func (r *reporter) difference(d diff.Difference) {
	c := diff.Describe(d)
	c.Text = strings.ReplaceAll(c.Text, time.Time{}.Format(time.RFC3339), "absent")
	name := ""
	if len(d.Steps) > 1 {
		name = d.Steps[1]
	}
	switch d.Steps[0] {
	case "Packages":
		r.packageChange(c, d, name)
	case "Infrastructures":
		r.infrastructure(c, d)
	case "TLS":
		c.Affects.Marbles = r.uses.tags[name]
		r.add(TLS, c)
	case "Secrets":
		// What happens to values is said for all secrets together.
		same := r.current.Secrets[name].SameDefinition(r.next.Secrets[name])
		if len(d.Steps) > 2 && !(same && d.Steps[2] == "ValidFor") {
			c.Affects = diff.Affected{Secrets: []string{name}, Marbles: r.uses.secrets[name]}
			r.add(Secrets, c)
		}
	}
}

func (r *reporter) packageChange(c diff.Change, d diff.Difference, name string) {
	c.Affects = diff.Affected{Packages: []string{name}, Marbles: r.uses.packages[name]}
	if len(d.Steps) > 2 {
		if text := emptyMeans(d); text != "" {
			c.Text = quoted("package", name) + ": " + text
		}
		if reason := weaker(d); reason != "" {
			c.Warning, c.Text = true, c.Text+": "+reason
		}
	}
	r.add(Packages, c)
}

// emptyMeans says changes from or to an empty list that stands for something else than nothing.
func emptyMeans(d diff.Difference) string {
	field := d.Steps[2]
	meaning, ok := map[string]string{
		"AcceptedAdvisories": "all are accepted", "AcceptedTCBStatuses": defaultTCBStatus + " is accepted",
	}[field]
	if !ok {
		return ""
	}
	before, after := strs(d.Old), strs(d.New)
	switch {
	case len(before) == 0 && len(after) > 0:
		return field + " is limited to " + Names(after) + ", was empty: " + meaning
	case len(before) > 0 && len(after) == 0:
		return field + " is empty: " + meaning
	}
	return ""
}

// minimum tells whether the field of a package demands a number or more.
func minimum(field string) bool {
	return slices.Contains([]string{
		"SecurityVersion", "GuestSVN", "MinimumTCBEvaluationDataNumber", "FMC", "Bootloader", "TEE", "SNP", "Microcode",
	}, field)
}

// weaker says why the package admits more than before, "" if it does not by this difference.
func weaker(d diff.Difference) string {
	field := d.Steps[len(d.Steps)-1]
	before, after, top := d.Old, d.New, len(d.Steps) == 3 // top: a field of the package itself
	switch {
	case top && field == "Debug" && after.Bool():
		return "the host of a debug TEE can read its memory"
	case top && (field == "AcceptedTCBStatuses" || field == "AcceptedAdvisories"):
		return moreAccepted(field, strs(before), strs(after))
	case top && field == "TCBDateAfter":
		return grace(before, after)
	case before.IsValid() && !after.IsValid(), before.IsValid() && before.Kind() == reflect.String && after.String() == "":
		return "it is no longer checked"
	case minimum(field) && before.IsValid() && before.CanUint() && after.Uint() < before.Uint():
		return "what was too old is admitted again"
	}
	return ""
}

// moreAccepted: UpToDate is always accepted. No statuses stand for one, no advisories for all.
func moreAccepted(field string, before, after []string) string {
	more := len(without(after, before)) > 0
	if field == "AcceptedTCBStatuses" {
		if len(before) == 0 {
			before = []string{defaultTCBStatus}
		}
		if len(after) == 0 {
			after = []string{defaultTCBStatus}
		}
		more = len(without(after, append([]string{string(attest.UpToDate)}, before...))) > 0
	} else if len(before) == 0 || len(after) == 0 {
		more = len(before) > 0
	}
	if more {
		return "more platforms are accepted"
	}
	return ""
}

// grace: an earlier date, or any in place of none, accepts more.
func grace(before, after reflect.Value) string {
	old, isTime := before.Interface().(time.Time)
	next, _ := after.Interface().(time.Time)
	if isTime && !next.IsZero() && (old.IsZero() || next.Before(old)) {
		return "more platforms are accepted"
	}
	return ""
}

func strs(v reflect.Value) []string {
	if !v.IsValid() {
		return nil
	}
	list, _ := v.Interface().([]string)
	return list
}

func (r *reporter) infrastructure(c diff.Change, d diff.Difference) {
	before, after := len(r.current.Machines()), len(r.next.Machines())
	if len(d.Steps) > 2 && d.Steps[2] == "Machines" || len(d.Steps) <= 2 && before != after {
		c.Affects.Marbles = sorted(r.next.Marbles)
		c.Text += fmt.Sprintf("; allowed are %s, were %s", machines(after), machines(before))
		c.Warning = before > 0 && (after == 0 || after > before)
	}
	r.add(Infrastructures, c)
}

// machines: an empty list is none at all.
func machines(n int) string {
	if n == 0 {
		return "all machines"
	}
	return count(n, "machine")
}
