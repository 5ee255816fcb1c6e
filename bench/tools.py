"""Tools made for the load of language models, beside ours.

Without PEERS=1 their figures are quoted, with date. With it, those that have a `command` are installed at that version into
an environment of their own in the project's cache and run against the logging server, on the client's core alone and
offline; their own report is read. inference-perf needs a Python of 3.12 or later on the path.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hotfire.stand.embedded.plan import cache

QUOTED = "2026-11-23"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
PYTHONS = (sys.executable, "python3.13", "python3.12")


class ToolError(Exception):
    """A tool could not be installed or run."""


class Said(NamedTuple):
    """What a tool reports, ms."""

    ttft: tuple[float, float]  # p50, p99
    gap: float  # p99


class Tool(NamedTuple):
    """One core, closed loop, 50 tokens a second a stream: what the tool reported less what the server logged."""

    name: str
    version: str
    ttft_error_ms: dict[int, tuple[float, float]]  # by streams: p50, p99
    p99_gap_ms: tuple[float, float]  # at 300 streams: the tool's, the server's
    note: str = ""
    python: tuple[int, int] = (3, 11)
    gigabytes: float = 0
    command: Callable[[str, int, Path], list[str]] | None = None  # arguments of its Python, by (url, streams, folder)
    said: Callable[[Path], Said] | None = None


def inference_perf(url: str, streams: int, folder: Path) -> list[str]:
    config = {
        "api": {"type": "chat", "streaming": True},
        "data": {"type": "mock"},
        "load": {
            "type": "concurrent",
            "stages": [{"num_requests": 10 * streams, "concurrency_level": streams}],
            "num_workers": 1,
        },
        "server": {"type": "vllm", "model_name": "m", "base_url": url},
        "tokenizer": {"pretrained_model_name_or_path": str(tokenizer(folder))},
        "report": {"prometheus": None},
        "storage": {"local_storage": {"path": str(folder)}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return ["-c", "from inference_perf import main_cli; main_cli()", "--config_file", str(folder / "config.json")]


def inference_perf_said(folder: Path) -> Said:
    found = json.loads((folder / "summary_lifecycle_metrics.json").read_text())["successes"]["latency"]
    first, gap = found["time_to_first_token"], found["inter_token_latency"]
    return Said((1e3 * first["median"], 1e3 * first["p99"]), 1e3 * gap["p99"])


def aiperf(url: str, streams: int, folder: Path) -> list[str]:
    tokenizer(folder)
    return ["-m", "aiperf", "profile", "--model", "m", "--url", url, "--endpoint-type", "chat", "--streaming",
            "--tokenizer", "bench/words", "--concurrency", str(streams), "--request-count", str(3 * streams),
            "--isl", "8", "--osl", "150", "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics",
            "--artifact-dir", str(folder)]  # fmt: skip


def aiperf_said(folder: Path) -> Said:
    found = json.loads(next(folder.rglob("profile_export_aiperf.json")).read_text())
    first = found["time_to_first_token"]
    return Said((first["p50"], first["p99"]), found["inter_chunk_latency"]["p99"])


def guidellm(url: str, streams: int, folder: Path) -> list[str]:
    words = tokenizer(folder)
    return ["-m", "guidellm", "run", "--backend", f"kind=openai_http,target={url},model=m,http2=false",
            "--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={3 * streams}",
            "--data", "kind=synthetic_text,prompt_tokens=8,output_tokens=150",
            "--tokenizer", f"kind=huggingface_auto,model={words}",
            "--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console"]  # fmt: skip


def guidellm_said(folder: Path) -> Said:
    found = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    first, gap = (found[key]["successful"] for key in ("time_to_first_token_ms", "inter_token_latency_ms"))
    return Said((first["median"], first["percentiles"]["p99"]), gap["percentiles"]["p99"])


def tokenizer(folder: Path) -> Path:
    """A tokenizer of a thousand words, for the tools will not start without one: bench/words of a model cache in `folder`."""
    model = folder / "hub" / "models--bench--words"
    home = model / "snapshots" / ("0" * 40)
    home.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(home.name)
    words = {"[UNK]": 0} | {f"w{i}": i for i in range(1, 1000)}
    whole: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None,
        "decoder": None, "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }  # fmt: skip
    (home / "tokenizer.json").write_text(json.dumps(whole))
    (home / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}')
    return home


TOOLS = (
    Tool("inference-perf", "0.7.0", {20: (0.7, 0.6), 100: (0.3, 0.5), 300: (12.5, 92)}, (36, 20.1), "answers of 30 tokens",
         (3, 12), 0.8, inference_perf, inference_perf_said),
    Tool("aiperf", "0.13.0", {20: (4.4, 8.6), 100: (46, 85), 300: (73, 503)}, (162, 20.2), "",
         (3, 11), 1.2, aiperf, aiperf_said),
    Tool("guidellm", "0.8.1", {20: (12.9, 28), 100: (31, 58), 300: (179, 250)}, (21.1, 20.4), "gap: a mean per request",
         (3, 11), 6.0, guidellm, guidellm_said),
)  # fmt: skip


def call(command: list[str], timeout: float, cwd: Path) -> None:
    """Runs a command in `cwd`, and all that it starts to their end; raises ToolError with the last error it said."""
    with tempfile.TemporaryFile("w+") as said:
        own = os.environ | OFFLINE | {"HF_HOME": str(cwd), "HF_HUB_CACHE": str(cwd / "hub")}
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=cwd, env=own, start_new_session=True)
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        lines = (said.read().strip() or "nothing").splitlines()
    if code != 0:
        told = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])[:200]
        raise ToolError(f"no end in {timeout:.0f} s" if code is None else f"exit {code}: {told}")


def installed(tool: Tool) -> Path:
    """The tool's own environment, whole or not there."""
    home = cache() / "peers" / f"{tool.name}-{tool.version}"
    if home.exists():
        return home
    fits = f"import sys; sys.exit(sys.version_info < {tool.python})"
    python = next(
        (p for p in PYTHONS if shutil.which(p) and subprocess.run([p, "-c", fits], capture_output=True).returncode == 0), ""
    )
    if not python:
        raise ToolError(f"needs Python {tool.python[0]}.{tool.python[1]} or later, and none is on the path")
    home.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(home.parent).free < 2e9 * tool.gigabytes:
        raise ToolError(f"needs {2 * tool.gigabytes:.1f} GB free")
    print(f"{tool.name} {tool.version}: installing about {tool.gigabytes} GB", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"{home.name}-") as beside:
        whole = Path(beside) / "whole"
        call([python, "-m", "venv", str(whole)], 300, Path(beside))
        wanted = ["install", "--quiet", "--disable-pip-version-check", f"{tool.name}=={tool.version}"]
        call([str(whole / "bin" / "python"), "-m", "pip", *wanted], 3600, Path(beside))
        whole.rename(home)
    print(f"{tool.name} {tool.version}: installed in {time.monotonic() - began:.0f} s", flush=True)
    return home


def run(tool: Tool, url: str, streams: int, folder: Path, cpu: int) -> Said:
    """One run against the server at `url`; raises ToolError."""
    assert tool.command and tool.said
    python = installed(tool) / "bin" / "python"
    call(["taskset", "-c", str(cpu), str(python), *tool.command(url, streams, folder)], 300, folder)
    try:
        return tool.said(folder)
    except (OSError, StopIteration, KeyError, TypeError, ValueError) as error:
        raise ToolError(f"its report cannot be read: {error!r}") from error
