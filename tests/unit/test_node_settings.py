"""What a home's SSH configuration says of a machine."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node.settings import Hop, Settings


def settings(tmp_path: Path, text: str, user: str | None = None) -> Settings:
    (tmp_path / ".ssh").mkdir(exist_ok=True)
    (tmp_path / ".ssh" / "config").write_text(text)
    return Settings(tmp_path, user)


def words(route: tuple[Hop, ...]) -> list[str]:
    return [f"{hop.user}@{hop.host}:{hop.port}" for hop in route]


def test_without_a_configuration_the_name_itself_is_reached(tmp_path: Path) -> None:
    assert words(Settings(tmp_path).route("node-1")) == [f"{getpass.getuser()}@node-1:22"]
    assert words(Settings(tmp_path, "jane").route("node-1", "root")) == ["root@node-1:22"]


def test_the_way_leads_over_every_gateway(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        """
        Host access
          HostName access.example.org
          User jane
        Host front
          Port 2222
          ProxyJump access
        Host *.site
          ProxyJump boss@front:2022
          User nobody
        """,
        "someone",
    )
    assert words(config.route("n1.site", "root")) == [
        "jane@access.example.org:22",
        "boss@front:2022",
        "root@n1.site:22",
    ]
    assert words(config.route("n1.site"))[-1] == "nobody@n1.site:22"
    assert words(config.route("front"))[-1] == "someone@front:2222"


def test_a_list_of_jumps_is_gone_through_in_order(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host n\n ProxyJump ssh://a@one:21,two\nHost two\n ProxyJump elsewhere\n", "u")
    assert words(config.route("n")) == ["a@one:21", "u@two:22", "u@n:22"]


def test_a_pattern_that_covers_its_own_gateway_makes_no_circle(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host *.site\n ProxyJump gate.site\n", "u")
    assert words(config.route("n.site")) == ["u@gate.site:22", "u@n.site:22"]
    assert words(config.route("gate.site")) == ["u@gate.site:22"]


def test_a_circle_is_named(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(InvalidUse, match="a → b → a"):
        config.route("a")


def test_a_jump_to_no_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="gate:port"):
        settings(tmp_path, "Host a\n ProxyJump gate:port\n").route("a")


def test_files_are_those_of_the_home_given(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host *\n IdentityFile ~/.ssh/mine\n UserKnownHostsFile ~/.ssh/hosts %d/.ssh/more\n")
    for name in ("mine", "hosts", "more"):
        (tmp_path / ".ssh" / name).touch()
    (hop,) = config.route("n")
    assert hop.keys == (tmp_path / ".ssh" / "mine",)
    assert hop.known == (tmp_path / ".ssh" / "hosts", tmp_path / ".ssh" / "more")


def test_default_keys_are_those_of_the_home_given(tmp_path: Path) -> None:
    config = settings(tmp_path, "")
    for name in ("id_rsa", "id_ed25519"):
        (tmp_path / ".ssh" / name).touch()
    assert config.route("n")[0].keys == (tmp_path / ".ssh" / "id_ed25519", tmp_path / ".ssh" / "id_rsa")


def test_includes_stand_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / ".ssh" / "more.d").mkdir(parents=True)
    (tmp_path / ".ssh" / "more.d" / "1").write_text("Host n\n User from-include\n")
    config = settings(tmp_path, "Include more.d/*\nInclude ~/.ssh/absent\nHost n\n User from-file\n")
    assert config.route("n")[0].user == "from-include"


def test_a_file_that_includes_itself_is_a_mistake_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="includes itself"):
        settings(tmp_path, "Include config\n").route("n")


def test_a_configuration_that_is_none_is_a_mistake_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="cannot be understood"):
        settings(tmp_path, "Port\n").route("n")
    with pytest.raises(InvalidUse, match="cannot be understood") as caught:
        settings(tmp_path, "Port ssh\n").route("n")
    assert "Port ssh" in caught.value.cause


@pytest.mark.parametrize(("line", "agent"), [("IdentitiesOnly yes", False), ("IdentityAgent none", False), ("", True)])
def test_whether_the_agent_is_asked(tmp_path: Path, line: str, agent: bool) -> None:
    assert settings(tmp_path, f"Host *\n{line}\n").route("n")[0].agent is agent


def test_a_proxy_command_stands_for_the_way(tmp_path: Path) -> None:
    (hop,) = settings(tmp_path, "Host n\n ProxyCommand nc %h %p\n").route("n")
    assert hop.proxy_command == "nc n 22"
    assert settings(tmp_path, "Host n\n ProxyCommand none\n").route("n")[0].proxy_command == ""


def test_blocks_of_other_machines_are_left_out_and_nothing_else_changes(tmp_path: Path) -> None:
    text = """
    User first
    Host n1 n2
      Port 1
    Host n2
      Port 2
    Host !n1 n*
      HostName not-n1
    Host n[12]
      IdentityAgent none
    Host ?3
      Port 3
    Match host n1
      HostName matched
    Match all
      Port 4
    """
    config = settings(tmp_path, text)
    import paramiko

    whole = paramiko.SSHConfig.from_text(text)
    for name in ("n1", "n2", "n3", "n4", "m"):
        assert dict(config._about(name).lookup(name)) == dict(whole.lookup(name))
    assert words(config.route("n1")) == ["first@matched:1"]
    assert words(config.route("n3")) == ["first@not-n1:3"]


def test_a_name_that_no_block_is_about_goes_the_way_of_its_short_form(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        """
        Host g5k
          User jdoe
          HostName access.grid5000.fr
        Host *.g5k
          User jdoe
          ProxyJump g5k
        Host direct.lab.grid5000.fr
          ProxyJump none
        """,
        "someone",
    )
    assert words(config.route("vm-1.lab.grid5000.fr", "root")) == [
        "jdoe@access.grid5000.fr:22",
        "root@vm-1.lab.grid5000.fr:22",
    ]
    assert words(config.route("flab.lab.grid5000.fr"))[-1] == "jdoe@flab.lab.grid5000.fr:22"
    assert words(config.route("direct.lab.grid5000.fr")) == ["someone@direct.lab.grid5000.fr:22"]
    assert words(config.route("access.grid5000.fr")) == ["someone@access.grid5000.fr:22"]
    assert words(config.route("elsewhere.example.org")) == ["someone@elsewhere.example.org:22"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("~/.a/s", "{home}/.a/s"),
        ("%d/s", "{home}/s"),
        ("/run/s", "/run/s"),
        ("$OWN_AGENT", "/run/own"),
        ("SSH_AUTH_SOCK", ""),
        ("none", ""),
    ],
)
def test_where_the_agent_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, where: str) -> None:
    monkeypatch.setenv("OWN_AGENT", "/run/own")
    (hop,) = settings(tmp_path, f"Host *\nIdentityAgent {line}\n").route("n")
    assert hop.agent_socket == (Path(where.format(home=tmp_path)) if where else None)
