package iam

// LookedAt answers how many statements a decision about q looks at.
func LookedAt(s *PolicySet, q Question) int { return len(s.candidates(&q, nil)) }
