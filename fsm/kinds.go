package fsm

import "fmt"

// Kind answers the number of the command.
func (GenesisCommand) Kind() Kind      { return KindGenesis }
func (CreateSecret) Kind() Kind        { return KindCreateSecret }
func (PutVersion) Kind() Kind          { return KindPutVersion }
func (DestroyVersion) Kind() Kind      { return KindDestroyVersion }
func (CancelDestroy) Kind() Kind       { return KindCancelDestroy }
func (DeleteSecret) Kind() Kind        { return KindDeleteSecret }
func (RestoreSecret) Kind() Kind       { return KindRestoreSecret }
func (CreateKey) Kind() Kind           { return KindCreateKey }
func (SetKeyState) Kind() Kind         { return KindSetKeyState }
func (CreatePrincipal) Kind() Kind     { return KindCreatePrincipal }
func (DeletePrincipal) Kind() Kind     { return KindDeletePrincipal }
func (CreateToken) Kind() Kind         { return KindCreateToken }
func (RevokeToken) Kind() Kind         { return KindRevokeToken }
func (PutPolicy) Kind() Kind           { return KindPutPolicy }
func (DeletePolicy) Kind() Kind        { return KindDeletePolicy }
func (AttachPolicy) Kind() Kind        { return KindAttachPolicy }
func (DetachPolicy) Kind() Kind        { return KindDetachPolicy }
func (PutAccessPolicy) Kind() Kind     { return KindPutAccessPolicy }
func (DeleteAccessPolicy) Kind() Kind  { return KindDeleteAccessPolicy }
func (Sweep) Kind() Kind               { return KindSweep }
func (UpdateKey) Kind() Kind           { return KindUpdateKey }
func (CreateAlias) Kind() Kind         { return KindCreateAlias }
func (UpdateAlias) Kind() Kind         { return KindUpdateAlias }
func (DeleteAlias) Kind() Kind         { return KindDeleteAlias }
func (RotateKey) Kind() Kind           { return KindRotateKey }
func (SetKeyRotation) Kind() Kind      { return KindSetKeyRotation }
func (ScheduleKeyDeletion) Kind() Kind { return KindScheduleKeyDeletion }
func (CancelKeyDeletion) Kind() Kind   { return KindCancelKeyDeletion }
func (SetImportKey) Kind() Kind        { return KindSetImportKey }
func (ImportMaterial) Kind() Kind      { return KindImportMaterial }
func (ReserveSeals) Kind() Kind        { return KindReserveSeals }
func (RecordKeyUse) Kind() Kind        { return KindRecordKeyUse }
func (RetireKey) Kind() Kind           { return KindRetireKey }
func (CreateJob) Kind() Kind           { return KindCreateJob }
func (SetJobState) Kind() Kind         { return KindSetJobState }
func (RewrapVersions) Kind() Kind      { return KindRewrapVersions }
func (KeepCurrent) Kind() Kind         { return KindKeepCurrent }
func (StartRootRotation) Kind() Kind   { return KindStartRootRotation }
func (SwitchRoot) Kind() Kind          { return KindSwitchRoot }
func (RewrapKeys) Kind() Kind          { return KindRewrapKeys }
func (RemoveRoot) Kind() Kind          { return KindRemoveRoot }
func (SetVersionLabel) Kind() Kind     { return KindSetVersionLabel }
func (RemoveVersionLabel) Kind() Kind  { return KindRemoveVersionLabel }
func (SetVersionState) Kind() Kind     { return KindSetVersionState }
func (NoteExpiry) Kind() Kind          { return KindNoteExpiry }
func (OpenLedger) Kind() Kind          { return KindOpenLedger }
func (Observe) Kind() Kind             { return KindObserve }
func (SettleLedger) Kind() Kind        { return KindSettleLedger }
func (UpdateSecret) Kind() Kind        { return KindUpdateSecret }
func (CopySecret) Kind() Kind          { return KindCopySecret }
func (PutPathRule) Kind() Kind         { return KindPutPathRule }
func (DeletePathRule) Kind() Kind      { return KindDeletePathRule }
func (StartRotation) Kind() Kind       { return KindStartRotation }
func (AdvanceRotation) Kind() Kind     { return KindAdvanceRotation }
func (RetryRotation) Kind() Kind       { return KindRetryRotation }
func (EndRotation) Kind() Kind         { return KindEndRotation }
func (CancelRotation) Kind() Kind      { return KindCancelRotation }
func (CreateGroup) Kind() Kind         { return KindCreateGroup }
func (DeleteGroup) Kind() Kind         { return KindDeleteGroup }
func (AddToGroup) Kind() Kind          { return KindAddToGroup }
func (RemoveFromGroup) Kind() Kind     { return KindRemoveFromGroup }
func (RollbackPolicy) Kind() Kind      { return KindRollbackPolicy }

