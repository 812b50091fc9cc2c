"""The laws of the design, written down a second time, over the bare rows of the catalogue and what the table of bytes
knows. Nothing of the code that decides is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta

import sqlalchemy as sa

from tomovault.catalog import tables
from tomovault.core.replica import ReplicaState
from tomovault.testing.ground import VOLUME_CPU_S, digest_of

from .policies import BYTE_KEPT, CPU_SECOND
from .site import HOLD

HOUR = timedelta(hours=1)
OPEN = ("granted", "quarantined", "leaving")
UNFINISHED = ("todo", "doing")

#: Actions that a rule asks for, each worth doing once on what is known.
BY_RULE = ("pack", "preview", "reconstruct", "archive", "replicate", "prune")

_READ = ("permit", "replica", "product", "scan", "pin", "job", "tombstone", "processing", "transfer", "notice", "lease")


class Broken(AssertionError):
    """A law does not hold."""


class Laws:
    """Looks on while a history is lived. Raises Broken, naming the law."""

    def __init__(self, history):
        self.history = history
        self.ground = history.ground
        self.phases, self.states, self.begun = {}, {}, {}
        self.seq = 0
        self.chain = []
        self.jobs = {}
        self.tried = defaultdict(set)
        self.count = Counter()
        self.heard = 0
        self.warned = defaultdict(list)
        self.told = Counter()

    # --- what the rows say -----------------------------------------------------------------------

    def _read(self):
        catalogue = self.history.catalogue
        with catalogue.reading() as tx:
            rows = {name: tx.rows(sa.select(getattr(tables, name))) for name in _READ}
        self.rows = rows
        self.permits = {r.id: r for r in rows["permit"]}
        self.replicas = {r.id: r for r in rows["replica"]}
        self.products = {r.id: r for r in rows["product"]}
        self.scans = {r.id: r for r in rows["scan"]}

    def demand(self, law, holds, *told):
        self.count[law] += 1
        if not holds:
            raise Broken(f"{law}: {' '.join(map(str, told))}")

    # --- after each step of the daemon -----------------------------------------------------------

    def after_turn(self, *, whole=True):
        """`whole`: the turn is over, and no other daemon did anything meanwhile."""
        self._read()
        self._hear()
        now = self.history.clock.wall
        granted = [p for p in self.permits.values() if p.id not in self.phases]
        for permit in self.permits.values():
            before = self.phases.get(permit.id)
            if before != permit.phase:
                self._phase(permit, before, now)
        self._room(granted)
        for replica in self.replicas.values():
            if self.states.get(replica.id) != (replica.state, replica.verified_at):
                self._state(replica)
        self._quarantine()
        self._no_repetition()
        if whole:
            self._one_leads()
            self._policies()
        self.phases = {p.id: p.phase for p in self.permits.values()}
        self.states = {r.id: (r.state, r.verified_at) for r in self.replicas.values()}

    def _hear(self):
        """What people were told since, and when: of each copy that they were warned of."""
        for message, wall, running_s in self.history.messages[self.heard :]:
            if message.topic == "warnings":
                for one in message.facts["scans"]:
                    self.warned[one["id"], one["path"]].append((wall, running_s))
        self.heard = len(self.history.messages)

    def _one_leads(self):
        """Law 7, of a daemon whose turn is over: it leads only if the catalogue says so, too."""
        clerk = self.history.clerk
        if clerk._lead.leads and not clerk._lead.lost:
            holder = next((row.holder for row in self.rows["lease"] if row.name == "leader"), None)
            self.demand("law 7: one leads", holder == clerk.holder, clerk.holder, "and", holder)

    def _policies(self):
        """Who leads decides by the newest policies that are right."""
        history = self.history
        if history.clerk._lead.leads and not history.clerk._lead.lost:
            for area, version in history.newest.items():
                held = history.clerk.vault.policies[area].version
                self.demand("the policy: the newest", held == version, area, held, "instead of", version)

    def _phase(self, permit, before, now):
        if before is None:
            self.begun[permit.id] = (self.history.clock.running_s, self.history.clock.jumps)
            self._may_go(permit, now, "granted")
        if permit.phase == "leaving":
            self.demand("law 5: two phases", before in ("quarantined",), permit.id, "was", before)
            self.demand("law 5: the hold", permit.hold_until <= now, permit.hold_until, now)
            began, jumps = self.begun[permit.id]
            passed = timedelta(seconds=self.history.clock.running_s - began)
            hold = HOLD
            least = {0: hold, 1: hold / 2}.get(self.history.clock.jumps - jumps, timedelta(0))
            self.demand("law 5: the hold really passed", passed >= least, passed, "of", least)
            self._may_go(permit, now, "looked at again")
        if permit.phase == "gone":
            self.demand("law 5: two phases", before == "leaving", permit.id, "was", before)
            buried = [t for t in self.rows["tombstone"] if t.permit_id == permit.id]
            self.demand("law 4: a tombstone", len(buried) == 1, permit.id)

    def _may_go(self, permit, now, when):
        """Law 4, pins and switches, counted from the rows."""
        victim, scan = self.replicas[permit.replica_id], self.scans[permit.scan_id]
        self.demand("pins", not self._pinned(scan, now), scan.name, when)
        person = permit.ordered_by and when == "granted"
        self.demand("laws 3 and 5: brakes", person or not self._jumped(), when, "after the clock jumped")
        if permit.ordered_by:
            return
        absent = self.history.clerk.presence.absence(scan.area)
        self.demand("law 3", not absent, scan.name, when, "in an area that is not there")
        self.demand("prune: off", self.history.marks[victim.tier]["prune"], scan.name, when)
        verdict = scan.declared_verdict or scan.verdict
        self.demand("law 4: complete", verdict in ("complete", "aborted"), scan.name, verdict)
        rules = self.history.rules(scan.area)
        self._rule_lets(permit, scan, victim, rules, now, when)
        if self.products[victim.product_id].kind == "original":
            self._copies_suffice(scan, victim, rules, now, when)
        else:
            self._can_be_made_again(scan, victim, rules, now, when)
        if when == "granted" and victim.form == "package" and victim.tier == scan.area:
            self.demand("exports", not self._is_sent(scan, victim), scan.name, "goes while it is sent")

    def _rule_lets(self, permit, scan, victim, rules, now, when):
        """The rule that the permit names is one of the policy in force, speaks of that copy, and holds but for how full
        the place is.
        """
        name, kind = permit.rule.partition("@")[0], self.products[victim.product_id].kind
        self.demand("the policy: forbids", not rules.forbids_prune, scan.name, when)
        rule = next((one for one in rules.prunes if one.name == name), None)
        self.demand("the policy: a rule", rule is not None, scan.name, name, when)
        speaks = rule.is_of(kind, victim.form, victim.tier, scan.area)
        self.demand("the policy: its copies", speaks, name, kind, victim.form, victim.tier)
        age = now - (scan.acquired_at or scan.first_seen_at)
        old = rule.least_age_days == 0 or age > timedelta(days=rule.least_age_days)
        self.demand("the policy: age", old, scan.name, "is of", age, when)
        begun = rule.starts is None or rule.starts <= now
        self.demand("the policy: dates", begun and (rule.until is None or now < rule.until), scan.name, now, when)
        if rule.cheaper:
            keep, make = victim.bytes * BYTE_KEPT, VOLUME_CPU_S * CPU_SECOND
            self.demand("the policy: prices", make < keep, scan.name, make, "to make,", keep, "to keep")
        if rule.warn_days:
            self._warned(scan, victim, timedelta(days=rule.warn_days), now, when)

    def _warned(self, scan, victim, days, now, when):
        """Its owner was told that it goes, so long ago by the wall and by the time that daemons lived."""
        passed = [
            min(now - wall, timedelta(seconds=self.history.clock.running_s - running_s))
            for wall, running_s in self.warned[scan.id, victim.location]
        ]
        self.demand("warnings", max(passed, default=timedelta(-1)) >= days, scan.name, when, passed, "of", days)

    def _is_sent(self, scan, victim):
        kind = self.products[victim.product_id].kind
        jobs = [j for j in self.rows["job"] if j.scan_id == scan.id and j.action == "export"]
        return [j.id for j in jobs if j.status in UNFINISHED and j.order["product"] == kind]

    def _copies_suffice(self, scan, victim, rules, now, when):
        wanted = max(2, rules.copies if rules.archives else 2)
        product = self.products[victim.product_id]
        archive = self._counted(product, victim, "tape", timedelta(days=rules.archive_days), now)
        if len(archive) >= wanted:
            self.demand("law 4", True)
            return
        mirror = self._counted(product, victim, "mirror", timedelta(days=rules.disk_days), now)
        jobs = [j for j in self.rows["job"] if j.scan_id == scan.id and j.action == "archive"]
        last = max(jobs, key=lambda j: j.queued_at, default=None)
        hoped = rules.archives and (last is None or last.status not in ("failed", "cancelled"))
        fast = victim.tier == "fast" and mirror and hoped
        self.demand("law 4", fast, scan.name, victim.form, when, f"with {len(archive)} of {wanted}", sorted(archive))

    def _can_be_made_again(self, scan, victim, rules, now, when):
        """Of what we made there are its parameters, and the original in as many archive copies as that needs."""
        originals = [p for p in self.products.values() if p.scan_id == scan.id and p.kind == "original"]
        wanted = max(2, rules.copies if rules.archives else 2)
        within = timedelta(days=rules.archive_days)
        archive = max((len(self._counted(p, victim, "tape", within, now)) for p in originals), default=0)
        digest = self.products[victim.product_id].digest
        runs = [r for r in self.rows["processing"] if digest in r.outputs and r.parameters]
        told = f"with {archive} of {wanted} and {len(runs)} runs"
        self.demand("law 4: made again", archive >= wanted and runs, scan.name, when, told)

    def _counted(self, product, victim, tier, within, now):
        """Failure domains with a copy of a product that was re-read so lately."""
        found = set()
        for replica in self.replicas.values():
            same = replica.product_id == product.id and replica.id != victim.id
            if same and replica.tier == tier and replica.state == "verified":
                if timedelta(0) <= now - replica.verified_at <= within:
                    found.add(replica.domain)
        return found

    def _pinned(self, scan, now):
        return [p for p in self.rows["pin"] if p.scan_id == scan.id and p.until > now and p.tier is None]

    def _jumped(self):
        clock = self.history.clock
        wall, running_s = self.history.daemons[self.history.acting].began
        return abs((clock.wall - wall) - timedelta(seconds=clock.running_s - running_s)) > HOUR

    def _state(self, replica):
        where = f"{replica.form} of {self.scans[replica.scan_id].name} on {replica.tier}"
        digest = self.products[replica.product_id].digest
        if replica.state == "verified":
            really = (replica.location, digest, replica.verified_at) in self.ground.reads
            self.demand("law 2: verified was read", really, where, replica.verified_at)
        if replica.state == "gone":
            buried = any(t.replica_id == replica.id for t in self.rows["tombstone"])
            scan = self.scans[replica.scan_id]
            overwritten = replica.form == "files" and scan.superseded_by is not None
            self.demand("law 3: absence is no order", buried or overwritten, where, "is gone without a permit")

    def _quarantine(self):
        """What is in quarantine can be taken back: its permit is open. What is leaving has one."""
        for permit in self.ground.quarantine:
            self.demand("law 5: quarantine", self.permits[permit].phase in OPEN, permit, self.permits[permit].phase)
        under_way = {p.replica_id for p in self.permits.values() if p.phase in OPEN}
        for replica in self.replicas.values():
            if replica.state == "leaving":
                self.demand("law 5: leaving", replica.id in under_way, replica.id, "is leaving without a permit")

    def _room(self, granted):
        """Rules by a watermark take no more than brings a place down to its low mark, and one scan."""
        by_place = defaultdict(list)
        for permit in granted:
            if not permit.ordered_by and self._is_for_room(permit):
                by_place[self.replicas[permit.replica_id].tier].append(permit)
        for place, permits in by_place.items():
            kept = self._kept(place)
            marks = self.history.marks[place]
            low = int(marks["low"] * marks["quota"])
            scans = Counter()
            for permit in permits:
                scans[permit.scan_id] += permit.bytes
            last = max(scans.values())
            self.demand("watermark", kept + last > low, f"{place}: {kept} kept and {last} of the last, low mark {low}")

    def _is_for_room(self, permit):
        name, area = permit.rule.partition("@")[0], self.scans[permit.scan_id].area
        return any(rule.name == name and rule.for_room for rule in self.history.rules(area).prunes)

    def _kept(self, place):
        packed = {p.scan_id for p in self.products.values() if p.kind == "original"}
        known = sum(r.bytes for r in self.replicas.values() if r.tier == place and r.state != "gone")
        known += sum(s.bytes for s in self.scans.values() if s.area == place and s.id not in packed)
        leaving = sum(r.bytes for r in self.replicas.values() if r.tier == place and r.state == "leaving")
        return max(known, self.ground.used(place) + self.history.others[place]) - leaving

    def _no_repetition(self):
        """Nothing is tried twice on the same facts, but for what a job's own retries are."""
        for job in self.rows["job"]:
            known = self.jobs.get(job.id)
            if known is None and job.action in BY_RULE:
                facts = self._facts(job)
                again = [j for j in self.tried[job.action, facts] if self.jobs[j] in ("failed", "succeeded")]
                self.demand("no action twice on the same facts", not again, job.action, self.scans[job.scan_id].name)
                self.tried[job.action, facts].add(job.id)
            self.jobs[job.id] = job.status

    def _facts(self, job):
        scan = self.scans[job.scan_id]
        mine = [r for r in self.replicas.values() if r.scan_id == scan.id]
        facts = (scan.id, scan.identity, scan.verdict, scan.settled, self.history.version, self.history.deaths)
        if job.action == "prune":
            # Of what is asked again after each failure: is anything newer than the failure known of its copies?
            permit = self.permits[job.order["permit"]]
            return (*facts, permit.replica_id, scan.changed_at, tuple(sorted((r.id, str(r.verified_at)) for r in mine)))
        phases = tuple(sorted((p.id, p.phase) for p in self.permits.values() if p.scan_id == scan.id))
        return (*facts, phases, tuple(sorted((r.id, r.state) for r in mine)))

    # --- when a job is about to touch bytes ------------------------------------------------------

    def before_start(self, told):
        """What a rule sends is sent only on its dates, and after its embargo; what is under way is seen through."""
        if told["action"] != "export" or told["order"]["submission_id"] is not None:
            return
        self._read()
        now, transfer = self.history.clock.wall, self._transfer(told)
        send = self.history.rules(self.scans[transfer.scan_id].area).send
        self.demand("exports: a rule", send is not None, transfer.asked_by)
        begun = send.starts is None or send.starts <= now
        self.demand("exports: dates", begun and (send.until is None or now < send.until), now)
        self.demand("exports: embargo", send.embargo is None or send.embargo <= now, now)

    def _transfer(self, told):
        return next(row for row in self.rows["transfer"] if row.id == told["order"]["transfer"])

    def before_act(self, told):
        action, order = told["action"], told["order"]
        self._read()
        job = next(row for row in self.rows["job"] if row.id == told["job"])
        claimed = (job.token, job.status) == (told["token"], "doing")
        self.demand("law 7: by its claim alone", claimed, action, job.token, "not", told["token"], job.status)
        if action == "export":
            recorded = order["submission_id"] in (None, self._transfer(told).submission_id)
            self.demand("law 6: recorded first", recorded, order["submission_id"])
        if action not in ("prune", "empty_quarantine", "destroy"):
            return
        self._hear()
        permit = self.permits[order["permit"]]
        replica, now = self.replicas[permit.replica_id], self.history.clock.wall
        phase = "granted" if action == "prune" else "leaving"
        self.demand("law 5: two phases", permit.phase == phase, action, "while", permit.phase)
        if action == "prune":
            named = order["place"]["root"] if order["form"] == "files" else order["files"][0]["location"]
        elif action == "destroy":
            named = order["placed"]["location"]
        else:
            named = self.ground.quarantine.get(permit.id, (replica.location,))[0]
        self.demand("law 5: only what the permit names", named == replica.location, action, named, replica.location)
        self._may_go(permit, now, f"at the {action}")

    # --- after each event ------------------------------------------------------------------------

    def after_event(self):
        self.after_turn(whole=False)
        self._went()
        self._sent()
        self._people_are_told()
        self._usage()
        problems = self.history.catalogue.check()
        self.demand("the catalogue", not problems, problems)
        with self.history.catalogue.reading() as tx:
            chain = [tuple(r) for r in tx.rows(sa.select(tables.audit.c.seq, tables.audit.c.hash))]
        chain.sort()
        self.demand("law 9", chain[: len(self.chain)] == self.chain, "what was in the audit log is not as it was")
        self.chain = chain

    def _went(self):
        """What really went, by the table of bytes: of no original fewer tapes are left than the law says, and of what
        we made there is the original.
        """
        for permit_id, location, copy in self.ground.went:
            permit = self.permits[permit_id]
            self.demand("law 5: only what the permit names", location == self.replicas[permit.replica_id].location)
            if permit.ordered_by:
                continue
            original = digest_of(copy.name, copy.version)
            left = self.ground.originals(original)
            tapes = {c.domain for c in left if c.tier == "tape"}
            mirrored = copy.tier == "fast" and any(c.tier == "mirror" for c in left)
            ordered = any(p.ordered_by and p.scan_id == permit.scan_id for p in self.permits.values())
            self.demand("law 4: what is left", len(tapes) >= 2 or mirrored or ordered, copy.name, sorted(tapes))
        self.ground.went.clear()

    def _sent(self):
        """A receipt is of something that arrived; by rules each product goes to one place once."""
        arrived, sent = set(self.ground.delivered), Counter()
        for row in self.rows["transfer"]:
            if row.state == "succeeded":
                there = (row.submission_id, row.digest) in arrived
                self.demand("law 2: a receipt", there, row.id)
                sent[row.scan_id, row.kind, row.collection, row.path] += "@" in row.asked_by
        for place, count in sent.items():
            self.demand("exports: once", count <= 1, place)

    def _people_are_told(self):
        """What rules did is told of each scan once, and only what was done; what a rule is there to tell, once."""
        deeds = Counter()
        for notice in self.rows["notice"]:
            for one in notice.facts["scans"] if notice.template == "rule_did" else ():
                deeds[one["id"], notice.facts["rule"].partition("@")[0], notice.facts["action"], one["why"]] += 1
        done = {j.id for j in self.rows["job"] if j.status == "succeeded"}
        by_rule = Counter()
        for (scan, rule, action, why), count in deeds.items():
            job = why.removeprefix("done by job ")
            self.demand("notices: what was done", action == "notify" or job in done, scan, rule, why)
            by_rule[scan, rule, "" if action == "notify" else why] += count
        for deed, count in by_rule.items():
            self.demand("notices: once", count == 1, deed, count)

    def _usage(self):
        """The roll-up of each tier is the sum of its live replicas."""
        wanted = Counter()
        for replica in self.replicas.values():
            if replica.state != ReplicaState.GONE and replica.tier in ("tape", "mirror"):
                wanted[replica.tier] += replica.bytes
        with self.history.catalogue.reading() as tx:
            query = sa.select(tables.usage.c.tier, sa.func.sum(tables.usage.c.bytes)).group_by(tables.usage.c.tier)
            told = {tier: size for tier, size in tx.rows(query) if tier in ("tape", "mirror") and size}
        self.demand("usage", told == dict(wanted), told, dict(wanted))
