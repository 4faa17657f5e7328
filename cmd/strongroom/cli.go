package main

import "github.com/spf13/cobra"

func addClientCommands(*cobra.Command) {}
