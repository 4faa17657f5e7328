package wire

// RotationSettings say when and how a secret is rotated. They name the paths
// of secrets and never hold a value.
type RotationSettings struct {
	Kind          string        `json:"kind,omitzero" doc:"generate, webhook, postgresql or mysql (MariaDB too); none takes the settings away"`
	Interval      *Duration     `json:"interval,omitzero" doc:"rotate so long after the last time, 1h to 3660d; without interval and cron: on demand"`
	Cron          string        `json:"cron,omitzero" doc:"rotate by a schedule: minute, hour, day of the month, month, day of the week, such as 30 3 * * sun"`
	Timezone      string        `json:"timezone,omitzero" doc:"with cron: the zone of its clock, an IANA name (default UTC)"`
	Generate      *GenerateSpec `json:"generate,omitzero" doc:"what to generate: the value, or the password (default 32 letters and digits)"`
	AdminSecret   string        `json:"adminSecret,omitzero" doc:"databases: path of the JSON secret with host, port, username, password, ca and serverName of the login that sets passwords"`
	Usernames     []string      `json:"usernames,omitzero" doc:"databases: the user, or two users that take turns, so that the old login keeps working until the next rotation"`
	Database      string        `json:"database,omitzero" doc:"databases: the database to log in to, also part of the value"`
	URL           string        `json:"url,omitzero" doc:"webhook: where the steps are posted to, https only; the server's rotation.webhookAllow must allow its host"`
	CA            string        `json:"ca,omitzero" doc:"webhook: certificates (PEM) that the receiver's must be signed by (default those of the system)"`
	SigningSecret string        `json:"signingSecret,omitzero" doc:"webhook: path of the secret with the key of the signature, 32 bytes or more"`
}

// RotationStatus is what describeSecret tells of the rotation of a secret.
type RotationStatus struct {
	RotationSettings
	SetBy         string `json:"setBy,omitzero"`
	SetAt         *Time  `json:"setAt,omitzero"`
	State         string `json:"state"` // idle, running, rollingBack, failed, cancelled; unset where only a path rule asks for rotation
	LastRotatedAt *Time  `json:"lastRotatedAt,omitzero"`
	// NextRotationAt stays where it is until a rotation is done: overdue
	// counts from it.
	NextRotationAt *Time     `json:"nextRotationAt,omitzero"`
	NextAttemptAt  *Time     `json:"nextAttemptAt,omitzero"` // of a step, or of a rotation that failed
	Overdue        bool      `json:"overdue"`
	RotationID     string    `json:"rotationId,omitzero"` // of the one on its way
	Step           string    `json:"step,omitzero"`       // create, set, test, finish, tell, rollBack
	PendingVersion *uint64   `json:"pendingVersion,omitzero"`
	Attempts       uint32    `json:"attempts,omitzero"`   // of the step, that failed
	Failures       uint32    `json:"failures,omitzero"`   // rotations in a row
	LastError      string    `json:"lastError,omitzero"`  // of the last attempt, or why the last rotation did not succeed
	Cause          string    `json:"cause,omitzero"`      // why it rolls back
	RulePeriod     *Duration `json:"rulePeriod,omitzero"` // what the path rule asks for
}

// RotateSecretRequest rotates a secret now.
type RotateSecretRequest struct {
	Write
	Path   string `json:"path" doc:"path of the secret"`
	Reason string `json:"reason,omitzero" doc:"kept with the rotation and in the trail, at most 1024 bytes"`
}

// CancelRotationRequest abandons a rotation that is on its way.
type CancelRotationRequest struct {
	Write
	Path   string `json:"path" doc:"path of the secret"`
	Force  bool   `json:"force,omitzero" doc:"end it as it is, without bringing the target back: for one that will never answer"`
	Reason string `json:"reason,omitzero" doc:"kept with the rotation and in the trail, at most 1024 bytes"`
}

// RotationResponse tells where a rotation has come to.
type RotationResponse struct {
	Path           string  `json:"path"`
	RotationID     string  `json:"rotationId,omitzero"`
	State          string  `json:"state"`
	Step           string  `json:"step,omitzero"`
	PendingVersion *uint64 `json:"pendingVersion,omitzero"`
}
