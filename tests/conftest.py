"""What the suites share: the backend of a black-box run, and how such a run is started."""

from __future__ import annotations

import signal
import sys

import pytest
from blackbox import BOUND, MODES, NO_RIVALS, RunPytest

from harness import hooks
from harness.pytest_plugin.options import settings_key


def pytest_configure(config: pytest.Config) -> None:
    """Have from the system what the tests need, and may not have been given.

    Signals: a shell starts what it puts into the background with SIGINT ignored, nohup does so with
    SIGHUP, and every process below inherits that. And the descriptors of a thousand connections,
    both ends: many systems say 1024 or 256.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
        if soft != resource.RLIM_INFINITY and soft < enough:
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a black-box test once on each backend that this run is for."""
    if "backend" in metafunc.fixturenames:
        names = metafunc.config.stash[settings_key].selected_backends.names
        metafunc.parametrize("backend", names)


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    def run(*arguments: str, mode: str = "-p only") -> pytest.RunResult:
        with monkeypatch.context() as patch:
            for name in ("CI", "BUILD_NUMBER"):
                patch.delenv(name, raising=False)  # pytest writes longer summaries under them
            if mode.startswith("-p only"):
                patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            if not (pytester.path / "tox.ini").exists():
                pytester.makeini("[pytest]")  # or this project's own, if TMPDIR lies below it
            return pytester.runpytest_subprocess(
                *MODES[mode],
                *("-p", "no:cacheprovider", "-p", "no:randomly", *NO_RIVALS),
                *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
                *arguments,
                timeout=BOUND,
            )

    return run


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are put back when nobody listens: as in a script, and not as under the plugin."""
    monkeypatch.setattr(hooks, "_keepers", 0)
    hooks.put_back()
