"""The portal's end of the line: a client that keeps each command until its answer has come. No part of the daemon."""
