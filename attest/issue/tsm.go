// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/marblerun/marblerun/attest"
)

// tsmReports is the folder in which the kernel makes one entry per mkdir (FORMATS §4).
const tsmReports = "/sys/kernel/config/tsm/report"

// Limits of one request.
const (
	tsmAttempts     = 8
	tsmFirstBackoff = 100 * time.Millisecond
	tsmLastBackoff  = 2 * time.Second
	tsmMaxBlob      = 32 << 10 // bytes, each of outblob and auxblob
	tsmMaxText      = 256      // bytes, an attribute that is text
	tsmMaxEntries   = 64       // names tried for an entry, in case a killed process left some
)

type tsm struct {
	files    files
	folders  folders
	provider string
	tee      attest.TEE
	vmpl     *uint
	entries  atomic.Uint64 // names entries: requests share nothing, so they run side by side
}

func probeTSM(_ context.Context, config Config) (Issuer, error) {
	t := &tsm{files: config.seams.files, folders: config.seams.folders, vmpl: config.VMPL}
	entry, err := t.create()
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w; getting evidence from the kernel needs root", err)
	}
	if err != nil {
		return nil, absent(tsmReports, err)
	}
	t.provider, err = t.text(entry, "provider")
	if err = errors.Join(err, t.folders.Remove(entry)); err != nil {
		return nil, fmt.Errorf("reading the provider of %s: %w", tsmReports, err)
	}
	switch t.provider {
	case "tdx_guest":
		t.tee = attest.TDX
	case "sev_guest":
		t.tee = attest.SNP
	default:
		return nil, fmt.Errorf("configfs-tsm has the provider %q; only tdx_guest and sev_guest are understood", t.provider)
	}
	return t, nil
}

func (t *tsm) Name() string    { return "configfs-tsm" }
func (t *tsm) TEE() attest.TEE { return t.tee }

// Issue retries what the kernel calls busy, and a lost race for the entry, up to tsmAttempts times.
func (t *tsm) Issue(ctx context.Context, reportData [64]byte) ([]byte, error) {
	backoff := tsmFirstBackoff
	for attempt := 1; ; attempt++ {
		evidence, err := t.issueOnce(reportData)
		if err == nil || !busy(err) || attempt == tsmAttempts {
			return evidence, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(backoff):
			backoff = min(2*backoff, tsmLastBackoff)
		}
	}
}

// errConflict says that someone else wrote to our entry.
var errConflict = errors.New("the report was changed by someone else meanwhile")

func busy(err error) bool {
	for _, e := range []error{errConflict, syscall.EBUSY, syscall.EAGAIN, syscall.EINTR, syscall.EWOULDBLOCK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// blobs is what one request returns. aux is SNP's certificate table, may be empty.
type blobs struct{ out, aux []byte }

func (t *tsm) issueOnce(reportData [64]byte) (_ []byte, err error) {
	entry, err := t.create()
	if err != nil {
		return nil, fmt.Errorf("creating an entry in %s: %w", tsmReports, err)
	}
	defer func() { err = errors.Join(err, t.folders.Remove(entry)) }()
	b, err := t.request(entry, reportData)
	if err != nil {
		return nil, err
	}
	if t.tee == attest.SNP {
		return wrapReport(b.out, b.aux, reportData)
	}
	return wrapQuote(b.out, reportData)
}

// request writes the inputs, reads the outputs, and then compares the kernel's generation with its own count of
// writes. The kernel reports an error of a write to inblob to nobody, so the generation is also how a lost write
// shows.
func (t *tsm) request(entry string, reportData [64]byte) (b blobs, err error) {
	before, err := t.generation(entry)
	if err != nil {
		return b, err
	}
	writes, err := t.writePrivilege(entry)
	if err != nil {
		return b, err
	}
	if err := t.files.Write(path.Join(entry, "inblob"), reportData[:]); err != nil {
		return b, fmt.Errorf("writing the report data: %w", err)
	}
	writes++
	if b.out, err = t.files.Read(path.Join(entry, "outblob"), tsmMaxBlob); err != nil {
		return b, fmt.Errorf("reading the report: %w", err)
	}
	if b.aux, err = t.auxiliary(entry); err != nil {
		return b, err
	}
	return b, t.unchanged(entry, before+writes)
}

// unchanged checks what nobody else may have written since: the provider and the generation.
func (t *tsm) unchanged(entry string, want uint64) error {
	provider, err := t.text(entry, "provider")
	if err != nil {
		return err
	}
	if provider != t.provider {
		return fmt.Errorf("the provider changed from %q to %q", t.provider, provider)
	}
	after, err := t.generation(entry)
	if err != nil {
		return err
	}
	if after != want {
		return fmt.Errorf("%w (generation %d, expected %d)", errConflict, after, want)
	}
	return nil
}

// auxiliary reads SNP's certificate table. A host that provides none is no error.
func (t *tsm) auxiliary(entry string) ([]byte, error) {
	if t.tee != attest.SNP {
		return nil, nil
	}
	aux, err := t.files.Read(path.Join(entry, "auxblob"), tsmMaxBlob)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the certificate table: %w", err)
	}
	return aux, nil
}

// writePrivilege sets the VMPL of an SNP report and returns the number of writes. Providers without levels have no
// floor.
func (t *tsm) writePrivilege(entry string) (writes uint64, err error) {
	text, err := t.text(entry, "privlevel_floor")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	floor, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("reading privlevel_floor: %w", err)
	}
	level := floor
	if t.vmpl != nil {
		level = uint64(*t.vmpl)
	}
	if level < floor || level > 3 {
		return 0, fmt.Errorf("VMPL %d is not possible: this guest may ask for %d to 3", level, floor)
	}
	if err := t.files.Write(path.Join(entry, "privlevel"), []byte(strconv.FormatUint(level, 10))); err != nil {
		return 0, fmt.Errorf("writing the VMPL: %w", err)
	}
	return 1, nil
}

// create makes an entry of this process's own.
func (t *tsm) create() (entry string, err error) {
	for range tsmMaxEntries {
		entry = fmt.Sprintf("%s/marblerun-%d-%d", tsmReports, os.Getpid(), t.entries.Add(1))
		if err = t.folders.Mkdir(entry); !errors.Is(err, os.ErrExist) {
			return entry, err
		}
	}
	return "", err
}

func (t *tsm) generation(entry string) (uint64, error) {
	text, err := t.text(entry, "generation")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

func (t *tsm) text(entry, attribute string) (string, error) {
	data, err := t.files.Read(path.Join(entry, attribute), tsmMaxText)
	return strings.TrimSpace(string(data)), err
}
