"""The picture: ffmpeg makes a service, decodes what a receiver got, and writes single frames."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.tools.tv.packets import begins_picture, payload_at, pid_of, split

SERVICE_ID = 101
PMT_PID, VIDEO_PID, AUDIO_PID = 0x100, 0x101, 0x102
RATE_BPS = 1_300_000
WIDTH, HEIGHT, FRAMES_PER_S = 320, 180, 25
PICTURE_GROUP = 10
NOISE_WIDTH, NOISE_HEIGHT = 160, 90


def make_service(path: Path, seconds: int) -> None:
    """Write a transport stream of constant rate: MPEG-2 video and MPEG audio, the same bytes every time."""
    source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FRAMES_PER_S}:duration={seconds}"
    tone = f"sine=frequency=440:beep_factor=4:sample_rate=48000:duration={seconds}"
    video = f"-c:v mpeg2video -b:v 800k -maxrate 900k -bufsize 400k -g {PICTURE_GROUP} -bf 0 -sc_threshold 1000000000"
    stream = (
        f"-f mpegts -muxrate {RATE_BPS} -mpegts_service_id {SERVICE_ID} -mpegts_pmt_start_pid {PMT_PID} "
        f"-streamid 0:{VIDEO_PID} -streamid 1:{AUDIO_PID} -pat_period 0.2 -sdt_period 1"
    )
    exact = "-c:a mp2 -b:a 128k -flags +bitexact+cgop -fflags +bitexact -threads 1"
    inputs = ["-f", "lavfi", "-i", source, "-f", "lavfi", "-i", tone]
    _ffmpeg(*inputs, *video.split(), *exact.split(), *stream.split(), str(path))


@dataclass(frozen=True)
class Decoded:
    """What ffmpeg made of a recording: MD5 by presentation time (90 kHz), of decoded pictures and of audio packets."""

    pictures: dict[int, str]
    sound: dict[int, str]
    complaints: str

    def since(self, start: int) -> "Decoded":
        """What is presented from this time on."""
        return Decoded(
            {at: md5 for at, md5 in self.pictures.items() if at >= start},
            {at: md5 for at, md5 in self.sound.items() if at >= start},
            self.complaints,
        )


def decode(path: Path) -> Decoded:
    """Decode all of a recording; a file without a picture gives no pictures and ffmpeg's complaint."""
    pictures, complaints = _frame_md5(path, "-map 0:v:0")
    sound, more = _frame_md5(path, "-map 0:a:0 -c copy")
    heard = _ffmpeg_lines("-i", str(path), "-map", "0:a:0", "-f", "null", "-")[1]
    return Decoded(pictures, sound, complaints + more + heard)


def from_first_picture(recording: bytes) -> bytes:
    """The recording from where a television can begin to show it: PAT and PMT, then the first whole picture."""
    packets = split(recording)
    tables = [next((one for one in packets if pid_of(one) == pid), b"") for pid in (0, PMT_PID)]
    start = next((n for n, one in enumerate(packets) if pid_of(one) == VIDEO_PID and begins_picture(one)), None)
    if start is None or not all(tables):
        return b""
    sounding, shown = False, list(tables)
    for packet in packets[start:]:
        if pid_of(packet) == AUDIO_PID and not sounding:
            # A sound that began before this point is of no use without its first packets.
            sounding = bool(packet[1] & 0x40)
        if pid_of(packet) != AUDIO_PID or sounding:
            shown.append(packet)
    return b"".join(shown)


def write_frame(recording: Path, image: Path, at_s: float) -> None:
    """Write the picture that is shown so many seconds after the beginning of a recording."""
    image.parent.mkdir(parents=True, exist_ok=True)
    _ffmpeg("-i", str(recording), "-ss", f"{at_s:.2f}", "-frames:v", "1", "-update", "1", str(image))


def write_noise(packets: list[bytes], image: Path) -> None:
    """Write the bytes of scrambled packets as dots of grey: all that there is to see of them."""
    image.parent.mkdir(parents=True, exist_ok=True)
    dots = b"".join(packet[payload_at(packet) :] for packet in packets)[: NOISE_WIDTH * NOISE_HEIGHT]
    assert len(dots) == NOISE_WIDTH * NOISE_HEIGHT, f"{len(packets)} scrambled packets are too few for an image"
    raw = f"-f rawvideo -pix_fmt gray -s {NOISE_WIDTH}x{NOISE_HEIGHT} -i pipe:0"
    scale = f"-vf scale={WIDTH}:{HEIGHT}:flags=neighbor -frames:v 1 -update 1"
    _ffmpeg(*raw.split(), *scale.split(), str(image), stdin=dots)


def _frame_md5(path: Path, what: str) -> tuple[dict[int, str], str]:
    options = f"{what} -copyts -vsync passthrough -enc_time_base 1:90000 -f framemd5 -"
    lines, complaints = _ffmpeg_lines("-i", str(path), *options.split())
    found: dict[int, str] = {}
    ticks = 1.0
    for line in lines:
        if line.startswith("#tb 0:"):
            above, below = line.split()[2].split("/")
            ticks = 90_000 * int(above) / int(below)
        elif line and not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            found[round(int(fields[2]) * ticks)] = fields[5]
    return found, complaints


def _ffmpeg_lines(*arguments: str) -> tuple[list[str], str]:
    done = subprocess.run([*_program(), *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines(), done.stderr


def _ffmpeg(*arguments: str, stdin: bytes = b"") -> None:
    done = subprocess.run([*_program(), *arguments], input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, f"ffmpeg: {done.stderr.decode(errors='replace')}"


def _program() -> list[str]:
    found = shutil.which("ffmpeg")
    assert found, "ffmpeg is missing: apt-get install ffmpeg (make demo-tv and make test do it)"
    return [found, "-nostdin", "-hide_banner", "-v", "error", "-y"]
