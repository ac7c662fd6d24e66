"""`roclip ...`, `python -m roclip ...` and `torchrun -m roclip ...`."""

import importlib.metadata
import importlib.util
import os
import pathlib
import signal
import sys

TORCH = "2.11"


def check_torch():
    """The program is made for one release of PyTorch, whose libraries it takes from beside it; `import torch` is not needed."""
    advice = f"install it in this environment: pip install 'torch=={TORCH}.*'"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit(f"error: there is no PyTorch beside this Python; {advice}")
    try:
        found = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        found = TORCH  # Unpacked by hand: the libraries themselves decide.
    if found.split("+")[0].split(".")[:2] != TORCH.split("."):
        sys.exit(f"error: PyTorch is {found}, and this roclip is made for {TORCH}; {advice}")
    here, there = (pathlib.Path(path).resolve().parent for path in (__file__, spec.origin))
    if here.parent != there.parent:
        return there / "lib"
    return None


def load(libraries):
    """PyTorch of another folder (a user's own packages over a system's): its libraries first, and the program finds them loaded."""
    import ctypes

    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(libraries / name), mode=ctypes.RTLD_GLOBAL)


def main():
    libraries = check_torch()
    try:
        if libraries is not None:
            load(libraries)
        from roclip import _native
    except (ImportError, OSError) as error:
        sys.exit(f"error: PyTorch's libraries cannot be loaded ({error}); install torch=={TORCH}.* anew, beside roclip")
    # The program handles signals itself, and Python has nothing to add.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = _native.run([sys.executable, "-m", "roclip"], sys.argv[1:])
    sys.stdout.flush()
    # Threads of libtorch may still be there; Python has nothing to tidy up.
    os._exit(code)


if __name__ == "__main__":
    main()
