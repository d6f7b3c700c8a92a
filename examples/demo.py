"""The whole path on a recorded incident: diagnose, propose, be refused, approve as another person, rehearse, audit, tamper, be caught.

Runs the real command line over `examples/serve-rollout`, which was recorded in our lab, in a temporary state folder. It needs no
cluster and no network. It ends with an error when any step does not behave as it says.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import shlex
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from oncall.cli import run

RECORDING = Path(__file__).parent / "serve-rollout"
TOKEN = "SMOKEJUMPER_TOKEN"
RULE = "─" * 100


class Demo:
    """The steps over one state folder."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._step = 0

    def say(self, text: str) -> None:
        """The heading of a step."""
        self._step += 1
        print(f"\n{RULE}\n{self._step}. {text}\n", flush=True)

    def smokejumper(self, *arguments: str, token: str | None = None, want: int = 0, quiet: bool = False, state: Path | None = None) -> str:
        """Run one command line, show it with what it printed, and return that. Ends the demo when the exit code is another."""
        words = ("--state", str(state or self._state), *arguments)
        shown = f"{TOKEN}=… " if token else ""
        print(f"{shown}$ smokejumper {shlex.join(arguments)}", flush=True)
        printed = io.StringIO()
        os.environ.pop(TOKEN, None)
        if token:
            os.environ[TOKEN] = token
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = run(list(words))
        os.environ.pop(TOKEN, None)
        text = printed.getvalue()
        if not quiet:
            print(text, flush=True)
        if code != want:
            sys.exit(f"the demo expected exit code {want} of this step and got {code}:\n{text}")
        return text


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="smokejumper-demo-"))
    try:
        _walk(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _walk(folder: Path) -> None:
    recording = os.path.relpath(RECORDING)
    demo = Demo(folder / "state")
    demo.say("What broke? (A model server's rollout; bystanders look guilty: an old failed job, a cordoned node, restarts of last week.)")
    demo.smokejumper("diagnose", "--recording", recording, "--question", "the rollout of our model server is stuck")

    demo.say("Two people: alice, who asks from this account, and bob. Each gets a token, shown once.")
    demo.smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser(), quiet=True)
    token = demo.smokejumper("people", "add", "bob", "--group", "sre-oncall", quiet=True).split()[0]
    demo.smokejumper("people", "list")

    demo.say("alice proposes the fix. The policy wants one approval of somebody else.")
    undo = ("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--to-revision", "1", "--recording", recording)
    proposed = demo.smokejumper(*undo, "--reason", "the new tag does not exist")
    proposal = proposed.split()[0]
    digest = next(line.split()[1] for line in proposed.splitlines() if line.split()[:1] == ["digest"])

    demo.say("Nobody has approved: execution is refused, and so is an approval with a wrong digest or a made-up token.")
    demo.smokejumper("execute", proposal, "--recording", recording, want=2)
    demo.smokejumper("approve", proposal, "--digest", "0" * 64, token=token, want=2)
    demo.smokejumper("approve", proposal, "--digest", digest, token="sj_made-up", want=2)

    demo.say("bob approves exactly this change.")
    demo.smokejumper("approve", proposal, "--digest", digest, token=token)

    demo.say("Execution. A recording cannot change, so this rehearses: the exact request that a live cluster would get.")
    demo.smokejumper("execute", proposal, "--recording", recording)

    demo.say("The ledger has every step; hashes, signatures and the story itself are checked.")
    demo.smokejumper("audit", "show", proposal)
    demo.smokejumper("audit", "verify")

    demo.say("Somebody edits a copy of the ledger so that carol seems to have approved. It is caught.")
    copy = folder / "copy"
    shutil.copytree(folder / "state", copy)
    with contextlib.closing(sqlite3.connect(copy / "smokejumper.db")) as database, database:
        database.execute("UPDATE ledger_entry SET entry = replace(entry, 'bob', 'carol') WHERE type = 'approval.given'")
    demo.smokejumper("audit", "verify", state=copy, want=1)
    print(f"{RULE}\nThat is the whole path. On a live cluster: smokejumper doctor, smokejumper diagnose -A.")


if __name__ == "__main__":
    main()
