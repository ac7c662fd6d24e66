"""Two event files, one a line in hexadecimal, as TensorBoard's own protobuf and record writer make them, and what its EventAccumulator
reads of them: losses 2.5 and 1.5 at steps 10 and 20, then a resume behind step 15 and 1.25 at step 20.

    pip install tensorboard==2.21.0 setuptools && python3 tests/golden/event_files.py
"""

import io
import pathlib
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

# Seconds since 1970.
BEGUN = 1e9


def loss(after, step, value):
    summary = Summary(value=[Summary.Value(tag="train/loss", simple_value=value)])
    return Event(wall_time=BEGUN + after, step=step, summary=summary)


def written(events):
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()


def begun(after):
    return Event(wall_time=BEGUN + after, file_version="brain.Event:2")


first = written([begun(0), loss(1, 10, 2.5), loss(2, 20, 1.5)])
resumed = Event(wall_time=BEGUN + 3, step=16, session_log=SessionLog(status=SessionLog.START))
second = written([begun(3), resumed, loss(4, 20, 1.25)])

with tempfile.TemporaryDirectory() as folder:
    for number, content in enumerate([first, second]):
        path = pathlib.Path(folder) / f"events.out.tfevents.{int(BEGUN) + 3 * number:010}.roclip.1.0"
        path.write_bytes(content)
    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    scalars = [(scalar.step, scalar.value) for scalar in accumulator.Scalars("train/loss")]
    assert scalars == [(10, 2.5), (20, 1.25)], scalars

golden = pathlib.Path(__file__).parent / "event_files.txt"
golden.write_text(f"{first.hex()}\n{second.hex()}\n")
