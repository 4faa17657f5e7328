package engine

import (
	"encoding/json"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// AnswerFollowers answers what nodes that follow ask this one while it leads:
// see raft.Handler. What it answers first is the mark, which comes before the
// look at the state.
func (e *Engine) AnswerFollowers() func(state *fsm.State, peer string, items [][]byte) [][]byte {
	at := e.ledger.mark()
	return func(state *fsm.State, peer string, items [][]byte) [][]byte {
		if s := state.Session(at.session); at.session != 0 && (s == nil || s.EndedAt != 0) {
			e.ledger.end(at.session) // see call.sessionEnded
		}
		now := e.Now()
		common := followed{Now: now.UnixMicro(), Off: int64(e.clock.off(now, state.Time())), Session: at.session, Heard: at.stamp}
		asked := make([]toFollow, len(items))
		for i, item := range items {
			if len(item) == 0 {
				continue
			}
			if err := json.Unmarshal(item, &asked[i]); err != nil {
				asked[i] = toFollow{} // it gets no consent
			}
			e.hear(at.session, peer, asked[i])
		}
		grants := make([][]lend, len(items))
		for i := range asked {
			for _, r := range asked[i].Reads {
				grants[i] = append(grants[i], e.lend(at, state, peer, now, r))
			}
		}
		common.Said = e.ledger.mark().stamp
		return encodeAnswers(common, grants)
	}
}

// encodeAnswers spares requests without reads, which are all answered alike.
func encodeAnswers(common followed, grants [][]lend) [][]byte {
	out := make([][]byte, len(grants))
	plain, err := json.Marshal(common)
	for i := range grants {
		out[i] = plain
		if len(grants[i]) > 0 {
			one := common
			one.Grants = grants[i]
			out[i], err = json.Marshal(one)
		}
		if err != nil {
			out[i] = nil // numbers do not fail to encode; it would get no consent
		}
	}
	return out
}

// hear takes in what has happened on a node that follows.
func (e *Engine) hear(session uint64, peer string, told toFollow) {
	for _, end := range told.Ended {
		if end.Session == session {
			e.ledger.landed(peer, end.ID, end.Done)
		}
	}
	e.credentials.putBack(told.Credentials)
	e.uses.putBack(told.Keys)
}

// lend decides about one hand-out. Times are this node's: the reader asked
// before, so it keeps what it is given no longer than is noted.
func (e *Engine) lend(at mark, state *fsm.State, peer string, now time.Time, r toRead) lend {
	path := names.Path(r.Path)
	s, v := state.Secret(path), state.Version(path, r.Version)
	if s == nil || s.ID != r.SecretID || v == nil || v.State == fsm.VersionDestroyed {
		return lend{}
	}
	_, horizon := state.Horizon(path)
	ms := now.UnixMilli()
	seen := fsm.Observation{
		Path: r.Path, SecretID: s.ID, Version: r.Version, Principal: r.Principal, Instance: r.Instance, First: ms, Last: ms, Until: ms + horizon,
	}
	var word *fsm.Observation
	if r.Uses != 0 && r.Session == at.session {
		if used := state.Version(path, r.Uses); used != nil && used.State != fsm.VersionDestroyed {
			said := seen
			said.Version, said.Last, said.Said, said.SaidAt = r.Uses, 0, r.Stamp, ms
			word = &said
		}
	}
	if r.Uses == r.Version {
		seen.Last = 0 // nothing is handed out
	}
	id := e.ledger.lend(at, seen, word, peer, state)
	if id == 0 {
		return lend{}
	}
	return lend{ID: id, Until: seen.Until, Horizon: horizon}
}
