"""A test script in the NixOS test driver's words, on local machines or on any set of nodes."""
