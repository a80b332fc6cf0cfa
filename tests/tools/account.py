"""Time per suite and the list of expected skips: hooks that tests/conftest.py takes over."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--expected-skips",
        metavar="FILE",
        help="fail when a test is skipped whose id matches no line (a glob) of FILE",
    )
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the stored texts that emitted code is compared with",
    )


def _suite(nodeid: str) -> str:
    """The folder below tests/ that a test belongs to; its file for those directly in tests/."""
    parts = nodeid.split("::")[0].split("/")
    return "/".join(parts[:2])


class _Account:
    """Adds up time per suite and collects skips, on the process that prints the summary."""

    def __init__(self, expected_skips: str | None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tests: dict[str, int] = defaultdict(int)
        self.unexpected: list[str] = []
        self.globs: list[str] | None = None
        if expected_skips is not None:
            lines = (line.split("#")[0].strip() for line in Path(expected_skips).read_text().splitlines())
            self.globs = [line for line in lines if line]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        suite = _suite(report.nodeid)
        self.seconds[suite] += report.duration
        self.tests[suite] += report.when == "call"
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skip(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skip(report.nodeid)

    def _skip(self, nodeid: str) -> None:
        if self.globs is not None and not any(fnmatch.fnmatchcase(nodeid, glob) for glob in self.globs):
            if nodeid not in self.unexpected:
                self.unexpected.append(nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.seconds:
            terminalreporter.section("seconds per suite")
        for suite, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:8.1f} s  {self.tests[suite]:5d} tests  {suite}")
        if self.unexpected:
            terminalreporter.section("skips that tests/expected_skips.txt does not list", red=True)
            for nodeid in self.unexpected:
                terminalreporter.write_line(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller of a parallel run, or the only process
        config.pluginmanager.register(_Account(config.getoption("--expected-skips")), "aino-account")
