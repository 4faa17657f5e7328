package main

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func hangUp(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
}

func TestHangupEndsACommandThatHasNotTakenIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ctx, stop := withHangups(ctx, cancel)
	defer stop()
	hangUp(t)
	<-ctx.Done()
}

func TestHangupReachesTheCommandThatHasTakenIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ctx, stop := withHangups(ctx, cancel)
	defer stop()
	reload := takeHangups(ctx)
	for range 3 {
		hangUp(t)
		<-reload
	}
	require.NoError(t, ctx.Err(), "it ends nothing")
}

func TestWithoutHangupsNothingComes(t *testing.T) {
	require.Nil(t, takeHangups(t.Context()))
}
