// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"

	"github.com/marblerun/marblerun/api/wire"
)

func (f *fake) RotateSecrets(_ context.Context, user string, names []string) ([]string, error) {
	f.called(user, names)
	return []string{"rotated"}, f.err
}

func (f *fake) ChangeBan(_ context.Context, user string, req wire.BanRequest) (wire.Ban, error) {
	f.called(user, req)
	if len(f.banned) == 0 {
		return wire.Ban{}, f.err
	}
	return f.banned[0], f.err
}

func (f *fake) Bans(_ context.Context, ban func(wire.Ban) error) error {
	for _, b := range f.banned {
		if err := ban(b); err != nil {
			return err
		}
	}
	return f.err
}
