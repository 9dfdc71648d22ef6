// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one that the demo started. It ends no other.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file with stdout and stderr of all its lives
	done chan struct{}
}

// start starts a program in a folder, with the given environment alone, and lets it write to NAME.log.
func (d *demo) start(name, dir string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(d.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, log, log
	p.cmd.SysProcAttr = detached() // a Ctrl-C is for the demo, which then ends them; with KEEP=1 they outlive it
	d.concerned = append(d.concerned, p)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	d.processes = append(d.processes, p)
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait(limit time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(limit):
		return 0, fmt.Errorf("%s still runs after %v", p.name, limit)
	}
}

// kill is kill -9.
func (p *process) kill() {
	if !p.ended() {
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.done
	}
}

// stop asks first.
func (p *process) stop() {
	if p.ended() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	if _, err := p.wait(3 * time.Second); err != nil {
		p.kill()
	}
}

// text returns the whole log; there is none before the first line.
func (p *process) text() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (p *process) tail(n int) string {
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// lines returns the log's lines that contain text.
func (p *process) lines(text string) (found []string) {
	for line := range strings.Lines(p.text()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
