"""ECMs for scramblers: the server of ECMG⇔SCS around `protocol.simulcrypt.ecmg`."""
