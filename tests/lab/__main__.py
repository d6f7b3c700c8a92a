"""The lab by hand: `python -m tests.lab up --scenario NAME` starts a control plane with a scene set, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from tests.lab import batches, build, scenario
from tests.lab.api import ApiClient, ApiError, WaitTimeoutError
from tests.lab.lab import Lab
from tests.lab.processes import LabStartError, alive

RUNNING = platformdirs.user_cache_path("smokejumper", appauthor=False) / "lab" / "running"
STOP_SECONDS = 15.0


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the lab cannot run or the cluster refused, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has. What is left in the buffer has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (build.LabUnavailableError, LabStartError, scenario.UnknownScenarioError, WaitTimeoutError, ApiError, NotRunningError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


class NotRunningError(Exception):
    """No lab was started with `up` on this machine, or not only one."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start a lab and stay until Ctrl-C")
    up.add_argument("--scenario", metavar="NAME", help="set this scene first (see `list`)")
    up.add_argument("--logs", metavar="DIR", type=Path, help="keep the programs' logs in DIR")
    up.set_defaults(run=_up)
    load = commands.add_parser("load", help="set a scene in the lab that runs")
    load.add_argument("scenario", metavar="NAME")
    load.set_defaults(run=_load)
    repair = commands.add_parser("repair", help="apply a scenario's own repair in the lab that runs")
    repair.add_argument("scenario", metavar="NAME")
    repair.set_defaults(run=_repair)
    unload = commands.add_parser("unload", help="delete what a scenario applied in the lab that runs")
    unload.add_argument("scenario", metavar="NAME")
    unload.set_defaults(run=_unload)
    record = commands.add_parser("record", help="play scenarios in a lab of their own and record them into tests/recordings")
    record.add_argument("scenarios", metavar="NAME", nargs="*", help="which; default: all")
    record.set_defaults(run=_record)
    commands.add_parser("down", help="stop the labs that run").set_defaults(run=_down)
    commands.add_parser("list", help="list the scenarios").set_defaults(run=_list)
    commands.add_parser("build", help="build the binaries and say where they are").set_defaults(run=_build)
    return parser


def _up(options: argparse.Namespace) -> int:
    if options.scenario:
        scenario.read(options.scenario)  # an unknown name is told before anything starts
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    binaries = build.find_or_build()
    print(f"lab: starting a control plane {build.kubernetes_version()}", file=sys.stderr, flush=True)
    with Lab(binaries, keep_logs_in=options.logs) as lab, _registered(lab):
        print(f"lab: up in {lab.start_seconds:.1f} s", file=sys.stderr, flush=True)
        _give_roles(lab)
        if options.scenario:
            print(f"lab: setting the scene {options.scenario}", file=sys.stderr, flush=True)
            lab.load(options.scenario)
        print(_invitation(lab, options.scenario), flush=True)
        lab.wait()
    return 0


