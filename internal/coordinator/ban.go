// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/manifest"
)

// maxBans bounds the bans in force; each is some hundred bytes of state.
const maxBans = 100_000

// banTarget is what a ban is about, in canonical form: UUID or EvidenceSHA256 is empty.
type banTarget struct {
	MarbleType     string `json:"type"`
	UUID           string `json:"uuid,omitempty"`
	EvidenceSHA256 string `json:"evidence,omitempty"` // lower-case hex
}

// ban keeps Marbles from being activated. It outlives updates, also those that remove its Marble type.
type ban struct {
	banTarget
	By   string    `json:"by"`
	Time time.Time `json:"time"`
}

// key joins the fields so that different targets never collide; its order is that of the list.
func (t banTarget) key() string {
	key, err := json.Marshal(t)
	if err != nil {
		return "" // strings always marshal
	}
	return string(key)
}

// subject is the target's field of an update-log line.
func (t banTarget) subject() field {
	if t.UUID != "" {
		return field{"uuid", t.UUID}
	}
	return field{"evidenceSHA256", t.EvidenceSHA256}
}

func (t banTarget) line(at moment, update string) string {
	return line(at.time, update, field{"user", at.actor}, field{"marbleType", t.MarbleType}, t.subject())
}

func (t banTarget) String() string {
	if t.UUID != "" {
		return "UUID " + t.UUID
	}
	return "evidence with SHA-256 " + t.EvidenceSHA256
}

// marbleBanned puts a ban in force.
type marbleBanned struct{ banTarget }

func (*marbleBanned) kind() string   { return "marble-banned" }
func (*marbleBanned) resolve() error { return nil }

func (e *marbleBanned) apply(d *State, at moment) {
	d.bans = d.bans.With(e.key(), ban{banTarget: e.banTarget, By: at.actor, Time: at.time})
	d.addLine(at, e.line(at, "Marble banned"))
}

// marbleBanLifted ends a ban.
type marbleBanLifted struct{ banTarget }

func (*marbleBanLifted) kind() string   { return "marble-ban-lifted" }
func (*marbleBanLifted) resolve() error { return nil }

func (e *marbleBanLifted) apply(d *State, at moment) {
	d.bans = d.bans.Without(e.key())
	d.addLine(at, e.line(at, "Marble ban lifted"))
}

// ChangeBan keeps a Marble out, by type and UUID or evidence, or ends that. It returns the ban in force, or the one
// that was lifted. What is banned already stays banned by whom it was. Certificates that the Marble has are not
// revoked.
func (c *Coordinator) ChangeBan(ctx context.Context, user string, req wire.BanRequest) (wire.Ban, error) {
	k, err := c.running()
	if err != nil {
		return wire.Ban{}, err
	}
	target, err := parseTarget(req.BanTarget)
	if err != nil {
		return wire.Ban{}, err
	}
	decide, key := target.ban, target.key()
	if req.Lift {
		decide = target.lift
	}
	var before ban
	s, err := k.submit(ctx, user, func(s *State) (outcome, error) {
		m := s.manifest.manifest
		if err := permit(m, user, manifest.ResourceMarbles, manifest.ActionBanMarble, target.MarbleType); err != nil {
			return outcome{}, err
		}
		before = s.bans.Value(key)
		return decide(s)
	})
	if err != nil {
		return wire.Ban{}, err
	}
	c.log.Info("Bans changed", "user", user, "marbleType", target.MarbleType, "subject", target.String(),
		"lifted", req.Lift)
	if req.Lift {
		return before.wire(), nil
	}
	return s.bans.Value(key).wire(), nil
}

func (t banTarget) ban(s *State) (outcome, error) {
	if _, banned := s.bans.Load(t.key()); banned {
		return outcome{}, nil
	}
	if s.bans.Len() >= maxBans {
		return outcome{}, refuse(Invalid, "there are %d bans, more are not possible", s.bans.Len()).
			hint("lift bans that are no longer needed; packages and Infrastructures keep out whole builds and machines")
	}
	return outcome{events: []event{&marbleBanned{t}}}, nil
}

