// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// explainKept says how to reach and how to stop what runs on, and writes the script that does it.
func (d *demo) explainKept() error {
	var pids []string
	for _, p := range d.processes {
		if !p.ended() {
			pids = append(pids, fmt.Sprint(p.cmd.Process.Pid))
		}
	}
	script := filepath.Join(d.dir, "stop.sh")
	text := fmt.Sprintf("#!/bin/sh\nkill %s\nsleep 1\nrm -r '%s'\n", strings.Join(pids, " "), d.dir)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		return err
	}
	d.out.print("")
	d.out.line("KEEP=1: everything runs on, the software TEE included. Logs and state are in " + d.dir + ". Try:")
	d.out.command("cd " + d.dir)
	d.out.command("export PATH=$PWD/bin:$PATH XDG_CONFIG_HOME=$PWD/config XDG_CACHE_HOME=$PWD/cache")
	d.out.command("marblerun status " + d.clientAddr)
	d.out.command("marblerun manifest verify manifest.json " + d.clientAddr + " " + cliFlags)
	d.out.command("curl --cacert chain.pem https://" + d.webAddr + "/note")
	d.out.command("tail -f echo-client.log")
	d.out.line("To stop it all and remove the folder:")
	d.out.command("sh " + script)
	return nil
}