def _give_roles(lab: Lab) -> None:
    """The accounts that try and write may do all that an installed Smokejumper's may; in tests they hold less until one grants it."""
    from oncall.roles import DRY_RUN, EXECUTOR  # the product is needed for nothing else here
    from tests.lab.granting import grant

    grant(lab, "executor", EXECUTOR, EXECUTOR)
    grant(lab, "dryrun", DRY_RUN, DRY_RUN)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _registered(lab: Lab) -> Iterator[None]:
    """A note for `load` and `down`, gone with the lab."""
    RUNNING.mkdir(parents=True, exist_ok=True)
    note = RUNNING / f"{lab.supervisor_pid}.json"
    facts = {"supervisor": lab.supervisor_pid, "folder": str(lab.folder), "server": lab.server, "token": lab.token("lab:loader")}
    note.touch(mode=0o600)
    note.write_text(json.dumps(facts), "utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _invitation(lab: Lab, name: str | None) -> str:
    """What a person can try now, as it can be pasted into a shell in the repository's root."""
    python, smokejumper = _program(Path(sys.executable).name), _program("smokejumper")
    kubeconfig = lab.supervised_kubeconfig
    lines = ["", f"The kubeconfigs of admin, reader, executor, dryrun, alice and bob alone are in {kubeconfig.parent}"]
    namespace = ""
    if name:
        expect = scenario.read(name).expect
        namespace = f" -n {expect.namespace}"
        lines += ["", f"{name}: {expect.summary}", f"  {expect.question}"]
    lines += ["", "Try, in another terminal:", f"  export KUBECONFIG={shlex.quote(str(kubeconfig))}    # the current context reads"]
    lines += ["  export SMOKEJUMPER_EXECUTOR_CONTEXT=executor SMOKEJUMPER_DRY_RUN_CONTEXT=dryrun"]
    lines += [f"  {smokejumper} diagnose{namespace or ' -A'}"]
    if shutil.which("kubectl"):
        lines += [f"  kubectl get pods{namespace or ' -A'}", f"  kubectl get events{namespace or ' -A'} --sort-by=.lastTimestamp"]
    if name and (remedy := scenario.read(name).expect.remedy):
        action, target, *options = remedy
        words = [action, target, *(() if target.startswith("node/") else ("-n", scenario.read(name).expect.namespace)), *options]
        lines.append(f"  {smokejumper} propose {shlex.join(words)}    # and on as in the README: Fix under supervision")
    if name and scenario.read(name).expect.repair:
        lines.append(f"  {python} -m tests.lab repair {name}    # or the scenario's own repair")
    return "\n".join([*lines, "", "Ctrl-C stops it."])


def _program(name: str) -> str:
    """A program beside this Python, from the folder where this runs: neither need be on anybody's PATH."""
    path = Path(sys.executable).parent / name
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _load(options: argparse.Namespace) -> int:
    with _running() as (client, container_logs):
        scene = scenario.read(options.scenario)
        scenario.load(client, container_logs, (scene,))
        print(f"{scene.name}: {scene.expect.summary}")
    return 0


def _repair(options: argparse.Namespace) -> int:
    with _running() as (client, _):
        scene = scenario.read(options.scenario)
        if scene.expect.repair is None:
            print(f"lab: {scene.name} has no repair", file=sys.stderr)
            return 1
        scenario.repair(client, (scene,))
        print(f"{scene.name}: repaired")
    return 0


def _unload(options: argparse.Namespace) -> int:
    with _running() as (client, _):
        scenario.unload(client, scenario.read(options.scenario))
    return 0


def _record(options: argparse.Namespace) -> int:
    from tests.lab import recorder  # the product's client is needed for nothing else here

    for batch in batches.batches(options.scenarios or scenario.names()):
        with Lab(build.find_or_build()) as lab:
            scenes = lab.load(*(scene.name for scene in batch))
            for scene in scenes:
                asyncio.run(recorder.record(lab, scene, recorder.FOLDER / scene.name))
            faulty = [scene for scene in scenes if scene.expect.repair]
            lab.repair(*faulty)
            for scene in faulty:
                if scene.leaves_something:
                    asyncio.run(recorder.record(lab, scene, recorder.FOLDER / f"{scene.name}-repaired"))
                print(f"recorded {scene.name}", flush=True)
    return 0


@contextlib.contextmanager
def _running() -> Iterator[tuple[ApiClient, Path]]:
    """A loader's client of the one lab that runs, and its folder of container logs. Raises NotRunningError."""
    notes = [json.loads(path.read_text("utf-8")) for path in _notes()]
    if len(notes) != 1:
        raise NotRunningError(
            f"{len(notes)} labs run here and this needs exactly one; start one with `make lab`, stop all with "
            f"`{_program(Path(sys.executable).name)} -m tests.lab down`"
        )
    folder = Path(notes[0]["folder"])
    with ApiClient(notes[0]["server"], notes[0]["token"], folder / "credentials" / "ca.crt") as client:
        yield client, folder / "container-logs"


def _notes() -> list[Path]:
    """The notes of labs that still run; those of labs that do not are removed."""
    found = []
    for path in sorted(RUNNING.glob("*.json")):
        if alive(int(path.stem)) and Path(json.loads(path.read_text("utf-8"))["folder"]).is_dir():
            found.append(path)
        else:
            path.unlink(missing_ok=True)
    return found


def _down(_options: argparse.Namespace) -> int:
    notes = _notes()
    for note in notes:
        os.kill(int(note.stem), signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(alive(int(note.stem)) for note in notes) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = _notes()
    print(f"{len(notes) - len(left)} stopped" + (f", still running: {', '.join(note.stem for note in left)}" if left else ""))
    return 1 if left else 0


def _list(_options: argparse.Namespace) -> int:
    for name in scenario.names():
        print(f"{name:24} {scenario.read(name).expect.summary}", flush=True)
    return 0


def _build(_options: argparse.Namespace) -> int:
    print(build.find_or_build().kube_apiserver.parent)
    print(build.find_or_build_prometheus().parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
