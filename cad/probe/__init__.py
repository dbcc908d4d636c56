"""The probe: reads a transport stream as a receiver would, and says what receivers really get."""
