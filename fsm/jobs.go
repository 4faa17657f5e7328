package fsm

import (
	"bytes"
	"crypto/sha256"

	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of jobs.
const (
	jobKept    = 90 * 24 * hour // a job is forgotten so long after its end
	maxJobs    = 10_000
	maxJobRate = 10_000 // secrets a second
	maxReason  = 1024
)

func createJob(t *txn, c CreateJob) (Result, *Refusal) {
	if c.Job.Kind != JobMigrate {
		return Result{}, invalid("kind", "must be %s", JobMigrate)
	}
	from, _, r := t.keyFor("fromKeyId", c.Job.From, KeyOpen)
	if r != nil {
		return Result{}, r
	}
	return t.startMigration(from, c.Job, c.Meta)
}

// retireKey ends new bindings at this index. What is bound then can only
// become less, so the job that moves it comes to an end, and the index at
// which nothing is left is a fact that stays true.
func retireKey(t *txn, c RetireKey) (Result, *Refusal) {
	key, rule, r := t.keyFor("keyId", c.KeyID, KeyRetire)
	if r != nil {
		return Result{}, r
	}
	if rule.To != "" {
		next := *key
		next.State = rule.To
		t.changeKey(&next)
		key = &next
	}
	if t.nothingUnder(key.ID) {
		return t.retired(key), nil
	}
	if c.Job.To == "" {
		return Result{}, invalid("toKeyId", "is needed: %d secrets are bound to the key and must move to another one", t.bound.value([]byte(key.ID)))
	}
	job := c.Job
	job.Kind, job.From, job.Retire = JobMigrate, key.ID, true
	return t.startMigration(key, job, c.Meta)
}

// retired disables a key that nothing is bound to, and says at which index
// that was so.
func (t *txn) retired(key *Key) Result {
	next := *key
	next.State, next.EmptyIndex = KeyDisabled, t.index
	return t.changeKey(&next)
}

// nothingUnder reports whether neither a live version nor the next version
// of a secret goes under the key.
func (t *txn) nothingUnder(keyID string) bool {
	if t.bound.value([]byte(keyID)) != 0 {
		return false
	}
	for range chosenPaths(t.chosen.root(), keyID, "") {
		return false
	}
	return true
}

func (t *txn) startMigration(from *Key, j Job, meta Meta) (Result, *Refusal) {
	to, r := t.bindable("toKeyId", j.To)
	switch {
	case r != nil:
		return Result{}, r
	case to.ID == from.ID:
		return Result{}, invalid("toKeyId", "is the key that the secrets are to leave")
	case j.Rate < 1 || j.Rate > maxJobRate:
		return Result{}, invalid("ratePerSecond", "must be 1 to %d", maxJobRate)
	}
	if r := checkName("jobId", j.ID); r != nil {
		return Result{}, r
	}
	if r := t.checkJobs(j.ID, from.ID, to.ID); r != nil {
		return Result{}, r
	}
	job := &Job{
		ID: j.ID, Kind: JobMigrate, State: JobRunning, From: from.ID, To: to.ID, Rate: j.Rate, Retire: j.Retire,
		Total: t.bound.value([]byte(from.ID)), CreatedAt: t.now, CreatedBy: t.by, RequestID: meta.RequestID, UpdatedAt: t.now,
	}
	if t.nothingUnder(from.ID) {
		t.finish(job)
	}
	t.putJob(job)
	state := from.State
	if current := t.keys.value([]byte(from.ID)); current != nil {
		state = current.State
	}
	return Result{JobID: job.ID, KeyID: from.ID, State: string(state), More: job.State == JobRunning}, nil
}

// checkJobs refuses a job whose keys another one is at work on: two of them
// would do everything twice, or move secrets to and fro for ever.
func (t *txn) checkJobs(id, from, to string) *Refusal {
	all := t.jobs.collect(nil, 0)
	if len(all) >= maxJobs {
		return conflict("jobs: there are %d, the most that are kept; ended ones are forgotten after 90 days", len(all))
	}
	for _, other := range all {
		switch {
		case other.ID == id:
			return alreadyExists("jobId: %s is taken", id)
		case other.FinishedAt != 0:
		case other.Kind == JobRotateRoot || from == "": // of no key
		case other.From == from || other.From == to || other.To == from:
			return conflict("jobId: job %s, which is %s, works on one of the keys; wait for its end, or cancelJob", other.ID, other.State).
				with("jobId", other.ID)
		}
	}
	return nil
}

// finish ends job, which the caller stores, at the index at which nothing is
// under its key any more.
func (t *txn) finish(job *Job) {
	job.State, job.FinishedAt, job.EmptyIndex, job.Error = JobDone, t.now, t.index, ""
	// Somebody may have made the key active again meanwhile; then the wish to
	// retire it is over.
	if from := t.keys.value([]byte(job.From)); job.Retire && from.State == KeyRetiring {
		t.retired(from)
	}
}

// jobMoves says which changes of a job's state a person, or the leader, may
// make.
var jobMoves = map[JobState][]JobState{
	JobRunning: {JobPaused, JobFailed, JobCancelled},
	JobPaused:  {JobRunning, JobCancelled},
	JobFailed:  {JobRunning, JobCancelled},
}

func setJobState(t *txn, c SetJobState) (Result, *Refusal) {
	job := t.jobs.value([]byte(c.JobID))
	if job == nil {
		return Result{}, notFound("jobId: there is no job %.64s", c.JobID)
	}
	if len(c.Error) > maxReason {
		return Result{}, invalid("error", "must have at most %d bytes", maxReason)
	}
	allowed := job.State == c.State
	for _, to := range jobMoves[job.State] {
		allowed = allowed || to == c.State
	}
	if !allowed {
		return Result{}, conflict("jobId: a job that is %s cannot be made %s", job.State, c.State).with("jobId", job.ID).with("state", string(job.State))
	}
	if job.State == c.State {
		return Result{JobID: job.ID, State: string(job.State)}, nil
	}
	next := *job
	next.State, next.Error, next.UpdatedAt = c.State, c.Error, t.now
	if c.State == JobCancelled {
		if job.Kind == JobRotateRoot {
			if r := t.cancelRotation(job); r != nil {
				return Result{}, r
			}
		}
		next.FinishedAt = t.now
	}
	t.putJob(&next)
	return Result{JobID: job.ID, State: string(c.State)}, nil
}

// rewrapVersions is one step from one key to another. Each item carries what
// it replaces, so a step that was decided on an older state, or that comes
// twice, changes nothing that has changed meanwhile.
func rewrapVersions(t *txn, c RewrapVersions) (Result, *Refusal) {
	job := t.jobs.value([]byte(c.JobID))
	switch {
	case c.JobID == "":
	case job == nil || job.From != c.From || job.To != c.To:
		return Result{}, notFound("jobId: there is no such job %.64s between these keys", c.JobID)
	case job.State != JobRunning:
		return Result{}, conflict("jobId: the job is %s", job.State).with("jobId", job.ID).with("state", string(job.State))
	}
	to, r := t.bindable("toKeyId", c.To)
	if r != nil {
		return Result{}, r
	}
	before := t.bound.value([]byte(c.From))
	done := 0
	for _, item := range c.Items {
		if item.KeyVersion == 0 || item.KeyVersion > to.Current || len(item.DataKey) == 0 {
			return Result{}, invalid("items", "hold a data key of no version of the key")
		}
		done += t.rewrap(item, c.From, to.ID)
	}
	for _, path := range c.Paths {
		t.choose(names.Path(path), c.From, to.ID, job == nil)
	}
	result := Result{JobID: c.JobID, KeyID: to.ID, Done: done}
	if job == nil {
		return result, nil
	}
	after := t.bound.value([]byte(c.From))
	next := *job
	next.Done += before - after
	next.Total, next.UpdatedAt = max(next.Total, next.Done+after), t.now
	if t.nothingUnder(c.From) {
		next.Total = next.Done
		t.finish(&next)
	}
	t.putJob(&next)
	result.State, result.More = string(next.State), next.State == JobRunning
	return result, nil
}

// rewrap replaces one data key, if the version is as it was.
func (t *txn) rewrap(item Rewrapped, from, to string) int {
	path := names.Path(item.Path)
	v := t.versions.value(versionKey(path, item.Version))
	if v == nil || v.State == VersionDestroyed || v.KeyID != from {
		return 0
	}
	if sum := sha256.Sum256(v.DataKey); !bytes.Equal(sum[:], item.Old) {
		return 0
	}
	next := *v
	next.KeyID, next.KeyVersion, next.DataKey = to, item.KeyVersion, item.DataKey
	t.putVersion(path, v, &next)
	return 1
}

// choose makes to the key of a secret's next versions. Only a person's own
// change counts as an update of the secret; a job changes nothing that its
// readers would notice.
func (t *txn) choose(path names.Path, from, to string, update bool) {
	s := t.secrets.value([]byte(path))
	if s == nil || s.State == SecretPurged || s.KeyID != from {
		return
	}
	next := *s
	next.KeyID = to
	if !update {
		t.keepSecret(&next)
		return
	}
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
}
