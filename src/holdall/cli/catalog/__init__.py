"""The commands on a catalogue: `holdall catalog ...`."""
