"""Real servers, each on a free port of loopback, for as long as its tests run."""
