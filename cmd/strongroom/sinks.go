package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/sink"
)

// maxSinkSecret bounds the files of keys and tokens of sinks.
const maxSinkSecret = 16 << 10

// sinkConfig describes the sinks to their package, which does not know the
// configuration.
func sinkConfig(cfg config.Config, trail *audit.Trail, log *slog.Logger, reg prometheus.Registerer) sink.Config {
	out := sink.Config{
		Trail: trail, Dir: filepath.Join(cfg.Node.DataDir, "sinks"),
		Logger: log.With("floor", "sink"), Registerer: reg, Stdout: os.Stdout,
		Secret: func(path string) ([]byte, error) { return config.ReadSecret(path, maxSinkSecret) },
	}
	for _, s := range cfg.Audit.Sinks {
		out.Sinks = append(out.Sinks, sink.Settings{
			Name: s.Name, Type: s.Type, Format: s.Format, Events: s.Events, Outcomes: s.Outcomes, Newest: s.Start == "newest",
			BatchEvents: s.BatchEvents, BatchBytes: s.BatchBytes, BatchTime: s.BatchTime.D(),
			Path: s.Path, MaxBytes: s.MaxBytes, Keep: s.Keep,
			Address: s.Address, Facility: s.Facility, AppName: s.AppName, EnterpriseNumber: s.EnterpriseNumber,
			URL: s.URL, SigningKeyFile: s.SigningKeyFile, AuthorizationFile: s.AuthorizationFile,
			CAFile: s.CAFile, ClientCertFile: s.ClientCertFile, ClientKeyFile: s.ClientKeyFile, Timeout: s.Timeout.D(),
		})
	}
	return out
}
