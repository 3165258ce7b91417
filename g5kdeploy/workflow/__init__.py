"""The phases of a run as plain functions over typed requests; resumable; knows no click and no terminal."""
