"""Transport streams that go out from here: what goes into which packet and when, and the UDP or RTP that carries it."""
