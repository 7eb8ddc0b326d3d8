#!/usr/bin/env python3
"""Empty CUDA libraries for tests of the runtime image (TORCH=stubs in runtime/Dockerfile).

The torch of the lock file is linked against 4 GB of NVIDIA libraries. With a stub in place of each
library it can be imported and draws on the CPU. Every function of a stub returns 100
(cudaErrorNoDevice), so that torch.cuda.is_available() is False. The stubs are written to
site-packages/nvidia/cu13/lib, where torch looks for them.

Usage: VENV/bin/python cuda-stubs.py. Needs gcc and binutils (readelf).
"""

import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

NVIDIA_LIBRARY = re.compile(r"lib(cu|nv|nccl)\w*\.so")
# The driver's library: torch loads it at run time and works without it.
DRIVER = "libcuda.so.1"
NVIDIA_SYMBOL = re.compile(
    r"^(cu[A-Z]|cuda|cublas|cudnn|cufft|cuFile|cusparse|cusolver|cupti|nccl|nvrtc|nvshmem|nvJit|nvml|__cuda|_?nvtx)"
)
# The library of a symbol that has no version.
CUDA_RUNTIME = "libcudart.so.13"


def run(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_torch(folder: Path) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return what torch needs: sonames, symbols with versions, and the library of each version."""
    present = {path.name for path in folder.glob("*.so*")}
    sonames: set[str] = set()
    undefined: dict[str, str] = {}
    defined: set[str] = set()
    library_of: dict[str, str] = {}
    for path in sorted(folder.glob("*.so")):
        for match in re.finditer(r"\(NEEDED\).*\[(.+?)\]", run("readelf", "-dW", str(path))):
            name = match[1]
            if NVIDIA_LIBRARY.match(name) and name not in present and name != DRIVER:
                sonames.add(name)
        library = None
        for line in run("readelf", "-VW", str(path)).splitlines():
            if match := re.search(r"Version: \d+\s+File: (\S+)", line):
                library = match[1]
            elif (
                (match := re.search(r"Name: (\S+)\s+Flags", line))
                and library
                and NVIDIA_LIBRARY.match(library)
            ):
                library_of[match[1]] = library
        for line in run("readelf", "--dyn-syms", "-W", str(path)).splitlines():
            fields = line.split()
            if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
                continue
            binding, section = fields[4], fields[6]
            name, _, version = fields[7].partition("@")
            if section != "UND":
                defined.add(name)
            elif binding == "GLOBAL":
                undefined[name] = version.strip("@")
    symbols = {
        name: version
        for name, version in sorted(undefined.items())
        if name not in defined and NVIDIA_SYMBOL.match(name)
    }
    return sorted(sonames), symbols, library_of


def write_stub(soname: str, symbols: dict[str, str], versions: list[str], target: Path) -> None:
    """Write a library with these symbols and versions. Not every version has symbols."""
    by_version: dict[str, list[str]] = {version: [] for version in versions}
    for name, version in symbols.items():
        by_version.setdefault(version, []).append(name)
    named = {version: names for version, names in by_version.items() if version}
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stub.c"), Path(folder, "versions")
        source.write_text("".join(f"int {name}(void){{return 100;}}\n" for name in symbols))
        script.write_text(
            "".join(
                f"{version} {{ {'global: ' + '; '.join(names) + ';' if names else ''} }};\n"
                for version, names in named.items()
            )
        )
        link = [f"-Wl,-soname,{soname}", *([f"-Wl,--version-script={script}"] if named else [])]
        options = ["-shared", "-fPIC", "-Os", "-s", "-w", "-fno-builtin", "-nostdlib"]
        run("gcc", *options, *link, "-o", str(target), str(source))


def main() -> None:
    """Write a stub for every library that torch needs and the environment lacks."""
    site = Path(sysconfig.get_paths()["purelib"])
    sonames, symbols, library_of = read_torch(site / "torch/lib")
    target = site / "nvidia/cu13/lib"
    target.mkdir(parents=True, exist_ok=True)
    for soname in sonames:
        own = {
            name: version
            for name, version in symbols.items()
            if library_of.get(version, CUDA_RUNTIME) == soname
        }
        versions = [version for version, library in library_of.items() if library == soname]
        write_stub(soname, own, versions, target / soname)
        print(soname, len(own), "symbols")


if __name__ == "__main__":
    main()
