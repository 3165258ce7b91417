"""`python -m g5kdeploy`."""

from g5kdeploy.cli.main import process

if __name__ == "__main__":
    raise SystemExit(process())
