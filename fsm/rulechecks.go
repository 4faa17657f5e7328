package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Breach is where a secret differs from a rule.
type Breach struct {
	Prefix  string // of the rule
	Field   string // of the rule
	Message string // says the way out
}

// PathBreaches answers where a path differs from the grammars. A secret is
// refused, and reported by lintPaths, by this same function.
func (e EffectiveRule) PathBreaches(path names.Path) []Breach {
	var out []Breach
	for _, rule := range e.Rules {
		grammar, err := names.ParseGrammar(rule.Segments)
		if err != nil || len(rule.Segments) == 0 {
			continue // a stored one parses
		}
		if err := grammar.Check(string(path)[len(rule.Prefix):]); err != nil {
			out = append(out, Breach{rule.Prefix, "segments", fmt.Sprintf("the rule %s wants %s below it: %v", rule.Prefix, grammar, err)})
		}
	}
	return out
}

// TagBreaches answers which required tags are missing or have another value
// than is allowed. Values are not told: they may be many, and long.
func (e EffectiveRule) TagBreaches(tags map[string]string) []Breach {
	var out []Breach
	for _, tag := range e.RequiredTags {
		value, there := tags[tag.Name]
		switch {
		case there && len(tag.Values) == 0 && value != "", there && slices.Contains(tag.Values, value):
		case there && len(tag.Values) > 0:
			out = append(out, Breach{tag.Prefix, "requiredTags", fmt.Sprintf("the rule %s allows for the tag %s only %s; set one of them", tag.Prefix, tag.Name, strings.Join(tag.Values, ", "))})
		default:
			out = append(out, Breach{tag.Prefix, "requiredTags", fmt.Sprintf("the rule %s requires the tag %s; set it to a value that is not empty", tag.Prefix, tag.Name)})
		}
	}
	return out
}

// checkNewPath decides whether a secret with these tags may be made at path.
func (t *txn) checkNewPath(path names.Path, tags map[string]string) *Refusal {
	return t.ruleFor(path).refuseNew(path, tags)
}

// CheckNewPath answers the refusal that Apply would have for a new secret
// with these tags at path, nil for none: it saves a caller the sealing.
func (s *State) CheckNewPath(path names.Path, tags map[string]string) *Refusal {
	return s.RuleFor(path).refuseNew(path, tags)
}

func (e EffectiveRule) refuseNew(path names.Path, tags map[string]string) *Refusal {
	if r := breached("path", e.PathBreaches(path)); r != nil {
		return r
	}
	return breached("tags", e.TagBreaches(tags))
}

// breached is the refusal of the first breach, which names the field of the
// request, the rule and the way out.
func breached(field string, breaches []Breach) *Refusal {
	if len(breaches) == 0 {
		return nil
	}
	return invalid(field, "%s", breaches[0].Message).with("rule", breaches[0].Prefix).with("ruleField", breaches[0].Field)
}

// retainedUntil answers from when on a version may be destroyed.
func retainedUntil(v *Version, rule EffectiveRule) int64 {
	return min(v.CreatedAt+rule.MinRetention, maxTime)
}

// checkRetained refuses a destruction at a time before v is old enough. A
// rule that is put later does not hold up what was accepted before.
func (t *txn) checkRetained(path names.Path, v *Version, at int64) *Refusal {
	rule := t.ruleFor(path)
	until := retainedUntil(v, rule)
	if at >= until {
		return nil
	}
	way := ""
	if until-t.now <= maxRecovery {
		way = ", or give a delay of at least " + wait(until-t.now)
	}
	return retained(rule, until, "version: %d may be destroyed from %s on, because of minRetention of the rule %s; destroy it then%s",
		v.Number, utc(until), rule.From.MinRetention, way)
}

// checkPurge is checkRetained for a secret that would be purged at a time:
// its youngest version decides.
func (t *txn) checkPurge(s *Secret, at int64) *Refusal {
	rule := t.ruleFor(s.Path)
	if rule.MinRetention == 0 {
		return nil
	}
	var until int64
	for _, v := range t.stored(s) {
		until = max(until, retainedUntil(v, rule))
	}
	if at >= until {
		return nil
	}
	way := "delete it with a recoveryWindow of at least " + wait(until-t.now)
	if until-t.now > maxRecovery {
		way = "delete it when no more than 90d are left until then"
	}
	return retained(rule, until, "path: the secret may be purged from %s on, because of minRetention of the rule %s; %s", utc(until), rule.From.MinRetention, way)
}

func retained(rule EffectiveRule, until int64, format string, args ...any) *Refusal {
	return refuse(fault.New(fault.Conflict, format, args...)).
		with("rule", rule.From.MinRetention).with("ruleField", "minRetention").with("until", utc(until))
}

// wait spells a time to wait as durations are written, rounded up to seconds.
func wait(millis int64) string {
	seconds := (millis + 999) / 1000
	return fmt.Sprintf("%dh%dm%ds", seconds/3600, seconds/60%60, seconds%60)
}

// utc spells a time as RFC 3339 does, rounded up to seconds: for messages,
// which are no part of what replicas must agree on.
func utc(at int64) string {
	seconds := (at + 999) / 1000
	year, month, day := civil(seconds / (24 * 60 * 60))
	ofDay := seconds % (24 * 60 * 60)
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", year, month, day, ofDay/3600, ofDay/60%60, ofDay%60)
}

// civil answers the date of a day since 1970-01-01, counted as in monthStart.
func civil(days int64) (year, month, day int64) {
	era, fromMarch := (days+719468)/146097, (days+719468)%146097
	year = (fromMarch - fromMarch/1460 + fromMarch/36524 - fromMarch/146096) / 365
	ofYear := fromMarch - (365*year + year/4 - year/100)
	month = (5*ofYear + 2) / 153 // 0: March
	day = ofYear - (153*month+2)/5 + 1
	year += era * 400
	if month += 3; month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
