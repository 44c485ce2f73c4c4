"""Links that enable units: those that a signed unit file calls for, no others, and for a declared unit all of them."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence

import pytest

from respin.policy.unitlinks import is_unit_link, judge_unit_links
from respin.root.delta import Attributes, Change, Delta, Entry, Kind

ETC, LIB = "/etc/systemd/system", "/usr/lib/systemd/system"
AGENT = "[Unit]\nDescription=x\n[Install]\nWantedBy=multi-user.target\n"
WANTED = f"{ETC}/multi-user.target.wants"


class Root:
    """A root of texts and links: a path and what stands there, or where it leads."""

    def __init__(self, files: Dict[str, str]) -> None:
        self.files = files
        self.view = SimpleNamespace(name="root")

    def lookup(self, path: str) -> Any:
        if path not in self.files:
            return None
        link = self.files[path].startswith(("/", "."))
        mode = stat.S_IFLNK if link else stat.S_IFREG
        return SimpleNamespace(mode=mode, is_file=not link, text=self.files[path])

    def readlink(self, inode: Any) -> str:
        return str(inode.text)

    def read(self, inode: Any, _limit: int) -> bytes:
        return str(inode.text).encode()


def found(
    units: Dict[str, str], links: Dict[str, str], declared: Sequence[str], *, shipped: Sequence[str] = ()
) -> List[str]:
    """Findings on links that a scriptlet made, by path; the plugin brings ``units`` and the links ``shipped``."""
    signed = {path if path[0] == "/" else f"{LIB}/{path}": text for path, text in units.items()}
    entry = SimpleNamespace(is_ghost=False)
    files = {path: SimpleNamespace(entry=entry) for path in (*signed, *shipped)}
    vendor: Any = Root({f"{LIB}/vendors.service": "[Unit]\n", "/lib": "/usr/lib"})
    plan: Any = SimpleNamespace(node=SimpleNamespace(root=vendor), files=files, declared=lambda effect: declared)
    after: Any = Root({**vendor.files, **signed, **links})
    made = [
        Entry(path, Change.ADDED, Attributes(Kind.SYMLINK, 0o777, 0, 0, 0, target=target))
        for path, target in sorted(links.items())
        if path not in shipped
    ]
    refused = [entry.path for entry in made if not is_unit_link(entry, plan)]
    judged = judge_unit_links(plan, Delta(tuple(made)), after)
    return sorted([*refused, *(f"{one.id} {one.place}" for one in judged)])


@pytest.mark.parametrize(
    "target",
    [f"{LIB}/agent.service", "/lib/systemd/system/agent.service", "../../../../usr/lib/systemd/system/agent.service"],
)
def test_a_unit_that_is_enabled_as_its_file_says(target: str) -> None:
    assert found({"agent.service": AGENT}, {f"{WANTED}/agent.service": target}, ["agent.service"]) == []


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{WANTED}/agent.service", "/var/tmp/agent.service"),
        (f"{WANTED}/agent.service", "agent.service"),
        (f"{WANTED}/agent.service", f"{LIB}/vendors.service"),
        (f"{ETC}/vendors.service", f"{LIB}/agent.service"),
        (f"{ETC}/multi-user.target.d/agent.service", f"{LIB}/agent.service"),
    ],
)
def test_a_link_to_something_else_than_the_declared_unit(path: str, target: str) -> None:
    """systemd goes by the link's name; what lies at its target once the Node runs would be another unit."""
    assert path in found({"agent.service": AGENT}, {path: target}, ["agent.service"])


@pytest.mark.parametrize(
    "folder",
    ["vendors.service.requires", "shutdown.target.wants", "multi-user.target.requires", "multi-user.target.upholds"],
)
def test_a_unit_that_is_pulled_in_by_what_its_file_does_not_name(folder: str) -> None:
    links = {f"{ETC}/{one}/agent.service": f"{LIB}/agent.service" for one in ("multi-user.target.wants", folder)}
    said = found({"agent.service": AGENT}, links, ["agent.service"])
    assert said == [f"undeclared-effect {ETC}/{folder}/agent.service"]


def test_a_declared_unit_that_is_not_enabled() -> None:
    units = {
        "agent.service": AGENT + "RequiredBy=one.target two.target\nAlias=own.service vendors.service own.socket\n"
    }
    links = [
        f"{one}/agent.service" for one in ("multi-user.target.wants", "one.target.requires", "two.target.requires")
    ]
    assert found(units, {}, ["agent.service"]) == sorted(
        f"effect-mismatch {ETC}/{link}" for link in (*links, "own.service")
    )
    assert found(units, {}, []) == [], "a unit that nobody says is enabled"


def test_a_unit_that_its_package_links() -> None:
    path = f"{LIB}/multi-user.target.wants/agent.service"
    assert found({"agent.service": AGENT}, {path: "../agent.service"}, ["agent.service"], shipped=[path]) == []
    assert found({"agent.service": "[Service]\n"}, {path: "../agent.service"}, ["agent.service"], shipped=[path]) == []


def test_units_that_are_enabled_with_another_one() -> None:
    units = {
        "agent.service": AGENT + "Also=agent.socket\n",
        "agent.socket": "[Install]\nWantedBy=sockets.target\nUpheldBy=x.target\n",
    }
    links = {
        f"{WANTED}/agent.service": f"{LIB}/agent.service",
        f"{ETC}/sockets.target.wants/agent.socket": f"{LIB}/agent.socket",
    }
    assert found(units, links, ["agent.service", "agent.socket"]) == []
    assert f"{ETC}/sockets.target.wants/agent.socket" in found(units, links, ["agent.service"]), "it is not declared"
    upheld = {**links, f"{ETC}/x.target.upholds/agent.socket": f"{LIB}/agent.socket"}
    assert found(units, upheld, ["agent.service", "agent.socket"]) == []


def test_aliases() -> None:
    units = {"agent.service": "[Install]\nAlias=dbus-org.example.agent.service\n"}
    links = {f"{ETC}/dbus-org.example.agent.service": f"{LIB}/agent.service"}
    assert found(units, links, ["agent.service"]) == []
    more = {**links, f"{ETC}/display-manager.service": f"{LIB}/agent.service"}
    assert found(units, more, ["agent.service"]) == [f"undeclared-effect {ETC}/display-manager.service"]


def test_templates() -> None:
    units = {"agent@.service": "[Install]\nWantedBy=multi-user.target slot@%i.target\nDefaultInstance=first\n"}
    target = f"{LIB}/agent@.service"

    def links(instance: str) -> Dict[str, str]:
        folders = ("multi-user.target.wants", f"slot@{instance}.target.wants")
        return {f"{ETC}/{folder}/agent@{instance}.service": target for folder in folders}

    assert found(units, links("eth0"), ["agent@eth0.service"]) == []
    assert found(units, links("first"), ["agent@.service"]) == [], "its default instance"
    assert len(found(units, {**links("first"), **links("eth0")}, ["agent@.service"])) == 2, "any other has to be named"
    assert len(found(units, {}, ["agent@eth0.service"])) == 2
    assert found({"agent@.service": AGENT}, {}, ["agent@.service"]) == [], "there is nothing that could be enabled"


def test_what_drop_ins_of_the_plugin_say() -> None:
    units = {
        "agent.service": AGENT,
        f"{LIB}/agent.service.d/10.conf": "[Install]\nWantedBy=\nWantedBy=\\\n  late.target\n",
    }
    links = {f"{ETC}/late.target.wants/agent.service": f"{LIB}/agent.service"}
    assert found(units, links, ["agent.service"]) == []