func (AnchorHeads) Kind() Kind    { return KindAnchorHeads }
func (AddCosignature) Kind() Kind { return KindAddCosignature }

func (SetNode) Kind() Kind      { return KindSetNode }
func (AdmitNode) Kind() Kind    { return KindAdmitNode }
func (SetJoinToken) Kind() Kind { return KindSetJoinToken }
func (PutAutopilot) Kind() Kind { return KindPutAutopilot }
func (StartAnew) Kind() Kind    { return KindStartAnew }
func (SetVote) Kind() Kind      { return KindSetVote }

func (PutRateLimit) Kind() Kind    { return KindPutRateLimit }
func (DeleteRateLimit) Kind() Kind { return KindDeleteRateLimit }
func (RequestApproval) Kind() Kind { return KindRequestApproval }
func (DecideApproval) Kind() Kind  { return KindDecideApproval }
func (UseApproval) Kind() Kind     { return KindUseApproval }

func (OpenBreakGlass) Kind() Kind   { return KindOpenBreakGlass }
func (CloseBreakGlass) Kind() Kind  { return KindCloseBreakGlass }
func (NoteGlassRead) Kind() Kind    { return KindNoteGlassRead }
func (ReviewBreakGlass) Kind() Kind { return KindReviewBreakGlass }

func (PutDetectors) Kind() Kind        { return KindPutDetectors }
func (QuarantinePrincipal) Kind() Kind { return KindQuarantinePrincipal }
func (ReleasePrincipal) Kind() Kind    { return KindReleasePrincipal }
func (SetCanary) Kind() Kind           { return KindSetCanary }
func (MarkCompromised) Kind() Kind     { return KindMarkCompromised }

