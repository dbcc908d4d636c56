"""What all commands share: options, the daemon's socket, output, exit codes."""
