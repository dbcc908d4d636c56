"""The demo's world around the headend: a multiplexer with its transport stream, and a receiver that listens to it."""
