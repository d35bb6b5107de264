"""The command line: ``streamcodec COMMAND``; ``streamcodec --help`` lists the commands.

`main` parses, runs and turns errors into exit codes; ``parser`` knows the options; each command has its own file, which
is imported only when that command runs, so that ``--help`` does not wait for torch.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from ..errors import StreamcodecError
from .parser import build_parser

__all__ = ["main"]

FAILED = 2  # what argparse uses for a wrong option, too
INTERRUPTED = 128 + 2  # as a shell reports SIGINT
BROKEN_PIPE = 128 + 13  # and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after an error that was explained on stderr, 130 after Ctrl-C.

    argv: the arguments without the program's name; None takes them from the process. A wrong option raises SystemExit,
    as argparse has it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(arguments).parse_args(arguments)
    try:
        code: int = importlib.import_module(args.module, __package__).run(args)
        sys.stdout.flush()
    except StreamcodecError as error:
        print("streamcodec: error:", " ".join(str(error).split()), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the shell's prompt goes on a line of its own, below the ^C or the progress bar
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left (`| head`). Keep the interpreter from flushing into it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code
