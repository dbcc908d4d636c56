"""DVB SimulCrypt, ETSI TS 103 197: messages declared once, sessions without I/O."""
