"""Where and on what a figure was measured; stands beside every result."""

import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any


def origin() -> dict[str, Any]:
    """Date, commit ("-dirty" where files other than results differ from it), and the machine: processor, cores allowed,
    memory in GiB.
    """
    return {"date": date.today().isoformat(), "commit": commit(), "machine": machine()}


def commit() -> str:
    head, changed = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--", "..", ":!results")
    return (head or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
