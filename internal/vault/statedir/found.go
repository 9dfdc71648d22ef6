// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package statedir

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
)

// Found is what lies in the directory, as far as it can be known without a key.
type Found struct {
	Data   bool          // there is a sealed_data
	Raw    []byte        // its header as stored; nil: unreadable
	Header sealed.Header // its header
	ID     string        // its journal, for names of files set aside: an id, "marblerun" or "unknown"
	Alien  bool          // it is MarbleRun's
	Reason string        // why it cannot be opened by anybody; empty: nothing is known against it

	Key    bool             // there is a sealed_key
	KeyID  string           // its journal
	Stored []seal.EpochKeys // what it has; nil: unreadable
	keyBad string           // why it is unreadable
}

// Look reads both files. An error is the storage's; damage is not an error.
func (d Dir) Look(ctx context.Context, driver journal.Driver) (*Found, journal.Head, error) {
	f := &Found{ID: "unknown"}
	if err := d.lookKey(f); err != nil {
		return nil, journal.Head{}, err
	}
	head, err := driver.Load(ctx)
	if err == nil {
		f.Data = true
		if f.Header, err = sealed.ParseHeader(head.Header); err == nil {
			f.Raw, f.ID = head.Header, f.Header.Journal.String()
		}
	}
	text, damaged := sealed.Damage(err)
	switch {
	case errors.Is(err, journal.ErrNotFound):
	case damaged:
		f.Data, f.Reason = true, text
		if f.Alien, err = d.IsMarbleRun(); err != nil {
			return nil, journal.Head{}, err
		}
		if f.Alien {
			f.ID, f.Reason = "marblerun", "sealed_data was written by MarbleRun; this program cannot open its state"
		}
	case err != nil:
		return nil, journal.Head{}, fmt.Errorf("reading %s: %w", d.Path(Data), err)
	}
	if f.Key && f.KeyID == "" {
		f.KeyID = f.ID
	}
	return f, head, nil
}

func (d Dir) lookKey(f *Found) error {
	data, err := d.ReadKey()
	if err != nil || data == nil {
		return err
	}
	f.Key = true
	keys, err := seal.ParseKeyFile(data)
	if err != nil {
		f.keyBad = err.Error()
		return nil
	}
	f.Stored = keys.Epochs
	if len(f.Stored) > 0 {
		f.KeyID = f.Stored[0].Journal.String()
	}
	return nil
}

// TEEs returns the kinds of TEE that wrote the files.
func (f *Found) TEEs() []string {
	var out []string
	if f.Raw != nil {
		out = append(out, f.Header.TEE)
	}
	for _, e := range f.Stored {
		out = append(out, e.TEE)
	}
	return out
}

// Entry finds what sealed_key has about the journal, or says why it is of no use.
func (f *Found) Entry() (entry seal.EpochKeys, reason string) {
	if !f.Key {
		return seal.EpochKeys{}, "sealed_key is missing"
	}
	if f.keyBad != "" {
		return seal.EpochKeys{}, "sealed_key is unreadable: " + f.keyBad
	}
	i := slices.IndexFunc(f.Stored, func(e seal.EpochKeys) bool {
		return e.Journal == f.Header.Journal && e.Epoch == f.Header.Number
	})
	if i >= 0 {
		return f.Stored[i], ""
	}
	data, key := f.Header.Number, f.NewestEpoch(0)
	const between = "between them the recovery keys were changed, or the state was recovered"
	switch {
	case key == 0:
		return entry, fmt.Sprintf("sealed_key belongs to another journal (%s, not %s)", f.KeyID, f.ID)
	case key > data:
		return entry, fmt.Sprintf("sealed_data is older than sealed_key: it is of epoch %d, sealed_key of epoch %d; %s",
			data, key, between)
	}
	return entry, fmt.Sprintf("sealed_key is older than sealed_data: it is of epoch %d, sealed_data of epoch %d; %s",
		key, data, between)
}

// NewestEpoch returns the latest epoch of the journal that sealed_key knows, at least the given one.
func (f *Found) NewestEpoch(least uint64) uint64 {
	for _, e := range f.Stored {
		if e.Journal == f.Header.Journal {
			least = max(least, e.Epoch)
		}
	}
	return least
}

// StrangeKey reports that there is a sealed_key that does not belong to the journal.
func (f *Found) StrangeKey() bool { return f.Key && (f.keyBad != "" || f.NewestEpoch(0) == 0) }
