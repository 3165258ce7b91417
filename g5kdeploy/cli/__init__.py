"""click only: parse, ask, print. One module a command; imports the rest lazily."""
