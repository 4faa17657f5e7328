package fsm

// TimeWindow is a recurring window, as it was written.
type TimeWindow struct {
	Days     []string `cbor:"1,keyasint,omitempty"`
	From     string   `cbor:"2,keyasint,omitempty"`
	To       string   `cbor:"3,keyasint,omitempty"`
	Timezone string   `cbor:"4,keyasint,omitempty"`
}

func checkWindows(field string, in []TimeWindow) *Refusal { return nil }
