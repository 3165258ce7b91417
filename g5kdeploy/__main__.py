"""`python -m g5kdeploy`."""

from g5kdeploy.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
