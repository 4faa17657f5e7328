package engine

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// manageJobs is the right to change the state of any job.
const manageJobs iam.Action = "cluster:manageJobs"

// jobOperations look at jobs and change their state. Who may migrate the
// secrets of a key may do both with the jobs of that key.
func jobOperations() []*Operation {
	change := func(name, event, summary string, to fsm.JobState) *Operation {
		return operation(row[wire.JobChangeRequest, wire.JobResponse]{
			service: "cluster", name: name, event: event, write: true, summary: summary,
			action: manageJobs, more: []iam.Action{"kms:migrateBoundSecrets"},
			scope: func(c *call, r *wire.JobChangeRequest) (scope, error) { return c.jobScope(r.JobID) },
			run: func(ctx context.Context, c *call, r *wire.JobChangeRequest) (*wire.JobResponse, error) {
				return setJobState(ctx, c, r, to)
			},
		})
	}
	return []*Operation{
		operation(row[wire.ListJobsRequest, wire.ListJobsResponse]{
			service: "cluster", name: "listJobs", event: "cluster.list_jobs",
			summary: "List long-running jobs.",
			scope:   func(*call, *wire.ListJobsRequest) (scope, error) { return scope{}, nil },
			run:     listJobs,
		}),
		operation(row[wire.JobRequest, wire.JobResponse]{
			service: "cluster", name: "describeJob", event: "cluster.describe_job",
			more:    []iam.Action{"kms:migrateBoundSecrets"},
			summary: "Show a job and its progress.",
			scope:   func(c *call, r *wire.JobRequest) (scope, error) { return c.jobScope(r.JobID) },
			run:     describeJob,
		}),
		change("pauseJob", "cluster.pause_job", "Hold a job until resumeJob.", fsm.JobPaused),
		change("resumeJob", "cluster.resume_job", "Let a paused or failed job go on.", fsm.JobRunning),
		change("cancelJob", "cluster.cancel_job", "End a job for good; what it has moved stays moved.", fsm.JobCancelled),
	}
}

// jobScope authorises by the job's key where the caller has that right, and
// by the right on all jobs otherwise: a job that is not there answers like
// one that is none of the caller's business.
func (c *call) jobScope(id string) (scope, error) {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return scope{}, fault.Invalid("jobId", "must be the id of a job (a UUID); listJobs shows them")
	}
	s := scope{subject: "job " + id}
	job := c.state.Job(id)
	if job == nil {
		return s, nil
	}
	key := scope{key: c.state.Key(job.From), action: "kms:migrateBoundSecrets", subject: s.subject}
	if key.key != nil && c.may(key.action, resource(key)) {
		return key, nil
	}
	return s, nil
}

func (c *call) job(id string) (*fsm.Job, error) {
	job := c.state.Job(id)
	if job == nil {
		return nil, fault.New(fault.NotFound, "jobId: there is no job %s; ended ones are forgotten after 90 days", id)
	}
	return job, nil
}

func jobResponse(j *fsm.Job) wire.JobResponse {
	return wire.JobResponse{
		JobID: j.ID, Kind: j.Kind, State: string(j.State), FromKeyID: j.From, ToKeyID: j.To, Retire: j.Retire, RatePerSecond: j.Rate,
		Total: j.Total, Done: j.Done, Error: j.Error, CreatedAt: wire.Millis(j.CreatedAt), CreatedBy: j.CreatedBy,
		UpdatedAt: wire.Millis(j.UpdatedAt), FinishedAt: wire.Millis(j.FinishedAt), EmptyIndex: j.EmptyIndex, RootVersion: j.RootVersion,
	}
}

func describeJob(_ context.Context, c *call, r *wire.JobRequest) (*wire.JobResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	job, err := c.job(r.JobID)
	if err != nil {
		return nil, err
	}
	out := jobResponse(job)
	return &out, nil
}

func listJobs(_ context.Context, c *call, r *wire.ListJobsRequest) (*wire.ListJobsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	switch fsm.JobState(r.State) {
	case "", fsm.JobRunning, fsm.JobPaused, fsm.JobFailed, fsm.JobDone, fsm.JobCancelled:
	default:
		return nil, fault.Invalid("state", "must be running, paused, failed, done or cancelled")
	}
	out := &wire.ListJobsResponse{Jobs: []wire.JobResponse{}}
	for job := range c.state.Jobs(p.after) {
		if r.State != "" && string(job.State) != r.State {
			continue
		}
		if len(out.Jobs) == p.limit {
			out.NextCursor = cursor(out.Jobs[p.limit-1].JobID)
			break
		}
		out.Jobs = append(out.Jobs, jobResponse(job))
	}
	return out, nil
}

func setJobState(ctx context.Context, c *call, r *wire.JobChangeRequest, to fsm.JobState) (*wire.JobResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.SetJobState{Meta: meta, JobID: r.JobID, State: to}); err != nil {
		return nil, err
	}
	if err := c.afterCommit(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	job, err := c.job(r.JobID)
	if err != nil {
		return nil, err
	}
	out := jobResponse(job)
	return &out, nil
}

// asFault answers the typed error in err, nil if there is none.
func asFault(err error) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}
