"""Grid'5000's short forms in filters of resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from g5kdeploy.lab.oar import Oar, Refused, Resource
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.oar.inventory import Inventory
from g5kdeploy.lab.oar.shortcuts import expand
from tests.contract.oar_player import FakeTime

DOMAIN = "rennes.grid5000.fr"


def resources() -> list[Resource]:
    """Two clusters of two nodes."""
    names = [f"{cluster}-{number}" for cluster in ("paradoxe", "parasilo") for number in (1, 2)]
    return [
        Resource(
            1 + at,
            "default",
            f"{name}.{DOMAIN}",
            {"cluster": name[:-2], "gpu_count": 0, "wattmeter": "YES", "host": f"{name}.{DOMAIN}"},
        )
        for at, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("short", "written"),
    [
        ("paradoxe", "(cluster='paradoxe')"),
        ("paradoxe-1", f"(host='paradoxe-1.{DOMAIN}')"),
        (f"paradoxe-1.{DOMAIN}", f"(host='paradoxe-1.{DOMAIN}')"),
        ("paradoxe|parasilo-2", f"(cluster='paradoxe') OR (host='parasilo-2.{DOMAIN}')"),
        ("not paradoxe & gpu_count > 0", "not (cluster='paradoxe') AND gpu_count > 0"),
        ("cluster=paradoxe", "cluster='paradoxe'"),
        ("cluster = paradoxe and wattmeter=YES", "cluster = 'paradoxe' and wattmeter='YES'"),
        ("host=paradoxe-1", f"host='paradoxe-1.{DOMAIN}'"),
        ("host='paradoxe-1'", f"host='paradoxe-1.{DOMAIN}'"),
        ("network_address != 'paradoxe-1'", f"network_address != 'paradoxe-1.{DOMAIN}'"),
        ("host in (paradoxe-1, 'parasilo-2')", f"host in ('paradoxe-1.{DOMAIN}', 'parasilo-2.{DOMAIN}')"),
        ("cluster IN (paradoxe, nova)", "cluster IN ('paradoxe', 'nova')"),
    ],
)
def test_short_forms_are_written_out(short: str, written: str) -> None:
    assert expand(short, Inventory(resources(), {})) == written


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "cluster='paradoxe'",
        "(type = 'default') AND (gpu_count > 0 OR host LIKE 'paradoxe-%')",
        f"host in ('paradoxe-1.{DOMAIN}')",
        "cluster='it''s' || 'paradoxe'",
        "gpu_count-1 < 2",
        "nosuch",
        "cluster is not null",
        "cluster = host",
        "cluster ='",
    ],
)
def test_what_is_sql_stays_as_it_is(sql: str) -> None:
    assert expand(sql, Inventory(resources(), {})) == sql


def test_a_site_with_short_forms_takes_them_everywhere(tmp_path: Path) -> None:
    time = FakeTime()
    oar = Oar(tmp_path / "oar.sqlite", resources(), time.clock(), rules=GRID5000)
    try:
        job = oar.submit("jdoe", {"command": "sleep 9", "property": "parasilo", "resource": "{parasilo-2}/nodes=1"})
        assert job.properties == "(((cluster='parasilo')) AND production = 'NO') AND maintenance = 'NO'"
        time.run(oar, 2)
        running = oar.job(job.id)
        assert running and running.nodes == (f"parasilo-2.{DOMAIN}",)
        with pytest.raises(Refused, match='column "nosuch" does not exist'):
            oar.submit("jdoe", {"command": "sleep 9", "property": "nosuch"})
    finally:
        oar.stop()