func (t banTarget) lift(s *State) (outcome, error) {
	if _, banned := s.bans.Load(t.key()); !banned {
		return outcome{}, refuse(Invalid, "there is no ban of %s for marble type %q", t, t.MarbleType).
			hint("'marblerun ban list' shows all bans")
	}
	return outcome{events: []event{&marbleBanLifted{t}}}, nil
}

// parseTarget returns the canonical form of a request's target.
func parseTarget(in wire.BanTarget) (banTarget, error) {
	t := banTarget{MarbleType: in.MarbleType}
	switch {
	case in.MarbleType == "":
		return t, refuse(BadRequest, "a ban needs a marbleType")
	case (in.UUID == "") == (in.EvidenceSHA256 == ""):
		return t, refuse(BadRequest, "a ban needs either a uuid or an evidenceSHA256")
	case in.UUID != "":
		id, err := uuid.Parse(in.UUID)
		if err != nil {
			return t, refuse(BadRequest, "invalid UUID: %w", err)
		}
		t.UUID = id.String()
		return t, nil
	}
	digest, err := hex.DecodeString(in.EvidenceSHA256)
	if err != nil || len(digest) != sha256.Size {
		return t, refuse(BadRequest, "evidenceSHA256 is not 64 hex digits").
			hint("'marblerun activations -o json' shows the hashes of accepted evidence")
	}
	t.EvidenceSHA256 = hex.EncodeToString(digest)
	return t, nil
}

func (b ban) wire() wire.Ban {
	return wire.Ban{
		BanTarget: wire.BanTarget{MarbleType: b.MarbleType, UUID: b.UUID, EvidenceSHA256: b.EvidenceSHA256},
		BannedBy:  b.By, Time: b.Time.Format(time.RFC3339Nano),
	}
}

// Bans calls yield with each ban in force, in order of type, kind and value.
func (c *Coordinator) Bans(_ context.Context, yield func(wire.Ban) error) error {
	k, err := c.running()
	if err != nil {
		return err
	}
	for _, b := range k.state.Load().bans.Sorted() {
		if err := yield(b.wire()); err != nil {
			return err
		}
	}
	return nil
}

// banKeys are the keys of all bans that would keep this Marble out. A UUID that does not parse is refused later.
func banKeys(req ActivateRequest) []string {
	var keys []string
	if id, err := uuid.Parse(req.UUID); err == nil {
		keys = append(keys, banTarget{MarbleType: req.MarbleType, UUID: id.String()}.key())
	}
	if len(req.Evidence) > 0 {
		hash := sha256.Sum256(req.Evidence)
		keys = append(keys, banTarget{MarbleType: req.MarbleType, EvidenceSHA256: hex.EncodeToString(hash[:])}.key())
	}
	return keys
}

// checkBan refuses a banned Marble, on the snapshot and again in the writer.
func (a *activation) checkBan(s *State) error {
	for _, key := range a.banKeys {
		if b, banned := s.bans.Load(key); banned {
			return a.refused("marble is banned by its %s", b.banTarget).hint(b.hint())
		}
	}
	return nil
}

func (b ban) hint() string {
	return fmt.Sprintf("banned by user %s at %s; 'marblerun ban remove' lifts the ban", b.By, b.Time.Format(time.RFC3339))
}

// checkMarbleBan refuses the certificate of a Marble whose UUID is banned. Certificates do not tell the evidence.
func (s *State) checkMarbleBan(m Marble) error {
	if b, banned := s.bans.Load(banTarget{MarbleType: m.Type, UUID: m.UUID}.key()); banned {
		return refuse(Unauthorized, "unauthorized marble: marble is banned by its %s", b.banTarget).hint(b.hint())
	}
	return nil
}
