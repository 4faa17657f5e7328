package fsm

// Try answers the state that command would make of s, and what would be
// decided about it. It is Apply on a machine of its own: nothing is kept, and
// no other state is touched. It is for questions of the kind "what if".
func (s *State) Try(command Command) (*State, Result, error) {
	encoded, err := Encode(command)
	if err != nil {
		return nil, Result{}, err
	}
	m := &Machine{}
	m.state.Store(s)
	result, err := m.Apply(s.index+1, encoded)
	if err != nil {
		return nil, Result{}, err
	}
	return m.State(), result, nil
}
