"""MPEG-2 transport streams (ISO/IEC 13818-1): sections, packets, and the tables that lead to EMMs and ECMs."""