func (c GenesisCommand) meta() Meta      { return c.Meta }
func (c CreateSecret) meta() Meta        { return c.Meta }
func (c PutVersion) meta() Meta          { return c.Meta }
func (c DestroyVersion) meta() Meta      { return c.Meta }
func (c CancelDestroy) meta() Meta       { return c.Meta }
func (c DeleteSecret) meta() Meta        { return c.Meta }
func (c RestoreSecret) meta() Meta       { return c.Meta }
func (c CreateKey) meta() Meta           { return c.Meta }
func (c SetKeyState) meta() Meta         { return c.Meta }
func (c CreatePrincipal) meta() Meta     { return c.Meta }
func (c DeletePrincipal) meta() Meta     { return c.Meta }
func (c CreateToken) meta() Meta         { return c.Meta }
func (c RevokeToken) meta() Meta         { return c.Meta }
func (c PutPolicy) meta() Meta           { return c.Meta }
func (c DeletePolicy) meta() Meta        { return c.Meta }
func (c AttachPolicy) meta() Meta        { return c.Meta }
func (c DetachPolicy) meta() Meta        { return c.Meta }
func (c PutAccessPolicy) meta() Meta     { return c.Meta }
func (c DeleteAccessPolicy) meta() Meta  { return c.Meta }
func (c Sweep) meta() Meta               { return c.Meta }
func (c UpdateKey) meta() Meta           { return c.Meta }
func (c CreateAlias) meta() Meta         { return c.Meta }
func (c UpdateAlias) meta() Meta         { return c.Meta }
func (c DeleteAlias) meta() Meta         { return c.Meta }
func (c RotateKey) meta() Meta           { return c.Meta }
func (c SetKeyRotation) meta() Meta      { return c.Meta }
func (c ScheduleKeyDeletion) meta() Meta { return c.Meta }
func (c CancelKeyDeletion) meta() Meta   { return c.Meta }
func (c SetImportKey) meta() Meta        { return c.Meta }
func (c ImportMaterial) meta() Meta      { return c.Meta }
func (c ReserveSeals) meta() Meta        { return c.Meta }
func (c RecordKeyUse) meta() Meta        { return c.Meta }
func (c RetireKey) meta() Meta           { return c.Meta }
func (c CreateJob) meta() Meta           { return c.Meta }
func (c SetJobState) meta() Meta         { return c.Meta }
func (c RewrapVersions) meta() Meta      { return c.Meta }
func (c KeepCurrent) meta() Meta         { return c.Meta }
func (c StartRootRotation) meta() Meta   { return c.Meta }
func (c SwitchRoot) meta() Meta          { return c.Meta }
func (c RewrapKeys) meta() Meta          { return c.Meta }
func (c RemoveRoot) meta() Meta          { return c.Meta }
func (c SetVersionLabel) meta() Meta     { return c.Meta }
func (c RemoveVersionLabel) meta() Meta  { return c.Meta }
func (c SetVersionState) meta() Meta     { return c.Meta }
func (c NoteExpiry) meta() Meta          { return c.Meta }
func (c OpenLedger) meta() Meta          { return c.Meta }
func (c Observe) meta() Meta             { return c.Meta }
func (c SettleLedger) meta() Meta        { return c.Meta }
func (c UpdateSecret) meta() Meta        { return c.Meta }
func (c CopySecret) meta() Meta          { return c.Meta }
func (c PutPathRule) meta() Meta         { return c.Meta }
func (c DeletePathRule) meta() Meta      { return c.Meta }
func (c StartRotation) meta() Meta       { return c.Meta }
func (c AdvanceRotation) meta() Meta     { return c.Meta }
func (c RetryRotation) meta() Meta       { return c.Meta }
func (c EndRotation) meta() Meta         { return c.Meta }
func (c CancelRotation) meta() Meta      { return c.Meta }
func (c CreateGroup) meta() Meta         { return c.Meta }
func (c DeleteGroup) meta() Meta         { return c.Meta }
func (c AddToGroup) meta() Meta          { return c.Meta }
func (c RemoveFromGroup) meta() Meta     { return c.Meta }
func (c RollbackPolicy) meta() Meta      { return c.Meta }
func (c PutRateLimit) meta() Meta        { return c.Meta }
func (c DeleteRateLimit) meta() Meta     { return c.Meta }

func (c AnchorHeads) meta() Meta    { return c.Meta }
func (c AddCosignature) meta() Meta { return c.Meta }

func (c SetNode) meta() Meta      { return c.Meta }
func (c AdmitNode) meta() Meta    { return c.Meta }
func (c SetJoinToken) meta() Meta { return c.Meta }
func (c PutAutopilot) meta() Meta { return c.Meta }
func (c StartAnew) meta() Meta    { return c.Meta }
func (c SetVote) meta() Meta      { return c.Meta }

func (c RequestApproval) meta() Meta { return c.Meta }
func (c DecideApproval) meta() Meta  { return c.Meta }
func (c UseApproval) meta() Meta     { return c.Meta }

func (c OpenBreakGlass) meta() Meta   { return c.Meta }
func (c CloseBreakGlass) meta() Meta  { return c.Meta }
func (c NoteGlassRead) meta() Meta    { return c.Meta }
func (c ReviewBreakGlass) meta() Meta { return c.Meta }

func (c PutDetectors) meta() Meta        { return c.Meta }
func (c QuarantinePrincipal) meta() Meta { return c.Meta }
func (c ReleasePrincipal) meta() Meta    { return c.Meta }
func (c SetCanary) meta() Meta           { return c.Meta }
func (c MarkCompromised) meta() Meta     { return c.Meta }

// entry is what the machine knows about one kind: how to read it and how to
// decide it.
type entry struct {
	kind   Kind
	decode func(payload []byte) (change, error)
	// level is the feature level that introduced the kind, 0: FirstLevel.
	level   uint32
	growths []growth
}

