"""`python -m tests.tools.tv`, which is `make demo-tv`: the proof, told step by step. Exit code 0 when all holds."""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.tools.tv.ecmg_link import ecmg_link
from tests.tools.tv.proof import Proof, Prover, Recordings, Tell
from tests.tools.tv.stage import staged


async def prove(place: Path, files: Path, tell: Tell, images: Path | None) -> Proof:
    """Build everything up in `place`, go through the proof, take everything down."""
    async with staged(place) as stage:
        tell("headend", f"cad serve is ready: broker, multiplexer, and ECMG on port {stage.ecmg_port} of loopback")
        prover = Prover(stage, Recordings(files), tell)
        prover.make_service()
        await prover.sell()
        async with ecmg_link(stage.ecmg_port) as link:
            await prover.broadcast(link)
        await prover.watch_with_tsdecrypt()
        prover.judge_logs()
        prover.judge_cipher()
        if images is not None:
            prover.write_images(images)
    return prover.proof


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.tv", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the recordings here")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="write a frame of before and after here")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")
    arguments = parser.parse_args()
    began = time.monotonic()

    def tell(who: str, what: str) -> None:
        if not arguments.json:
            print(f"{time.monotonic() - began:7.2f} s  {who:<12}{what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="cad-tv-") as temporary:
        files = arguments.keep or Path(temporary)
        files.mkdir(parents=True, exist_ok=True)
        try:
            proof = asyncio.run(prove(Path(temporary), files, tell, arguments.images))
        except AssertionError as failure:
            print(f"the proof fails: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    if arguments.json:
        print(json.dumps(dataclasses.asdict(proof)))
    else:
        print(f"Order to picture: {proof.order_to_picture_s:.2f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
