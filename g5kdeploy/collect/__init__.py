"""What comes back: metrics, logs, files, the site's own measurements."""

from g5kdeploy.collect.fetch import Files, fetch_console, fetch_files, fetch_journal
from g5kdeploy.collect.samples import write_parquet
from g5kdeploy.collect.scrape import (
    Fetched,
    Scraper,
    fetch_samples,
    scrape_now,
    start_scraper,
    stop_scraper,
)
from g5kdeploy.collect.workload import Outcome, Workload, WorkloadResult, follow, start_workload, stop_workload

__all__ = [
    "Fetched",
    "Files",
    "Outcome",
    "Scraper",
    "Workload",
    "WorkloadResult",
    "fetch_console",
    "fetch_files",
    "fetch_journal",
    "fetch_samples",
    "follow",
    "scrape_now",
    "start_scraper",
    "start_workload",
    "stop_scraper",
    "stop_workload",
    "write_parquet",
]
