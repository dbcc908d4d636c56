"""How bytes are spelled: SimulCrypt, MPEG sections and packets, the portal's messages. Pure."""
