"""What happens to a library behind the kernel's own tape driver: run within the guest, told in result.json."""

import hashlib
import json
import os
import subprocess
import sys
import traceback
from datetime import UTC, datetime

from tomovault.core.errors import NoRoomYet
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers.tape_library import TapeLibrary

WORK, CHANGER, *DRIVES = sys.argv[1:]
TOLD: dict[str, object] = {}


class Free:
    def spend(self, count):
        return None


def library():
    options = {
        "path": f"{WORK}/tape",
        "changer": CHANGER,
        "devices": DRIVES,
        "pools": {"A": "TA*", "B": "TB*"},
        "capacity": "7MB",
        "ready_s": 20,
    }
    return TapeLibrary("tape", options, now=lambda: datetime.now(UTC))


def parcel(scan, size):
    path = f"{WORK}/source/{scan}.tomo.h5"
    content = os.urandom(size)
    with open(path, "wb") as stream:
        stream.write(content)
    stored = StoredFile(path, size, hashlib.sha256(content).hexdigest())
    return Parcel(scan, scan, "original", stored.sha256, (stored,), f'{{"scan": "{scan}"}}', "group")


def put(tier, sent, pool):
    return tier.put([sent], f"tape:{pool}", job="job", throttle=Free(), checkpoint=lambda _: None)[0]


def protect(on):
    for lun in ("1", "2"):
        words = ["--lld", "iscsi", "--mode", "logicalunit", "--op", "update", "--tid", "1", "--lun", lun]
        subprocess.run(["tgtadm", *words, "--params", f"readonly={int(on)}"], check=True)


def by_mt_and_tar(placed):
    """As the label tells: no line of ours is used."""
    barcode, _, number = placed.location.partition("#")
    into = f"{WORK}/by-hand"
    os.mkdir(into)
    lines = subprocess.run(["mtx", "-f", CHANGER, "status"], check=True, capture_output=True, text=True).stdout
    line = next(line for line in lines.splitlines() if barcode in line)
    if "Data Transfer Element" not in line:
        slot = line.split(":")[0].split()[-1]
        for drive in (0, 1):
            if f"Data Transfer Element {drive}:Full" in lines:
                subprocess.run(["mt", "-f", DRIVES[drive], "offline"], check=True)
                subprocess.run(["mtx", "-f", CHANGER, "unload", "8" if drive else "7", str(drive)], check=True)
        subprocess.run(["mtx", "-f", CHANGER, "load", slot, "0"], check=True)
        drive = DRIVES[0]
    else:
        drive = DRIVES[int(line.split(":")[0].split()[-1])]
    for words in (["setblk", "0"], ["rewind"], ["fsf", number]):
        subprocess.run(["mt", "-f", drive, *words], check=True)
    subprocess.run(["tar", "-x", "-b", "512", "-f", drive], check=True, cwd=into)
    with open(f"{into}/MANIFEST.json", encoding="ascii") as stream:
        files = json.load(stream)["packages"][0]["files"]
    sums = subprocess.run(["sha256sum", *(f["member"] for f in files)], check=True, cwd=into, capture_output=True)
    return [line.split()[0] for line in sums.stdout.decode().splitlines()] == [f["sha256"] for f in files]


def tell():
    for folder in ("tape", "source", "back"):
        os.makedirs(f"{WORK}/{folder}")
    tier = library()
    TOLD["health"] = tier.health().detail
    sent = [parcel(f"scan{n}", 2_000_000) for n in range(4)]
    placed = [put(tier, one, "A") for one in sent]
    placed_b = put(tier, sent[0], "B")
    TOLD["locations"] = [one.location for one in (*placed, placed_b)]
    TOLD["states"] = {c["barcode"]: c["state"] for c in tier.cartridges()}
    TOLD["again"] = put(library(), sent[1], "A") == placed[1]
    TOLD["verified"] = list(library().verify([*placed, placed_b], throttle=Free()))
    ticket = tier.stage([one.location for one in placed])
    TOLD["staged"] = sorted(set(tier.poll(ticket).values()))
    same = []
    for one, what in zip([*placed, placed_b], [*sent, sent[0]], strict=True):
        into = f"{WORK}/back/{one.location}"
        os.mkdir(into)
        (file,) = tier.fetch(one, into, throttle=Free(), progress=lambda *_: None)
        with open(file.location, "rb") as stream:
            same.append(hashlib.sha256(stream.read()).hexdigest() == what.files[0].sha256)
    TOLD["fetched"] = same
    os.unlink(f"{WORK}/tape/library.json")
    TOLD["found"] = sorted(where.location for _, where in library().inventory())
    read = library().read_cartridge("TA0001L9", placed[:2], throttle=Free(), progress=lambda *_: None)
    TOLD["read"] = {"answers": list(read.answers), "problem": read.problem, "bytes": read.bytes}
    TOLD["surveyed"] = sorted(one.location for one in library().survey(lambda *_: None) if one.parcel)
    protect(True)
    try:
        put(library(), parcel("late", 1000), "B")
    except NoRoomYet as full:
        TOLD["protected"] = [full.message, library().health().detail]
    protect(False)
    TOLD["still_right"] = list(library().verify([placed_b], throttle=Free()))
    late = put(library(), parcel("late", 1000), "B")
    TOLD["late"] = [late.location, *library().verify([late], throttle=Free())]
    TOLD["by_hand"] = by_mt_and_tar(placed[1])
    with open(f"{WORK}/tape/log.jsonl", encoding="ascii") as stream:
        log = [json.loads(line) for line in stream]
    TOLD["serials"] = sorted({line["serial"] for line in log if line["event"] == "drive"})
    TOLD["mounts"] = sum(line["event"] == "mount" for line in log)
    TOLD["no_tape_alert"] = sum(line["event"] == "no_tape_alert" for line in log)


try:
    tell()
except BaseException:  # noqa: BLE001 - nobody else hears it
    TOLD["failed"] = traceback.format_exc()
with open(f"{WORK}/result.json", "w", encoding="ascii") as result:
    json.dump(TOLD, result, indent=1)