// change is one decoded command with the function that decides it.
type change struct {
	command Command
	meta    Meta
	level   uint32 // that it needs
	apply   func(t *txn) (Result, *Refusal)
}

// kinds is the table of all kinds, fixed when the program starts.
var kinds = register(append(rehearsed,
	kind(applyGenesis),
	kind(createSecret),
	kind(putVersion),
	kind(destroyVersion),
	kind(cancelDestroy),
	kind(deleteSecret),
	kind(restoreSecret),
	kind(createKey),
	kind(setKeyState),
	kind(createPrincipal),
	kind(deletePrincipal),
	kind(createToken),
	kind(revokeToken),
	kind(putPolicy),
	kind(deletePolicy),
	kind(attachPolicy),
	kind(detachPolicy),
	kind(putAccessPolicy),
	kind(deleteAccessPolicy),
	kind(sweep),
	kind(updateKey),
	kind(createAlias),
	kind(updateAlias),
	kind(deleteAlias),
	kind(rotateKey),
	kind(setKeyRotation),
	kind(scheduleKeyDeletion),
	kind(cancelKeyDeletion),
	kind(setImportKey),
	kind(importMaterial),
	kind(reserveSeals),
	kind(recordKeyUse),
	kind(retireKey),
	kind(createJob),
	kind(setJobState),
	kind(rewrapVersions),
	kind(keepCurrent),
	kind(startRootRotation),
	kind(switchRoot),
	kind(rewrapKeys),
	kind(removeRoot),
	kind(setVersionLabel),
	kind(removeVersionLabel),
	kind(setVersionState),
	kind(updateSecret),
	kind(noteExpiry),
	kind(openLedger),
	kind(observe),
	kind(settleLedger),
	kind(copySecret),
	kind(putPathRule),
	kind(deletePathRule),
	kind(startRotation),
	kind(advanceRotation),
	kind(retryRotation),
	kind(endRotation),
	kind(cancelRotation),
	kind(createGroup),
	kind(deleteGroup),
	kind(addToGroup),
	kind(removeFromGroup),
	kind(rollbackPolicy),
	kind(putRateLimit),
	kind(deleteRateLimit),

	kind(createAccessKey),
	kind(deleteAccessKey),
	kind(revokeTokens),
	kind(recordCredentialUse),
	kind(putTrust),
	kind(deleteTrust),
	kind(login),
	kind(requestApproval),
	kind(decideApproval),
	kind(useApproval),

	kind(openBreakGlass),
	kind(closeBreakGlass),
	kind(noteGlassRead),
	kind(reviewBreakGlass),
	kind(putDetectors),
	kind(quarantinePrincipal),
	kind(releasePrincipal),
	kind(setCanary),
	kind(markCompromised),

	kind(anchorHeads),
	kind(addCosignature),

	kind(setNode),
	kind(admitNode),
	kind(setJoinToken),
	kind(putAutopilot),
	kind(startAnew),
	kind(setVote),

	kind(raiseLevel).from(FirstLevel),
	kind(recoverCluster),
	kind(tellRecovery),
)...)

// kind makes the entry of a command type from the function that decides it.
func kind[C interface {
	Command
	meta() Meta
}](apply func(t *txn, c C) (Result, *Refusal)) entry {
	var zero C
	return entry{
		kind: zero.Kind(),
		decode: func(payload []byte) (change, error) {
			var c C
			if err := codec.dec.Unmarshal(payload, &c); err != nil {
				return change{}, err
			}
			return change{
				command: c,
				meta:    c.meta(),
				apply:   func(t *txn) (Result, *Refusal) { return apply(t, c) },
			}, nil
		},
	}
}

// register builds the table. Two entries with one number would let two
// builds read one log in two ways, so it panics, before anything is served.
func register(entries ...entry) map[Kind]entry {
	table := make(map[Kind]entry, len(entries))
	for _, e := range entries {
		if _, taken := table[e.kind]; taken || e.kind == 0 {
			panic(fmt.Sprintf("fsm: kind %d is registered twice or is zero", e.kind))
		}
		table[e.kind] = e
	}
	return table
}
