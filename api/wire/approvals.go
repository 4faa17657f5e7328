package wire

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/internal/secret"
)

// Object is the body of another request. It may hold plaintext, so it is kept
// and wiped like a Value.
type Object struct{ secret.Bytes }

// NewObject takes ownership of the JSON text of an object.
func NewObject(text []byte) *Object { return &Object{secret.New(text)} }

// MarshalJSONTo writes the object as it is.
func (o Object) MarshalJSONTo(e *jsontext.Encoder) error { return e.WriteValue(o.Expose()) }

// UnmarshalJSONFrom takes any JSON object. What is in it is checked once it is
// known whose body it is.
func (o *Object) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	text, err := d.ReadValue()
	if err != nil {
		return err
	}
	if text.Kind() != '{' {
		return fieldError("must be the JSON object that the operation takes")
	}
	o.Bytes = secret.New([]byte(text.Clone()))
	return nil
}

// RequestApprovalRequest asks others to approve one exact request.
type RequestApprovalRequest struct {
	Write
	Operation string  `json:"operation" doc:"the operation, such as secrets/destroyVersion"`
	Request   *Object `json:"request" doc:"its body, exactly as it will be sent; clientToken and consistency may differ"`
	Reason    string  `json:"reason" doc:"why, for those who decide; at most 1024 bytes"`
}

// ApproveRequest approves a request of somebody else.
type ApproveRequest struct {
	Write
	ApprovalID string `json:"approvalId" doc:"as requestApproval or listApprovals answers it"`
	Comment    string `json:"comment,omitzero" doc:"kept with the approval, at most 1024 bytes"`
}

// EndApprovalRequest denies a request of somebody else, or takes one's own
// back.
type EndApprovalRequest struct {
	Write
	ApprovalID string `json:"approvalId" doc:"as requestApproval or listApprovals answers it"`
	Reason     string `json:"reason,omitzero" doc:"kept with the request, at most 1024 bytes"`
}

// DescribeApprovalRequest names a request for approval.
type DescribeApprovalRequest struct {
	ApprovalID  string       `json:"approvalId" doc:"as requestApproval or listApprovals answers it"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListApprovalsRequest lists requests for approval.
type ListApprovalsRequest struct {
	Page
	State       string       `json:"state,omitzero" doc:"pending, approved, denied, used, expired or withdrawn (default all)"`
	Mine        bool         `json:"mine,omitzero" doc:"only those that the caller made"`
	ForMe       bool         `json:"forMe,omitzero" doc:"only those that wait for the caller to decide"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListApprovalsResponse is ordered by id.
type ListApprovalsResponse struct {
	Approvals  []ApprovalResponse `json:"approvals"`
	NextCursor string             `json:"nextCursor,omitzero"`
}

// ApprovalResponse is a request for approval.
type ApprovalResponse struct {
	ApprovalID string `json:"approvalId"`
	// State is pending, approved, denied, used, expired or withdrawn. From
	// ExpiresAt on an approval cannot be used.
	State     string `json:"state"`
	ExpiresAt *Time  `json:"expiresAt,omitzero"`
	Principal string `json:"principal"` // who asks
	Operation string `json:"operation"`
	Action    string `json:"action"` // that a policy holds back
	Path      string `json:"path,omitzero"`
	KeyID     string `json:"keyId,omitzero"`
	Version   uint64 `json:"version,omitzero"`
	Subject   string `json:"subject,omitzero"`
	// Request is the body as JSON text, in which every value is hidden.
	Request   string          `json:"request"`
	Reason    string          `json:"reason"`
	Needs     []ApprovalNeed  `json:"needs"`
	Approvals []ApprovalGiven `json:"approvals"`
	CreatedAt *Time           `json:"createdAt,omitzero"`
	// EndedAt is when it was used first, denied, withdrawn, or had expired.
	EndedAt   *Time  `json:"endedAt,omitzero"`
	EndedBy   string `json:"endedBy,omitzero"`
	EndReason string `json:"endReason,omitzero"`
}

// ApprovalNeed is what one statement asks for: Count different people of those
// it names; of anybody who may approve, if it names none.
type ApprovalNeed struct {
	Policy     string    `json:"policy"`
	Statement  int       `json:"statement"`
	Count      int       `json:"count"`
	Given      int       `json:"given"`
	Principals []string  `json:"principals,omitzero"`
	Groups     []string  `json:"groups,omitzero"`
	ValidFor   *Duration `json:"validFor,omitzero"`
}

// ApprovalGiven is the approval of one person.
type ApprovalGiven struct {
	Principal string `json:"principal"`
	At        *Time  `json:"at,omitzero"`
	Comment   string `json:"comment,omitzero"`
}
