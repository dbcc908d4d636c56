"""What the test of the whole headend is made of: its network, the orders drawn, receivers, scrambler, and the judge."""
