"""The C unit tests (tests/unit/*_test.c), each cmocka case one test here, plain and sanitized;
those of tests/unit/tsan.txt under ThreadSanitizer, too.

A program runs once per variant; its TAP lines are shared by its cases. `make test-core` builds
both variants first; a program that is not there is a failure, not a skip. Which cases exist is
read from the source, and a program whose TAP names a case that the source does not is a failure
too, as is a report of a sanitizer or an exit status other than 0.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNITS = ROOT / "tests" / "unit"
VARIANTS = {
    "plain": ROOT / "build/py/tests/unit",
    "asan": ROOT / "build/asan/tests/unit",
    "tsan": ROOT / "build/tsan/tests/unit",
}
THREADED = [n for n in (UNITS / "tsan.txt").read_text().split("\n") if n and n[0] != "#"]
MAKER = re.compile(r"#\s*define\s+(\w+)\([^)]*\)\s+(?:\\\n)?[^\n]*\bcmocka_unit_test")
TAP = re.compile(r"^(ok|not ok) \d+ - (\w+)")
WHOLE = "whole_program"
PROGRAM_SECONDS = 170  # some take 10 s of a processor under the sanitizers, and it may be shared
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


@dataclass(frozen=True)
class Outcome:
    """What one run of one program said."""

    cases: dict[str, bool]
    code: int
    output: str


def run_once(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with what it said."""
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, errors="replace",
        timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip


@functools.cache
def run_program(variant: str, stem: str) -> Outcome:
    """Run a test program once; later cases read the kept result."""
    program = VARIANTS[variant] / stem
    if not program.exists():
        return Outcome({}, -1, f"{program.relative_to(ROOT)} is not built; run `make units`")
    env = {**os.environ, **SANITIZERS, "CMOCKA_MESSAGE_OUTPUT": "TAP"}
    command = [str(program)]
    try:
        done = run_once(command, env)
        if "unexpected memory mapping" in done.stderr:  # gcc's TSan and the kernel's random places
            done = run_once(["setarch", "-R", *command], env)
    except subprocess.TimeoutExpired as late:
        return Outcome({}, -1, f"no end within {PROGRAM_SECONDS} s\n{late.stdout}\n{late.stderr}")
    lines = [TAP.match(line) for line in done.stdout.splitlines()]
    cases = {m.group(2): m.group(1) == "ok" for m in lines if m}
    return Outcome(cases, done.returncode, (done.stdout + done.stderr)[-6000:])


def cases_of(text: str) -> list[str]:
    """The names that a source hands to cmocka, by its macros or by one of its own around them."""
    makers = [r"cmocka_unit_test\w*", *MAKER.findall(text)]
    code = re.sub(r"#\s*define[^\n]*(?:\\\n[^\n]*)*", "", text)
    return list(dict.fromkeys(re.findall(rf"\b(?:{'|'.join(makers)})\(\s*(\w+)", code)))


def all_cases() -> list[tuple[str, str, str]]:
    """(variant, program, case) in a fixed order; each program ends with the look at the whole."""
    found = []
    for variant in VARIANTS:
        for source in sorted(UNITS.glob("*_test.c")):
            if variant == "tsan" and source.stem not in THREADED:
                continue
            names = [*cases_of(source.read_text()), WHOLE]
            found += [(variant, source.stem, name) for name in names]
    return found


@pytest.mark.timeout(PROGRAM_SECONDS + 10)
@pytest.mark.parametrize(("variant", "program", "case"), all_cases())
def test_c_unit(variant: str, program: str, case: str) -> None:
    """One case of one program."""
    outcome = run_program(variant, program)
    if case == WHOLE:
        assert outcome.code == 0, outcome.output
        assert outcome.cases, f"no TAP line:\n{outcome.output}"
        assert all(outcome.cases.values()), outcome.output
        return
    assert case in outcome.cases, f"{case} did not run:\n{outcome.output}"
    assert outcome.cases[case], outcome.output
