"""Puts the native executor's library into a wheel, where a C++ compiler is; pyproject.toml says all else.

With it a wheel is for one platform and any Python (`py3-none-PLATFORM`); without a compiler it is for all, and the
library is compiled when it is first used, if there is a compiler then.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path(__file__).parent / "kernels" / "streamcodec_kernels" / "native"
spec = importlib.util.spec_from_file_location("compiler", NATIVE / "compiler.py")
compiler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compiler)


def compile_to(target: Path) -> None:
    """Raises CannotCompileError. One that was compiled here before is taken, unless CXX names a compiler."""
    ready = compiler.library_file()
    command = compiler.compiler()
    if ready.exists() and "CXX" not in os.environ:
        shutil.copy(ready, target)
    elif command is None:
        raise compiler.CannotCompileError("there is no C++ compiler")
    else:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(compiler.compile_into(Path(folder), command), target)


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # what is used is the checkout, and nothing is built beside its source
            return
        built = Path(self.build_lib, *compiler.BUILT.relative_to(NATIVE.parents[1]).parts)
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir(parents=True)
        try:
            compile_to(built / compiler.library_file().name)
            self.distribution.has_ext_modules = lambda: True
        except (compiler.CannotCompileError, OSError) as error:
            built.rmdir()
            self.warn(f"the native executor's library is not in this wheel: {error}")


class BdistWheel(bdist_wheel):
    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
