"""What the tests share: a compile cache in a temporary folder, tiny backbones, and a run trained once."""

import contextlib
import gc
import importlib.metadata
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

# Before jax is imported: compiled programs, small ones too, are kept between tests and the processes that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "fer_jax_test_compile_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compiling takes most of the suite's time, and most programs hardly run: nothing is optimised, and XLA's older emitter
# writes the loops. What may depend on either has the mark `optimised`, and scripts/test.sh runs it again without them.
if not os.environ.get("OPTIMISED"):
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    # JAX 0.12's XLA has no older emitter, and ends the process at a flag that it does not know.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Before Keras is first imported, with which some tests compare: the backend that is installed anyway.
os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest
from ml_collections import ConfigDict

from fer_jax import testing
from fer_jax.data.dataset import Dataset
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.models.backbone import BackboneSpec
from fer_jax.storage import patience
from fer_jax.storage.bucket import BucketPath
from fer_jax.testing import MINI, TINY, registered
from fer_jax.train import train

# The many objects of the libraries are looked through once, not at each of the collections that tracing causes.
gc.collect()
gc.freeze()

REPOSITORY = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what no UTF-8 can hold, such as the names of damaged files in the log: pytest-xdist sends reports."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def _tiny_backbones() -> Iterator[None]:
    with registered(TINY, MINI):
        yield


@pytest.fixture(scope="session")
def tiny_backbone() -> BackboneSpec:
    """`TINY`, which configs can name."""
    return TINY


@pytest.fixture(scope="session")
def mini_backbone() -> BackboneSpec:
    """`MINI`, which configs can name."""
    return MINI


@pytest.fixture(scope="session")
def make_tiny_config() -> Callable[[], ConfigDict]:
    """`fer_jax.testing.make_tiny_config`."""
    return testing.make_tiny_config


@pytest.fixture(scope="session")
def faces() -> Dataset:
    """Drawn faces, 64 of them to train on: four steps an epoch of `make_tiny_config`."""
    return synthetic_faces(64, 30, 17, seed=0)


@pytest.fixture(scope="session")
def whole_run(make_tiny_config, faces, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of a run of three epochs that nothing interrupted, and what `train` returned. Not to be changed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, train(make_tiny_config(), faces, workdir)


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[Path, Path], None]:
    """`fer_jax.testing.assert_same_run`."""
    return testing.assert_same_run


@pytest.fixture(scope="session")
def read_checkpoint() -> Callable[..., dict[str, np.ndarray]]:
    """`fer_jax.testing.read_checkpoint`."""
    return testing.read_checkpoint


@pytest.fixture(scope="session")
def open_chromium() -> Callable[..., contextlib.AbstractContextManager]:
    """Open a real browser, as wide as a phone, with further arguments of its command line; skip where there is none."""

    @contextlib.contextmanager
    def opened(*arguments: str):
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not (chromium and driver):
            pytest.skip("no browser: apt-get install -y --no-install-recommends chromium chromium-driver")
        webdriver = pytest.importorskip("selenium.webdriver")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", *arguments):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
            # A window cannot be as narrow.
            phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
            yield browser

    return opened


class BucketServer:
    """The server that the tests of a session share, at `address`."""

    bucket = "fer-runs"

    def __init__(self, address: str):
        self.address = address
        self._numbers = itertools.count()

    def folder(self) -> BucketPath:
        """Return a place in the bucket where nothing is."""
        return BucketPath(self.bucket, f"test{next(self._numbers)}")

    def fault(self, kind: str | None, pattern: str = "", count: int | None = None) -> None:
        """Break the next requests, as `bucket_server.py` says; None mends it."""
        self._control({"fault": kind and {"kind": kind, "pattern": pattern, "count": count}})

    def forget(self) -> None:
        """Count requests anew."""
        self._control({"forget": True})

    def requests(self) -> list[str]:
        """Return the requests since `forget`, as "METHOD PATH"."""
        with urllib.request.urlopen(f"{self.address}/_control") as answer:
            return json.load(answer)["requests"]

    def _control(self, what: dict) -> None:
        urllib.request.urlopen(f"{self.address}/_control", json.dumps(what).encode()).close()


@pytest.fixture(scope="session")
def _bucket_server() -> Iterator[BucketServer]:
    pytest.importorskip("gcp_storage_emulator")
    program = REPOSITORY / "tests" / "storage" / "bucket_server.py"
    process = subprocess.Popen(
        [sys.executable, str(program), BucketServer.bucket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield BucketServer(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def module_server(_bucket_server) -> Iterator[BucketServer]:
    """The server for this process and those that it starts; requests that fail are repeated for 10 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _bucket_server.address)
        patch.setenv(patience.PATIENCE_VARIABLE, "10")
        patience.client.cache_clear()
        yield _bucket_server
    patience.client.cache_clear()


@pytest.fixture
def server(module_server) -> Iterator[BucketServer]:
    """The server, mended after the test."""
    yield module_server
    module_server.fault(None)
