"""What the command writes to: any encoding and any reader, and neither changes how the command ends."""

import io
import os
import shutil
import sys
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def accept_any_output() -> None:
    """Escape what the output's encoding lacks, and drop what nobody reads any more.

    A sync is done and billed by the time that its result is printed: the exit status has to say how the sync ended.
    """
    sys.stdout, sys.stderr = _tolerant(sys.stdout), _tolerant(sys.stderr)


def write_lines(text: str, stream: TextIO, *, indent: int = 0) -> None:
    """Write lines. A terminal would break long ones in the middle of a name: there they are broken between words.

    Args:
        text: One or more lines.
        stream: The output.
        indent: How far the rest of a broken line is moved to the right.
    """
    lines = text.split("\n")
    if stream.isatty():
        width, rest = shutil.get_terminal_size().columns, " " * indent
        lines = [
            part
            for line in lines
            for part in wrap(line, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
            or [""]
        ]
    stream.writelines(f"{line}\n" for line in lines)


def _tolerant(stream: TextIO | None) -> TextIO:
    # Python has no stream where the shell has closed the descriptor
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.isatty() or stream is sys.stderr,
    )


class _Pipe(io.FileIO):
    """An output whose reader may leave, as `head` does."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(memoryview(data).cast("B"))
