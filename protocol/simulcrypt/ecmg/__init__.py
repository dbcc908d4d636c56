"""The ECMG's end of ECMG⇔SCS, without I/O. The messages are declared in `protocol.simulcrypt.ecmg_scs`."""
