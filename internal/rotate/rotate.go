// Package rotate brings rotated values into force: in PostgreSQL, MySQL and
// MariaDB, and at whoever listens to a webhook. It is the way out of the
// engine as package api is the way in, and the only importer of drivers.
package rotate

import (
	"github.com/strongroom/strongroom/engine"
)

// Config says where rotations may go.
type Config struct {
	// WebhookAllow and DatabaseAllow are the hosts that settings may name:
	// "hooks.example.com", "*.db.example.com", each with ":port" unless it is
	// the usual one. Nothing is allowed that is not listed.
	WebhookAllow  []string
	DatabaseAllow []string
	// ClusterID is told to receivers of webhooks.
	ClusterID string
}

// New answers the rotators by kind.
func New(cfg Config) map[string]engine.Rotator {
	databases := guard{allow: cfg.DatabaseAllow, setting: "rotation.databaseAllow"}
	return map[string]engine.Rotator{
		"postgresql": &database{guard: databases, engine: "postgresql", usualPort: "5432", server: postgres{}},
		"mysql":      &database{guard: databases, engine: "mysql", usualPort: "3306", server: mysql{}},
		"webhook":    &webhook{guard: guard{allow: cfg.WebhookAllow, setting: "rotation.webhookAllow"}, clusterID: cfg.ClusterID},
	}
}
