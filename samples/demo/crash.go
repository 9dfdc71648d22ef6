// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

func killCoordinator(ctx context.Context, d *demo) (string, error) {
	d.out.command(fmt.Sprintf("kill -9 %d", d.coordinator.cmd.Process.Pid))
	d.coordinator.kill()
	if _, err := d.ping(ctx); err == nil {
		return "", errors.New("somebody still answers at the Coordinator's address")
	}
	before := len(d.echoClient.lines("answers"))
	err := d.await(ctx, d.echoClient, "echo-client goes on", func() error {
		if n := len(d.echoClient.lines("answers")) - before; n < 3 {
			return fmt.Errorf("%d answers since", n)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if _, err := d.askWeb(ctx, http.MethodGet, "/", ""); err != nil {
		return "", err
	}
	answers := d.echoClient.lines("answers")
	d.out.output("echo-client: " + answers[len(answers)-1])
	return "The Marbles go on talking, each over new connections. They need the Coordinator only to start.", nil
}

func bringBack(ctx context.Context, d *demo) (string, error) {
	d.out.command(coordinatorCommand)
	if err := d.startCoordinator(ctx); err != nil {
		return "", err
	}
	if err := d.wantReady(ctx); err != nil {
		return "", err
	}
	if _, err := d.cli(ctx, "manifest", "verify", "manifest.json", d.clientAddr, cliFlags); err != nil {
		return "", err
	}
	d.out.line("Same manifest, same root certificate, same measurement. Now web, with the UUID that it had:")
	d.web.stop()
	d.out.command(marbleCommand("web", "web", "web"))
	old := len(d.web.lines("serving HTTPS"))
	web, err := d.startMarble("web", "web", "web", "WEB_LISTEN="+d.webAddr)
	if err != nil {
		return "", err
	}
	d.web = web
	err = d.await(ctx, d.web, "web serves again", func() error {
		if len(d.web.lines("serving HTTPS")) == old {
			return errors.New("not yet")
		}
		_, err := d.askWeb(ctx, http.MethodGet, "/", "")
		return err
	})
	if err != nil {
		return "", err
	}
	return d.sameKey(ctx)
}

// sameKey checks that web still has its key.
func (d *demo) sameKey(ctx context.Context) (string, error) {
	fingerprint, err := d.keyFingerprint(ctx)
	if err != nil {
		return "", err
	}
	note, err := d.askWeb(ctx, http.MethodGet, "/note", "")
	if err != nil {
		return "", err
	}
	d.out.output("note: " + note.body)
	if fingerprint != d.fingerprint || note.body != d.note {
		return "", fmt.Errorf("web came back with key %s and note %q instead of %s and %q", fingerprint, note.body,
			d.fingerprint, d.note)
	}
	return "web could read the note. Its key is derived from its UUID and a secret of the Coordinator, which " +
		"survived the crash.", nil
}

// neverRan is what a refusal proves.
const neverRan = "Refused, with the reason and what to do about it. The program itself never ran."

func intrude(_ context.Context, d *demo) (string, error) {
	return neverRan, d.refused("intruder", "web", "web", "unknown marble type")
}

// refused starts a Marble that must not be admitted, and shows why not.
func (d *demo) refused(marbleType, program, workload, why string) error {
	d.out.command(marbleCommand(marbleType, program, workload))
	p, err := d.startMarble(marbleType, program, workload)
	if err != nil {
		return err
	}
	code, err := p.wait(startLimit)
	if err != nil {
		return err
	}
	if code == 0 || len(p.lines(why)) == 0 {
		return fmt.Errorf("%s was not refused for the reason %q (exit code %d)", marbleType, why, code)
	}
	d.out.output(short(withoutTime(p.lines(why)[0])))
	return nil
}

// withoutTime takes "[PreMain] DATE TIME " from a line.
func withoutTime(line string) string {
	parts := strings.SplitN(line, " ", 4)
	return parts[len(parts)-1]
}

func exceedBudget(_ context.Context, d *demo) (string, error) {
	d.out.line("The manifest says \"MaxActivations\": 1 for one-time-job.")
	d.out.command(marbleCommand("one-time-job", "one-time-job", "one-time-job"))
	p, err := d.startMarble("one-time-job", "one-time-job", "one-time-job")
	if err != nil {
		return "", err
	}
	code, err := p.wait(startLimit)
	if err != nil {
		return "", err
	}
	done := p.lines("done, with a token")
	if code != 0 || len(done) != 1 {
		return "", fmt.Errorf("the job failed with exit code %d", code)
	}
	d.out.output(done[0])
	return neverRan, d.refused("one-time-job", "one-time-job", "one-time-job", "reached max activations")
}

func readActivations(ctx context.Context, d *demo) (string, error) {
	output, err := d.cliData(ctx, "activations", d.clientAddr, "-o", "json")
	if err != nil {
		return "", err
	}
	var list struct {
		Activations []struct {
			Time             time.Time
			MarbleType, UUID string
			Claims           struct{ TEE string }
		}
	}
	if err := json.Unmarshal(output, &list); err != nil {
		return "", fmt.Errorf("reading %q: %w", output, err)
	}
	got := map[string]int{}
	for _, a := range list.Activations {
		d.out.output(fmt.Sprintf("%s  %-12s  %s  %s", a.Time.Local().Format(time.TimeOnly), a.MarbleType, a.UUID,
			a.Claims.TEE))
		got[a.MarbleType+" in "+a.Claims.TEE]++
	}
	want := map[string]int{"web in snp": 2, "echo-server in sgx": 1, "echo-client in tdx": 1, "one-time-job in sgx": 1}
	if !maps.Equal(got, want) {
		return "", fmt.Errorf("activations by type are %v instead of %v", got, want)
	}
	return "Each admission is a record in the Coordinator's journal, also those before the crash, with what was " +
		"read out of the evidence and which collateral decided.", nil
}
