"""The probe: runs a script up to where it would train and writes down the parameters it declares. A program; standard library only."""
