"""Build the compiled modules; pyproject.toml has everything else."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# For `make fuzz`: address,undefined.
SANITIZE = os.environ.get("STEERING_SANITIZE", "")

# No -march: kernels that want newer instructions are chosen at run time (_fastpath/kernels.h).
FLAGS = ["-O1", "-g", f"-fsanitize={SANITIZE}"] if SANITIZE else ["-O3", "-g1"]

MODULES = sorted(path.stem for path in Path("_fastpath").glob("*.pyx"))

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"_fastpath.{name}",
                [f"_fastpath/{name}.pyx"],
                include_dirs=["_fastpath"],
                extra_compile_args=[*FLAGS, "-Wall", "-Wno-unused-function", "-Wno-unreachable-code"],
                extra_link_args=[f"-fsanitize={SANITIZE}"] if SANITIZE else [],
            )
            for name in MODULES
        ],
        language_level=3,
        nthreads=os.cpu_count() or 1,
        compiler_directives={"embedsignature": True},
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
