"""The native core: one extension module of every source under shardproxy/native. All else is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("shardproxy/native")


def files(*patterns: str) -> list[str]:
    """Return the files under NATIVE that match, in a stable order, relative to this file."""
    return sorted(path.as_posix() for pattern in patterns for path in NATIVE.rglob(pattern))


setup(
    ext_modules=[
        Extension(
            "shardproxy.native._native",
            sources=[*files("*.pyx"), *files("core/**/*.c")],
            depends=files("core/**/*.h", "core/**/*.def", "*.pxi"),
            include_dirs=[f"{NATIVE}/core"],
            extra_compile_args=["-O3", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"],
        )
    ]
)
