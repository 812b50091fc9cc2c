"""Every way of writing a scan that tomovault is tried with, by name, and what is true of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tomovault.core.errors import UserError
from tomovault.core.scan import Verdict
from tomovault.testing.bliss_switches import BlissSwitches
from tomovault.testing.edf_switches import EdfSwitches
from tomovault.testing.one_file_switches import OneFileSwitches


@dataclass(frozen=True)
class Variant:
    """`truth` is the verdict that a certificate must end with. It is UNDECIDED for exactly those variants whose
    files cannot tell (`decidable` is False). A scan of a series or a rescan may have a truth of its own: the
    ScanTruth that the writer returns is what counts.
    """

    name: str
    writer: Literal["edf", "bliss", "nxtomo", "dataexchange"]
    what: str
    truth: Verdict = Verdict.COMPLETE
    edf: EdfSwitches = field(default_factory=EdfSwitches)
    bliss: BlissSwitches = field(default_factory=BlissSwitches)
    one_file: OneFileSwitches = field(default_factory=OneFileSwitches)

    @property
    def decidable(self) -> bool:
        """Whether the files on disk can tell."""
        return self.truth is not Verdict.UNDECIDED


def _edf(name: str, what: str, truth: str = "complete", **switches: object) -> Variant:
    return Variant(f"edf-{name}", "edf", what, Verdict(truth), edf=EdfSwitches(**switches))  # type: ignore[arg-type]


def _bliss(name: str, what: str, truth: str = "complete", **switches: object) -> Variant:
    return Variant(f"bliss-{name}", "bliss", what, Verdict(truth), bliss=BlissSwitches(**switches))  # type: ignore[arg-type]


def _nxtomo(name: str, what: str, truth: str = "complete", **switches: object) -> Variant:
    made = OneFileSwitches(**switches)  # type: ignore[arg-type]
    return Variant(f"nxtomo-{name}", "nxtomo", what, Verdict(truth), one_file=made)


def _exchange(name: str, what: str, truth: str = "complete", **switches: object) -> Variant:
    made = OneFileSwitches(**switches)  # type: ignore[arg-type]
    return Variant(f"dataexchange-{name}", "dataexchange", what, Verdict(truth), one_file=made)


EDF_VARIANTS: tuple[Variant, ...] = (
    _edf("plain", "as SPEC writes it"),
    _edf("info-at-end", "the .info comes after the last frame", info="end"),
    _edf("info-never", "no .info, the .xml alone says how many", info="never"),
    _edf("info-rewritten", "the .info promises more first and is rewritten with the true count", info="rewritten"),
    _edf("info-latin1", "a Latin-1 byte in the .info", info_text="latin1"),
    _edf("info-equals", "two '=' in one line of the .info", info_text="equals"),
    _edf("info-crlf", "lines of the .info end in CR LF", info_text="crlf"),
    _edf("info-no-pixel-size", "no PixelSize in the .info", info_text="no_pixel_size"),
    _edf("info-float-count", "TOMO_N written as a decimal number", info_text="float_count"),
    _edf("no-metadata", "neither .info nor .xml: nobody says how many", "undecided", info="never", xml="never"),
    _edf("refs-none-asked", "REF_N is 0 and there are no flats", refs_asked=False),
    _edf("refs-absent", "flats were asked for and there are none", "incomplete", refs_written="none"),
    _edf("refs-2026", "flats named refAAAA_KKKK", refs="angle_k"),
    _edf("refs-old", "flats named refKAAAA, K one digit from 1", refs="single_digit"),
    _edf("refs-uneven", "REF_ON does not divide TOMO_N: the last flats carry a rounded index", ref_on="uneven"),
    _edf("refs-on-zero", "REF_ON is 0: flats before and after only", ref_on="zero"),
    _edf("refs-no-last", "the flats after the last projection are missing", "incomplete", refs_written="no_last"),
    _edf("dark-missing", "no dark frame", "incomplete", dark="missing"),
    _edf("dark-first", "dark0000.edf is the first frame", dark="first"),
    _edf("no-return-images", "no images after the last projection", alignment=0),
    _edf("five-return-images", "five images after the last projection", alignment=5),
    _edf("pace-gaps", "1 to 2 s between projections", pace="gaps"),
    _edf("pace-beam-loss", "a pause of 60 to 300 s", pace="beam_loss"),
    _edf("pace-refill", "a pause of 20 min", pace="refill"),
    _edf("pace-folder-early", "the folder is there 10 min before its first file", pace="folder_early"),
    _edf("body-fsync", "every piece is synced", body="fsync"),
    _edf("body-steps", "each file grows in steps", body="steps"),
    _edf("body-tmp-rename", "each file is written under .tmp and renamed", body="tmp_rename"),
    _edf("body-preallocated", "each file has its size and a body of zeros first", body="preallocated"),
    _edf("body-zero-for-ever", "the last projection keeps a body of zeros", "undecided", body="zero_for_ever"),
    _edf("body-late-tail", "the last 4 KiB of the last projection come 20 s late", body="late_tail"),
    _edf("body-late", "the body of the last projection comes 20 s late", body="late_body"),
    _edf("order-bursts", "projections come in bursts of 8, shuffled", order="bursts"),
    _edf("order-index-0-last", "projection 0 is the last file", order="index_0_last"),
    _edf("xml-partial", "half of the .xml is visible for 5 s", xml="partial"),
    _edf("xml-never", "no .xml", xml="never"),
    _edf("xml-early", "the .xml comes before the last EDF files", xml="early"),
    _edf("reduced", "single flats are replaced by refHST files, darks by dark.edf", ref_on="uneven", after="reduced"),
    _edf("reconstructed", "slices, .par and a growing .vol come after the scan", after="reconstructed"),
    _edf("abort", "stopped with an .abo file", "aborted", fault="abort"),
    _edf("silent-abort", "SPEC was killed", "incomplete", fault="silent_abort"),
    _edf("after-abort", "a whole scan in the folder of one that was killed", again="after_kill"),
    _edf(
        "leftover-abo",
        "a whole scan with a pause of 60 to 300 s in the folder of one that was stopped with an .abo file",
        again="after_abort",
        pace="beam_loss",
    ),
    _edf("lost", "one projection is not there", "incomplete", fault="lost"),
    _edf("empty", "one projection has no byte", "incomplete", fault="empty"),
    _edf("header-only", "one projection is a header", "incomplete", fault="header_only"),
    _edf("truncated", "one projection is 100 bytes short", "incomplete", fault="truncated"),
    _edf("over-long", "one projection is 11570 bytes too long", fault="over_long"),
    _edf("disk-full", "a full disk cuts a file; after 10 min it is written again", fault="disk_full"),
    _edf("rescan-in-place", "the same names again with fewer projections; old files stay", again="in_place"),
    _edf("rescan-renamed", "the folder is renamed and the name used again", again="renamed"),
    _edf("back-to-back", "three scans of one second in a row", series="back_to_back"),
    _edf("holo", "four distances, a folder each", series="holo"),
    _edf("holo-missing", "three of four distances", series="holo_missing"),
    _edf("prefix-of-another", "a scan's name begins with another scan's name", series="prefix"),
    _edf("mtime-ahead", "the server's clock is 300 s ahead", mtime="ahead"),
    _edf("mtime-behind", "the server's clock is 300 s behind", mtime="behind"),
    _edf("mtime-future", "files dated next year", mtime="future"),
    _edf("mtime-copied", "files keep the dates of an older original", mtime="copied"),
    _edf("mtime-backwards", "each file is dated before the one before it", mtime="backwards"),
    _edf("lagging", "files become visible 3 to 60 s late, in any order", place="lagging"),
    _edf("split-roots", "EDF files under lbsram, .info and .xml under the server's path", place="split"),
    _edf("moved", "as split-roots, then the EDF files are moved to the server in any order", place="moved"),
    _edf("noise-files", "notes, swap and lock files, a link that loops", noise=True),
    _edf("name-spaces", "spaces and a quote in the name", naming="spaces"),
    _edf("name-newline", "a newline in the name", naming="newline"),
    _edf("name-bytes", "bytes in the name that are not UTF-8", naming="bytes"),
    _edf("five-digits", "projections are numbered with five digits", digits=5),
)

BLISS_VARIANTS: tuple[Variant, ...] = (
    _bliss("plain", "as BLISS and Lima write it, 10 frames a camera file"),
    _bliss("one-frame-a-file", "one frame a camera file", frames_per_file=1),
    _bliss("100-frames-a-file", "100 frames a camera file", frames_per_file=100),
    _bliss("1000-frames-a-file", "1000 frames a camera file", frames_per_file=1000),
    _bliss("camera-late", "the last camera file is closed 4 s after end_time", camera="late"),
    _bliss("camera-filled-late", "camera files are created empty and filled later", camera="filled_late"),
    _bliss(
        "camera-short",
        "the last camera file has fewer frames, and the master maps only those",
        "incomplete",
        camera="short",
    ),
    _bliss("camera-missing", "one camera file is not there", "incomplete", camera="missing"),
    _bliss("camera-truncated", "one camera file is cut", "incomplete", camera="truncated"),
    _bliss("camera-gzip", "camera files with gzip", compression="gzip"),
    _bliss("camera-bitshuffle", "camera files with bitshuffle and LZ4", compression="bitshuffle"),
    _bliss("vds-absolute", "the master names camera files by absolute path", vds="absolute"),
    _bliss("vds-too-many", "the master maps more frames than the camera file has", "incomplete", vds="too_many"),
    _bliss("lima2", "the master links to a Lima2 master", vds="external"),
    _bliss("lima2-missing", "the master links to a Lima2 master that is not there", "incomplete", vds="dangling"),
    _bliss("user-abort", "end_reason USER_ABORT", "aborted", end="USER_ABORT"),
    _bliss("failure", "end_reason FAILURE", "incomplete", end="FAILURE"),
    _bliss("no-end", "no end_time: the session still has it open, for all we know", "acquiring", end="none"),
    _bliss("killed", "the writer was killed between two flushes", "acquiring", end="killed"),
    _bliss("writer-failed", "end_reason SUCCESS but writer/status FAILED", "incomplete", end="writer_failed"),
    _bliss("swmr", "projections are streamed with SWMR", file="swmr"),
    _bliss("libver-latest", "the master is written with libver latest", file="latest"),
    _bliss("growing-master", "a second scan is added to the same master minutes later", scans=2),
    _bliss("overlap", "each subscan starts 70 ms before the one before it ends", overlap=True),
    _bliss("units-s", "exposure in seconds, distance in metres", units="s"),
    _bliss("no-energy", "no energy", energy=False),
    _bliss(
        "collection",
        "collection and proposal files link to the master and to each other",
        collection=True,
    ),
)

NXTOMO_VARIANTS: tuple[Variant, ...] = (
    _nxtomo("plain", "image after image, end_time last"),
    _nxtomo("at-once", "as a converter writes it, in one go", images="at_once"),
    _nxtomo("at-once-no-end", "in one go without end_time, tomo_n says how many", images="at_once", end="none"),
    _nxtomo(
        "unannounced",
        "in one go with neither end_time nor tomo_n",
        "undecided",
        images="at_once",
        end="none",
        announced=False,
    ),
    _nxtomo("no-end", "image after image without an end_time: more may come", "undecided", end="none"),
    _nxtomo("short", "the writer stops before tomo_n projections", "incomplete", end="short"),
    _nxtomo("no-angles", "no rotation_angle", "incomplete", angles="none"),
    _nxtomo("flats-between", "flats before, in the middle and after, with pauses", flats="between"),
    _nxtomo("gzip", "images with gzip", images="gzip"),
    _nxtomo("linked", "images are links into camera files", images="linked"),
    _nxtomo("linked-late", "the camera files are written after the links to them", images="linked_late"),
    _nxtomo("linked-missing", "one camera file is not there", "incomplete", images="linked_missing"),
    _nxtomo("zero-for-ever", "the last image keeps zeros", "undecided", images="zero_for_ever"),
)

EXCHANGE_VARIANTS: tuple[Variant, ...] = (
    _exchange("plain", "images first, the angles 5 s after the file was closed"),
    _exchange("unannounced", "nothing says how many were asked for; the angles reach 180 degrees", announced=False),
    _exchange("short", "half of the angles that were asked for", "incomplete", end="short"),
    _exchange(
        "short-unannounced", "half of the angles, and nothing says so", "undecided", end="short", announced=False
    ),
    _exchange("no-angles", "the angles are never added", "undecided", angles="none"),
    _exchange("dropped", "an image is lost between camera and file", "incomplete", dropped=True),
    _exchange("flats-twice", "flats before and after", flats="between"),
    _exchange("flats-missing", "flats were asked for twice and came once", "incomplete", flats="missing"),
    _exchange("gzip", "images with gzip", images="gzip"),
)

VARIANTS: tuple[Variant, ...] = EDF_VARIANTS + BLISS_VARIANTS + NXTOMO_VARIANTS + EXCHANGE_VARIANTS
_BY_NAME = {variant.name: variant for variant in VARIANTS}


def named_variant(name: str | Variant | None, *, writer: str) -> Variant:
    """The variant of that name (None: the plain one) for that writer. Raises UserError if there is none."""
    if isinstance(name, Variant):
        found = name
    else:
        wanted = f"{writer}-plain" if name is None else name
        choice = _BY_NAME.get(wanted) or _BY_NAME.get(f"{writer}-{wanted}")
        if choice is None:
            raise UserError(f"no variant {wanted!r}", hint=f"one of: {', '.join(sorted(_BY_NAME))}")
        found = choice
    if found.writer != writer:
        raise UserError(f"variant {found.name!r} is one of the {found.writer} writer, not of {writer}")
    return found
