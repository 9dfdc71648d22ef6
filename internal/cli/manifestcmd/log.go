// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
)

// followEvery is how often 'log --follow' asks.
const followEvery = 2 * time.Second

func (a *commands) manifestLogCmd() *cobra.Command {
	var output console.Target
	var following bool
	cmd := &cobra.Command{
		Use:   "log <IP:PORT>",
		Short: "Get the update log from the MarbleRun Coordinator",
		Long: "Get the update log from the MarbleRun Coordinator: one JSON object per line.\n\n" +
			"With --output json the lines are elements of one JSON array; with --follow they are not, each line is an object.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if following {
				return a.manifestLogFollow(cmd.Context(), args[0], output)
			}
			return a.manifestLog(cmd, args[0], output)
		},
	}
	output.Add(cmd, "")
	cmd.Flags().BoolVarP(&following, "follow", "f", false, "go on printing new lines until interrupted")
	return cmd
}

func (a *commands) manifestLog(cmd *cobra.Command, endpoint string, output console.Target) error {
	client, err := a.Trusted(cmd.Context(), endpoint, nil)
	if err != nil {
		return err
	}
	a.NoteVerified("requesting update log")
	log, err := client.ManifestLog(cmd.Context())
	if err != nil {
		return fmt.Errorf("retrieving update log: %w", err)
	}
	switch {
	case output.JSON():
		values := make([]any, len(log))
		for i, line := range log {
			values[i] = logValue(line)
		}
		return a.WriteJSON(values)
	case output.File() != "":
		err := console.SavePublic(output.File(), []byte(strings.Join(log, "\n")))
		if err == nil {
			a.Note("Update log written to %s", output.File())
		}
		return err
	}
	var text strings.Builder
	text.WriteString("Update log:\n")
	for _, line := range log {
		text.WriteString(line + "\n")
	}
	return a.Write([]byte(text.String()))
}

// logValue is a line as JSON; a line that is none becomes a string.
func logValue(line string) any {
	if json.Valid([]byte(line)) {
		return json.RawMessage(line)
	}
	return line
}

func (a *commands) manifestLogFollow(ctx context.Context, endpoint string, output console.Target) error {
	if output.File() != "" {
		return errors.New("--follow prints; redirect its output to have it in a file")
	}
	client, err := a.Trusted(ctx, endpoint, nil)
	if err != nil {
		return err
	}
	emit := func(line string) error { return a.Write([]byte(line + "\n")) }
	if output.JSON() {
		emit = func(line string) error {
			text, err := json.Marshal(logValue(line))
			if err != nil {
				return err
			}
			return a.Write(append(text, '\n'))
		}
	}
	err = follow(ctx, client.ManifestLog, emit, func(err error) { a.Warn("%v; trying again", err) })
	if err != nil {
		return fmt.Errorf("retrieving update log: %w", err)
	}
	return nil
}

// follow prints the lines of the log as they come until ctx ends, which is no error. It goes on when the Coordinator
// cannot be reached, and warns once. It ends with an error if the Coordinator refuses or is another one.
func follow(
	ctx context.Context, fetch func(context.Context) ([]string, error), emit func(string) error, warn func(error),
) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var seen []string
	warned := false
	for {
		log, err := fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && lasting(err):
			return err
		case err != nil && !warned:
			warn(err)
		}
		warned = err != nil
		if err == nil {
			for _, line := range log[alreadySeen(seen, log):] {
				if err := emit(line); err != nil {
					return err
				}
			}
			seen = log
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// lasting errors do not go away by trying again.
func lasting(err error) bool {
	var refused *api.RequestError
	return errors.Is(err, api.ErrRootMismatch) || errors.As(err, &refused) && refused.Code < 500
}

// alreadySeen returns how many lines of the log were there before. The log grows at its end, and at its beginning lines
// may have been collapsed into one: so what was seen last is looked for, where most lines before it agree.
func alreadySeen(seen, log []string) int {
	if len(seen) == 0 {
		return 0
	}
	n, longest := 0, 0
	for i := range log {
		agree := 0
		for agree <= i && agree < len(seen) && log[i-agree] == seen[len(seen)-1-agree] {
			agree++
		}
		if agree > longest {
			n, longest = i+1, agree
		}
		if agree == len(seen) {
			break
		}
	}
	return n
}
