"""The jobs of a simulation: what each takes, and the facts that it brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tomovault.core.known import KnownScan, Product
from tomovault.core.record import Processing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass, good_domains
from tomovault.simulation.agenda import Agenda
from tomovault.simulation.bench import Bench, Task
from tomovault.simulation.judging import Judge
from tomovault.simulation.ledger import Ledger
from tomovault.simulation.scenario import Scenario, TapePlan
from tomovault.simulation.world import World

_DISKS = (TierClass.FAST, TierClass.SERVER)


class Works:
    """The machines with their queues. `is_written` says whether an area is being written by the acquisition now."""

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        judge: Judge,
        agenda: Agenda,
        ledger: Ledger,
        is_written: Callable[[str], bool],
    ) -> None:
        self._machines = scenario.machines
        self._scenario, self._world, self._judge = scenario, world, judge
        self._agenda, self._ledger, self._is_written = agenda, ledger, is_written
        self.packing = Bench(1, agenda.after)
        self.drives = Bench(scenario.machines.drives, agenda.after, change_s=scenario.machines.mount_s)
        self.network = Bench(1, agenda.after)
        self.reading = Bench(1, agenda.after)
        self.engine = Bench(1, agenda.after)
        self.benches = (self.packing, self.drives, self.network, self.reading, self.engine)

    def start(self) -> None:
        """What can begin has begun."""
        for bench in self.benches:
            bench.start()

    def has_room(self, area: str, size: int) -> bool:
        """Whether so much of ours may be written on an area's disk, the floor kept free."""
        plan = self._scenario.areas[area]
        return self._world.used[area] + size <= plan.quota - plan.floor_bytes

    # --- packing -------------------------------------------------------------------------------------

    def pack(self, scan: KnownScan) -> None:
        """A package of the files, re-read to their digests, in the vault of the scan's area."""
        machines, area, size = self._machines, scan.area, int(scan.bytes * self._machines.package_share)

        def seconds() -> float:
            written = self._is_written(area)
            return scan.bytes / (machines.pack_bps_while_written if written else machines.pack_bps)

        def done() -> None:
            now = self._agenda.now
            digest = f"original {scan.id}"
            product = Product(digest, ProductKind.ORIGINAL, digest, scan.bytes, scan.files, True, False, now)
            known = self._world.scans[scan.id]
            if not any(r.form is Form.FILES for r in known.replicas):
                files = self._replica(scan.id, ProductKind.ORIGINAL, Form.FILES, area, scan.root, scan.bytes)
                self._world.note_files(scan.id, product, files)
            else:
                product = known.product(ProductKind.ORIGINAL) or product
            package = self._replica(scan.id, ProductKind.ORIGINAL, Form.PACKAGE, area, f"{scan.root}.tomo.h5", size)
            self._world.add_copy(scan.id, replace(package, digest=product.digest), product)
            self._ledger.packed += scan.bytes
            self._ledger.packages += size
            self._ledger.bytes_made[area] += size
            self._world.end_job(scan.id, "pack")

        self._begin(scan.id, "pack")
        self.packing.add(self._making(Task(seconds, done, lane=area, size=scan.bytes), area, size))

    def reconstruct(self, scan: KnownScan) -> None:
        """A volume beside the package."""
        area, size = scan.area, int(scan.bytes * self._machines.volume_share)

        def done() -> None:
            digest = f"volume {scan.id}"
            product = Product(digest, ProductKind.VOLUME, digest, size, 1, True, True, self._agenda.now)
            place = f"{scan.root}.volume.h5"
            volume = self._replica(scan.id, ProductKind.VOLUME, Form.PACKAGE, area, place, size)
            self._world.add_copy(scan.id, replace(volume, digest=digest), product)
            now = self._agenda.now
            run = Processing("model", "1", {"rate": rate}, now, now, (digest,))
            self._world.note_run(scan.id, run, cpu_s=scan.bytes / rate)
            self._ledger.reconstructed += size
            self._ledger.bytes_made[area] += size
            self._world.end_job(scan.id, "reconstruct")
            self.volume_is_made(scan.id)

        self._begin(scan.id, "reconstruct")
        rate = self._machines.reconstruct_bps
        self.engine.add(self._making(Task(lambda: scan.bytes / rate, done, lane=area, size=scan.bytes), area, size))

    def volume_is_made(self, scan_id: str) -> None:
        """A person looks at the volume after some days, and may say that it is right."""
        people = self._scenario.people
        asked = self._ledger.by_kind["volumes"]
        self._ledger.by_kind["volumes"] += 1
        if int((asked + 1) * people.accept_share) > int(asked * people.accept_share):
            self._agenda.after(people.accept_after_s, lambda: self._world.accept(scan_id, "model"))

    def preview(self, scan: KnownScan) -> None:
        """A preview, which takes no time and no room worth counting."""
        digest = f"preview {scan.id}"
        product = Product(digest, ProductKind.PREVIEW, digest, 0, 1, False, True, self._agenda.now)
        preview = self._replica(scan.id, ProductKind.PREVIEW, Form.PACKAGE, scan.area, f"{scan.root}.preview.png", 0)
        self._world.add_copy(scan.id, replace(preview, digest=digest, lossless=False), product)

    # --- copies --------------------------------------------------------------------------------------

    def archive(self, scan: KnownScan, tapes: tuple[TapePlan, ...], copies: int) -> None:
        """The archive copies that lack, in failure domains that have none, each re-read after the tape was rewound."""
        package = _good_package(scan)
        good = good_domains(scan.replicas_of(ProductKind.ORIGINAL), TierClass.ARCHIVE)
        lacking = [(tape, domain) for tape in tapes for domain in tape.domains if domain not in good]
        chosen = lacking[: max(0, copies - len(good))]
        if package is None or not chosen:
            return
        left = len(chosen)

        def landed(tape: TapePlan, domain: str) -> None:
            nonlocal left
            self._tape_copy(scan.id, package, tape, domain)
            left -= 1
            if left == 0:
                self._ledger.archived += package.bytes
                self._world.end_job(scan.id, "archive")

        def write() -> None:
            for tape, domain in chosen:
                self._write(package, domain, lambda tape=tape, domain=domain: landed(tape, domain))  # type: ignore[misc]

        self._begin(scan.id, "archive")
        if package.tier_class is TierClass.ARCHIVE:
            self._read(package, write, urgency=1)
        else:
            write()

    def replicate(self, scan: KnownScan, area: str, *, as_files: bool) -> None:
        """One more copy, of the files or of the package, in another area, compared with its digests."""
        package = _good_package(scan)
        size = scan.bytes if as_files or package is None else package.bytes
        form = Form.FILES if as_files else Form.PACKAGE

        def done() -> None:
            original = self._world.scans[scan.id].product(ProductKind.ORIGINAL)
            copy = self._replica(scan.id, ProductKind.ORIGINAL, form, area, f"/{area}/{scan.name}", size)
            self._world.add_copy(scan.id, replace(copy, digest=original.digest if original else copy.digest))
            self._ledger.moved += size
            self._ledger.bytes_made[area] += size
            self._world.end_job(scan.id, "replicate")

        plan = self._scenario.areas[area]

        def room() -> bool:
            below = self._world.used[area] + size <= plan.high * plan.quota
            return self.has_room(area, size) and (below or not as_files)

        self._begin(scan.id, "replicate")
        task = self._making(Task(lambda: size / self._machines.move_bps, done, lane=scan.area, size=size), area, size)
        task.room = room
        self.network.add(task)

    def verify(self, scan: KnownScan, replica: Replica) -> None:
        """A copy is re-read, and found right."""

        def done() -> None:
            now = next((r for r in self._world.scans[scan.id].replicas if r.id == replica.id), replica)
            if now.state is ReplicaState.VERIFIED:
                self._world.change_copy(scan.id, replace(now, verified_at=self._agenda.now))
            self._ledger.rereads += replica.bytes
            self._world.end_job(scan.id, "verify")

        self._begin(scan.id, "verify")
        if replica.tier_class is TierClass.ARCHIVE:
            self._read(replica, done, urgency=2)
        else:
            rate = self._machines.reread_bps
            self.reading.add(Task(lambda: replica.bytes / rate, done, lane=replica.tier, size=replica.bytes))

    def recall(self, scan: KnownScan, replica: Replica, done: Callable[[], None]) -> None:
        """The package is read from the archive and back in the vault of the scan's area."""

        def back() -> None:
            place = f"{scan.root}.tomo.h5"
            package = self._replica(scan.id, ProductKind.ORIGINAL, Form.PACKAGE, scan.area, place, replica.bytes)
            self._world.add_copy(scan.id, replace(package, digest=replica.digest))
            self._ledger.bytes_made[scan.area] += replica.bytes
            self._world.end_job(scan.id, "restore")
            done()

        self._begin(scan.id, "restore")
        self._read(replica, back, urgency=0, into=scan.area)

    # --- what they share -----------------------------------------------------------------------------

    def _begin(self, scan_id: str, action: str) -> None:
        self._world.begin_job(scan_id, action, self._agenda.now)

    def _making(self, task: Task, area: str, size: int) -> Task:
        """The task waits for room on the area's disk, and has reserved it when it begins."""
        task.room = lambda: self.has_room(area, size)
        task.begin = lambda: self._world.reserve(area, size)
        return task

    def _write(self, package: Replica, domain: str, done: Callable[[], None]) -> None:
        machines = self._machines
        seconds = 2 * package.bytes / machines.drive_bps + machines.rewind_s
        self.drives.add(Task(lambda: seconds, done, size=package.bytes, medium=domain))

    def _read(self, replica: Replica, done: Callable[[], None], *, urgency: int, into: str = "") -> None:
        seconds = replica.bytes / self._machines.drive_bps + self._machines.rewind_s
        task = Task(lambda: seconds, done, urgency=urgency, size=replica.bytes, medium=f"{replica.domain} read")
        self.drives.add(self._making(task, into, replica.bytes) if into else task)

    def _tape_copy(self, scan_id: str, package: Replica, tape: TapePlan, domain: str) -> None:
        now = self._agenda.now
        number = self._ledger.by_kind["tape copies"]
        self._ledger.by_kind["tape copies"] += 1
        copy = replace(
            package,
            id=f"{scan_id} {domain} {number}",
            tier=tape.name,
            tier_class=TierClass.ARCHIVE,
            domain=domain,
            location=f"{domain}#{number}",
            state=ReplicaState.VERIFIED,
            written_at=now,
            verified_at=now,
            counts=tape.counts,
        )
        self._world.add_copy(scan_id, copy)
        self._ledger.taped[domain] += copy.bytes
        if tape.forgets_s is not None:
            self._agenda.after(tape.forgets_s, lambda: self.lose(scan_id, copy.id, ReplicaState.GONE))

    def lose(self, scan_id: str, replica_id: str, state: ReplicaState) -> None:
        """A copy is not there, or not right, any more; not by a removal of ours."""
        for replica in self._world.scans[scan_id].replicas:
            if replica.id == replica_id and replica.live:
                self._world.change_copy(scan_id, replace(replica, state=state))
        scan, readable = self._world.scans[scan_id], (ReplicaState.VERIFIED, ReplicaState.LEAVING)
        if not any(r.state in readable for r in scan.replicas_of(ProductKind.ORIGINAL)):
            self._ledger.lost[scan_id] = scan.bytes

    def _replica(self, scan_id: str, kind: ProductKind, form: Form, area: str, place: str, size: int) -> Replica:
        now = self._agenda.now
        number = self._ledger.by_kind["copies"]
        self._ledger.by_kind["copies"] += 1
        return Replica(
            id=f"{scan_id} {kind} {form} {number}",
            product=kind,
            digest=f"{kind} {scan_id}",
            lossless=True,
            form=form,
            tier=area,
            tier_class=self._scenario.areas[area].tier_class,
            domain=f"area:{area}",
            location=place,
            bytes=size,
            state=ReplicaState.VERIFIED,
            sha256=f"{kind} {scan_id}",
            written_at=now,
            verified_at=now,
        )


def _good_package(scan: KnownScan) -> Replica | None:
    """A package that can be read, one on disk before one in the archive."""
    packages = [r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE) if r.state is ReplicaState.VERIFIED]
    return min(packages, key=lambda r: (r.tier_class not in _DISKS, r.id), default=None)
