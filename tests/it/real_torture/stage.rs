//! Plays a scenario: produces, disturbs, restarts, and asks the oracle at the end.

use std::time::{Duration, Instant};

use super::oracle::{Findings, Ledger, Place, compare, compare_documents};
use super::scenario::{Command, Ending, LineFault, Outage, Scenario, Side, Step};
use super::target::Target;
use super::workload::{Workload, batch_bytes};
use crate::harness::{
    Cluster, Clusters, Content, Dice, FETCH, Finished, PRODUCE, Proxy, Running, Sdl, Sender, read_with_kcat, unique,
};

/// How long a run may stand still while it has records to deliver and nothing is disturbed.
const STANDSTILL: Duration = Duration::from_secs(60);
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// What happened in a scenario that held.
pub(super) struct Figures {
    pub(super) records: u64,
    pub(super) delivered: u64,
    pub(super) repeated: u64,
    pub(super) faults: u64,
}

/// What may be repeated, for what happened.
#[derive(Default)]
struct Repeats {
    /// The committed positions at each kill of the only member: a repeated stretch begins there.
    from: Vec<Vec<i64>>,
    /// Number of times that a member may have lost its partitions with records in flight.
    unknown: u64,
}

pub(super) struct Stage<'s> {
    scenario: &'s Scenario,
    clusters: Clusters,
    target: Target,
    topic: String,
    partitions: i32,
    workload: Workload,
    sender: Sender,
    members: Vec<Running>,
    started: u64,
    proxy: Option<Proxy>,
    open: Option<(Sender, i32)>,
    ledger: Ledger,
    /// Records of a partition below this offset may be missing.
    deleted: Vec<i64>,
    faults: u64,
    killed: bool,
    repeats: Repeats,
    /// Records that runs report as delivered.
    reported: u64,
    began: Instant,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, member) in self.members.iter_mut().enumerate() {
                println!("member {number}, running {}: {}", member.is_running(), member.stderr());
            }
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
            for name in ["kafka-1", "kafka-2", "mongo-java", "opensearch"] {
                for verb in ["thaw", "start"] {
                    let _ = std::process::Command::new(script).args([verb, name]).output();
                }
            }
        }
    }
}

/// Returns whether a signal ended a run that had not begun to read: before it had a handler, or during its start.
fn ended_at_its_start(finished: &Finished) -> bool {
    let has_said_so = finished.stderr.contains("Interrupted during the start: nothing was read.");
    finished.stdout.is_empty() && (finished.code().is_none() || (has_said_so && finished.code() == Some(0)))
}

/// Returns a sender that knows the partitions that a topic has now, and whose batches the topic takes.
fn sender(cluster: &Cluster, scenario: &Scenario) -> Sender {
    Sender::new(cluster, &[("batch.size", &scenario.max_message_bytes.to_string())])
}

impl<'s> Stage<'s> {
    #[track_caller]
    pub(super) fn play(scenario: &'s Scenario, dice: &mut Dice) -> Figures {
        let mut stage = Self::new(scenario);
        for step in &scenario.steps {
            stage.say(&format!("{step:?}"));
            stage.step(*step, dice);
        }
        stage.finish(dice)
    }

    fn new(scenario: &'s Scenario) -> Self {
        let (clusters, topic) = (Clusters::exclusive(), unique("torture"));
        let target = Target::new(scenario.command);
        let limit = scenario.max_message_bytes.to_string();
        let mut settings = vec![("max.message.bytes", limit.as_str())];
        if scenario.log_append_time {
            settings.push(("message.timestamp.type", "LogAppendTime"));
        }
        if scenario.compacted {
            settings.extend([("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.bytes", "1048576")]);
        }
        clusters.source.create_topic(&topic, scenario.partitions, &settings);
        if scenario.compacted || scenario.target_max_message_bytes.is_some() {
            let limit = scenario.target_max_message_bytes.unwrap_or(scenario.max_message_bytes).to_string();
            clusters.target.create_topic(&topic, scenario.partitions, &[("max.message.bytes", &limit)]);
        }
        if scenario.target_max_message_bytes.is_some() {
            clusters.target.create_topic(&format!("{topic}-dead"), 1, &[("max.message.bytes", "8000000")]);
        }
        let proxy = scenario.proxied.map(|side| {
            Proxy::before(match side {
                Side::Source => &clusters.source,
                Side::Target => &clusters.target,
            })
        });
        let sender = sender(&clusters.source, scenario);
        Self {
            scenario,
            target,
            partitions: scenario.partitions,
            workload: Workload::new(scenario),
            sender,
            members: Vec::new(),
            started: 0,
            proxy,
            open: None,
            ledger: Ledger::default(),
            deleted: vec![0; 16],
            faults: 0,
            killed: false,
            repeats: Repeats::default(),
            reported: 0,
            began: Instant::now(),
            clusters,
            topic,
        }
    }

    fn say(&self, what: &str) {
        println!("{:6.1} s  {what}", self.began.elapsed().as_secs_f32());
    }

    // --- runs of sdl

    fn sdl(&mut self, member: Option<usize>, flags: &str) -> Sdl {
        let through = |cluster: &Cluster, side| {
            if self.scenario.proxied == Some(side) { cluster.through_proxy() } else { cluster.clone() }
        };
        let source = through(&self.clusters.source, Side::Source).servers;
        let target = through(&self.clusters.target, Side::Target).servers;
        let settings = format!(
            "kafka.session.timeout.ms = {}\nkafka.heartbeat.interval.ms = 1000\nkafka.topic.metadata.refresh.interval.ms = 500\n",
            self.scenario.session_seconds * 1_000
        );
        let profile = if self.scenario.command == Command::Replicate {
            format!("[remote_kafka]\nservers = {source}\n{settings}\n[local_kafka]\nservers = {target}\n")
        } else {
            format!("[local_kafka]\nservers = {source}\n{settings}\n{}", self.target.section())
        };
        let mut line = format!("{} --group {} -o json {flags}", self.target.arguments(&self.topic), self.topic);
        if self.scenario.static_members
            && let Some(member) = member
        {
            line.extend([" --instance-id member-", &member.to_string()]);
        }
        if self.scenario.target_max_message_bytes.is_some() {
            line.extend([" --dead-letters topic:", &self.topic, "-dead"]);
        }
        self.started += 1;
        let mut sdl = Sdl::new(&line).profile(&profile).deadline(RUN_TIMEOUT);
        if let Some(below) = self.scenario.filtered_below {
            sdl = sdl.arg("--where").arg(format!("n >= {below}"));
        }
        sdl
    }

    fn start(&mut self, member: usize) {
        let flags = self.scenario.flags.join(" ");
        let running = self.sdl(Some(member), &flags).start();
        self.members.insert(member, running);
    }

    /// Ends a member with SIGTERM: it must deliver and report the records that it has read.
    #[track_caller]
    fn terminate(&mut self, member: usize) {
        let running = self.members.remove(member);
        running.signal("TERM");
        let finished = running.wait();
        if ended_at_its_start(&finished) {
            return;
        }
        let could_not_commit = finished.code() == Some(1) && finished.stderr.contains("the offsets were not committed on");
        if self.killed && could_not_commit {
            // An open fault of docs/limits.md: the group waited for a dead member.
            self.balance(&finished);
            self.repeats.unknown += 1;
            return;
        }
        let finished = finished.expect(0);
        self.balance(&finished);
    }

    /// Panics unless a summary accounts for everything that the run read.
    #[track_caller]
    fn balance(&mut self, finished: &Finished) {
        if finished.stdout.is_empty() {
            assert_ne!(finished.code(), Some(0), "no summary:\n{}", finished.stderr);
            return;
        }
        let summary = finished.json();
        let count = |name: &str| summary[name].as_u64().unwrap_or(0);
        let parts = ["delivered", "dead_lettered", "skipped", "filtered", "released", "undelivered"].map(count);
        assert_eq!(count("read"), parts.iter().sum::<u64>(), "{summary}");
        self.reported += count("delivered");
    }

    #[track_caller]
    fn assert_running(&mut self) {
        for number in 0..self.members.len() {
            if !self.members[number].is_running() {
                let finished = self.members.remove(number).wait();
                panic!("member {number} ended with {:?}:\n{}", finished.code(), finished.stderr);
            }
        }
    }

    // --- the source

    fn produce(&mut self, records: u64, transactions: bool, dice: &mut Dice) {
        let mut batch = Vec::new();
        for _ in 0..records {
            let partition = i32::try_from(dice.below(self.partitions.unsigned_abs().into())).expect("a partition");
            if dice.one_in(60) {
                self.sender.send(&self.topic, &std::mem::take(&mut batch));
                let large = self.workload.record(dice, true);
                self.sender.send(&self.topic, &[(partition, large)]);
            } else {
                let record = self.workload.record(dice, false);
                batch.push((partition, record));
            }
        }
        self.sender.send(&self.topic, &batch);
        if transactions {
            let sender = Sender::transactional(&self.clusters.source, &unique("transactions"));
            for commit in [dice.one_in(2), false, true] {
                let records = self.few(dice, None);
                sender.transaction(&self.topic, &records, commit);
            }
        }
        if self.scenario.compacted {
            self.absorb();
        }
    }

    /// Makes a few records for one partition, or for any.
    fn few(&mut self, dice: &mut Dice, partition: Option<i32>) -> Vec<(i32, Content)> {
        (0..dice.between(1, 30))
            .map(|_| {
                let any = i32::try_from(dice.below(self.partitions.unsigned_abs().into())).expect("a partition");
                (partition.unwrap_or(any), self.workload.record(dice, false))
            })
            .collect()
    }

    fn absorb(&mut self) {
        let seen = read_with_kcat(&self.clusters.source, &self.topic);
        self.ledger.absorb(seen);
    }

    fn ends(&self) -> Vec<i64> {
        self.clusters.source.offsets(&self.topic).into_iter().map(|(_, end)| end).collect()
    }

    fn committed(&self) -> Vec<i64> {
        let committed = self.clusters.source.committed(&self.topic, &self.topic);
        committed.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Returns how many offsets are not committed, but for the partition with an open transaction.
    fn lag(&self) -> i64 {
        let waits = |partition: usize| self.open.as_ref().is_some_and(|(_, open)| usize::try_from(*open) == Ok(partition));
        let ends = self.ends().into_iter().zip(self.committed()).enumerate();
        ends.filter(|(partition, _)| !waits(*partition)).map(|(_, (end, committed))| end - committed).sum()
    }

    /// Returns the committed positions, once they stand still: a commit may still be on its way.
    #[track_caller]
    fn last_committed(&self) -> Vec<i64> {
        let mut before = self.committed();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.committed();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Waits until this many more offsets are committed, or all.
    #[track_caller]
    fn progress(&mut self, records: i64) {
        // The partitions of a static member that has left are nobody's until its session ends.
        let longest = STANDSTILL + Duration::from_secs(self.scenario.session_seconds);
        let first = self.committed();
        let (mut before, mut moved) = (first.clone(), Instant::now());
        loop {
            self.assert_running();
            let now = self.committed();
            let back = before.iter().zip(&now).position(|(before, now)| now < before);
            assert!(back.is_none(), "committed offsets went back: {before:?}, then {now:?}");
            if now.iter().sum::<i64>() - first.iter().sum::<i64>() >= records || self.lag() == 0 {
                return;
            }
            if now != before {
                moved = Instant::now();
            }
            assert!(moved.elapsed() < longest, "no progress for {longest:?}: {now:?} of {:?}", self.ends());
            before = now;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    // --- the steps

    #[track_caller]
    fn step(&mut self, step: Step, dice: &mut Dice) {
        if self.members.is_empty() && !matches!(step, Step::Produce { .. }) {
            self.start(0);
        }
        let pause = Duration::from_millis(dice.below(300));
        if !matches!(step, Step::Produce { .. } | Step::Progress(_)) {
            self.faults += 1;
            self.assert_running();
        }
        match step {
            Step::Produce { records, transactions } => self.produce(records, transactions, dice),
            Step::OpenTransaction => {
                let partition = i32::try_from(dice.below(self.partitions.unsigned_abs().into())).expect("a partition");
                let sender = Sender::long_transactional(&self.clusters.source, &unique("open"));
                let records = self.few(dice, Some(partition));
                sender.open_transaction(&self.topic, &records);
                self.open = Some((sender, partition));
            }
            Step::Progress(records) => self.progress(records.cast_signed()),
            Step::Kill => self.kill(pause, dice),
            Step::Terminate => {
                let member = dice.index(self.members.len());
                self.terminate(member);
                self.start(member);
            }
            Step::FreezeMember => self.freeze_member(),
            Step::Join => {
                self.start(self.members.len());
                let wanted = self.members.len();
                std::thread::sleep(pause);
                self.wait_for_members(wanted);
            }
            Step::Leave { killed: true } => {
                let member = self.members.pop().expect("a member");
                member.signal("KILL");
                drop(member);
                self.killed = true;
                self.repeats.unknown += 1;
            }
            Step::Leave { killed: false } => {
                let last = self.members.len() - 1;
                // A static member keeps its partitions until its session ends.
                self.terminate(last);
            }
            Step::Broker(side, outage) => self.broker(side, outage),
            Step::Line(fault) => self.line(fault),
            Step::Grow(partitions) => {
                self.clusters.source.grow_topic(&self.topic, partitions);
                self.partitions = partitions;
                self.sender = sender(&self.clusters.source, self.scenario);
            }
            Step::DeleteDelivered => {
                self.absorb();
                for (partition, committed) in (0..).zip(self.committed()) {
                    if committed > 0 {
                        self.clusters.source.delete_records(&self.topic, partition, committed);
                    }
                }
            }
        }
    }

    /// Waits until the group has this number of members, and all of them run.
    #[track_caller]
    fn wait_for_members(&mut self, wanted: usize) {
        self.assert_running();
        self.clusters.source.wait_for_members(&self.topic, wanted);
    }

    #[track_caller]
    fn kill(&mut self, pause: Duration, dice: &mut Dice) {
        std::thread::sleep(pause);
        let member = dice.index(self.members.len());
        let running = self.members.remove(member);
        running.signal("KILL");
        drop(running);
        self.killed = true;
        if self.members.is_empty() {
            self.repeats.from.push(self.last_committed());
        } else {
            self.repeats.unknown += 1;
        }
        self.start(member);
    }

    #[track_caller]
    fn freeze_member(&mut self) {
        if self.members.len() < 2 {
            self.start(1);
        }
        let wanted = self.members.len();
        self.wait_for_members(wanted);
        self.repeats.unknown += 1;
        self.members[0].signal("STOP");
        std::thread::sleep(Duration::from_secs(self.scenario.session_seconds + 3));
        self.members[0].signal("CONT");
        std::thread::sleep(Duration::from_millis(1_500));
        self.assert_running();
        self.wait_for_members(wanted);
    }

    #[track_caller]
    fn broker(&mut self, side: Side, outage: Outage) {
        if side == Side::Source && self.scenario.session_seconds < 10 {
            self.repeats.unknown += 1;
        }
        let server = |verb: &str| match side {
            Side::Source => self.clusters.source.server(verb),
            Side::Target => self.target.server(&self.clusters, verb),
        };
        match outage {
            Outage::Kill => {
                server("kill");
                server("start");
            }
            Outage::Restart => {
                server("stop");
                server("start");
            }
            Outage::Freeze { milliseconds } => {
                server("freeze");
                std::thread::sleep(Duration::from_millis(milliseconds));
                server("thaw");
            }
        }
    }

    fn line(&mut self, fault: LineFault) {
        let Some(proxy) = &self.proxy else { return };
        let api = if self.scenario.proxied == Some(Side::Target) { PRODUCE } else { FETCH };
        if self.scenario.proxied == Some(Side::Source) && self.scenario.session_seconds < 10 {
            self.repeats.unknown += 1;
        }
        let pause = |milliseconds| std::thread::sleep(Duration::from_millis(milliseconds));
        match fault {
            LineFault::Slow { milliseconds } => {
                proxy.slow(Duration::from_millis(milliseconds));
                pause(3_000);
            }
            LineFault::BlackHole { milliseconds } => {
                proxy.black_hole();
                pause(milliseconds);
            }
            LineFault::Refuse { milliseconds } => {
                proxy.refuse();
                pause(milliseconds);
            }
            LineFault::Reset => proxy.reset(),
            LineFault::DropResponse => proxy.drop_next_response(api),
            LineFault::CutResponse => proxy.cut_next_response(api),
            LineFault::HalfClose => proxy.half_close_after(api),
        }
        proxy.heal();
    }

    // --- the end

    #[track_caller]
    fn finish(mut self, dice: &mut Dice) -> Figures {
        self.say(&format!("{:?}", self.scenario.ending));
        if let Some((sender, _)) = self.open.take() {
            sender.end_transaction(dice.one_in(2));
        }
        match self.scenario.ending {
            Ending::CaughtUp => self.catch_up(""),
            Ending::GapRefused => {
                self.gap(dice);
                self.refused();
                self.catch_up("--on-gap earliest");
            }
            Ending::GapPassed => {
                self.gap(dice);
                self.progress(i64::MAX);
                self.catch_up("");
            }
            Ending::Recreated { longer } => self.recreated(longer, dice),
        }
        self.judge()
    }

    fn end_members(&mut self) {
        while let Some(last) = self.members.len().checked_sub(1) {
            self.terminate(last);
        }
    }

    /// Reads everything that is left, in a run that ends by itself.
    #[track_caller]
    fn catch_up(&mut self, more: &str) {
        self.assert_running();
        self.end_members();
        if more.contains("--from-beginning") {
            // A static member that has left is one of the group for a session.
            self.clusters.source.wait_for_members(&self.topic, 0);
        }
        self.say("catch up");
        let flags = format!("--until-caught-up {} {more}", self.scenario.flags[1..].join(" "));
        let finished = self.sdl(Some(0), &flags).run();
        self.balance(&finished);
        let bad = finished.stderr.contains("bad records were found: ");
        assert_eq!(finished.code(), Some(if bad { 3 } else { 0 }), "{}", finished.stderr);
        assert_eq!(self.committed(), self.ends(), "the run is complete and has not committed all:\n{}", finished.stderr);
    }

    /// Deletes records that have not been read.
    #[track_caller]
    fn gap(&mut self, dice: &mut Dice) {
        self.end_members();
        self.produce(600, false, dice);
        self.absorb();
        let (committed, ends) = (self.committed(), self.ends());
        for (partition, (committed, end)) in (0..).zip(committed.into_iter().zip(ends)) {
            let unread = u64::try_from(end - committed).expect("a lag");
            if committed > 0 && unread > 1 {
                let below = committed + dice.between(1, unread - 1).cast_signed();
                self.clusters.source.delete_records(&self.topic, partition, below);
                self.deleted[usize::try_from(partition).expect("an index")] = below;
            }
        }
        self.start(0);
    }

    /// Waits until a run refuses the gap, with the numbers; without a gap, until it has read everything.
    #[track_caller]
    fn refused(&mut self) {
        if self.deleted.iter().all(|below| *below == 0) {
            return;
        }
        let finished = self.members.remove(0).wait();
        self.balance(&finished);
        assert_eq!(finished.code(), Some(5), "a gap is refused:\n{}", finished.stderr);
        let named = self.deleted.iter().any(|below| *below > 0 && finished.stderr.contains(&below.to_string()));
        assert!(named && finished.stderr.contains("hint: "), "{:?} is not named:\n{}", self.deleted, finished.stderr);
    }

    /// Deletes the topic under its members and creates it again.
    #[track_caller]
    fn recreated(&mut self, longer: bool, dice: &mut Dice) {
        let wanted = self.members.len();
        self.wait_for_members(wanted);
        self.progress(i64::MAX);
        self.absorb();
        let ends = self.ends();
        let settings = [("max.message.bytes", self.scenario.max_message_bytes.to_string())];
        self.clusters.source.delete_topic(&self.topic);
        self.clusters.source.create_topic(&self.topic, self.partitions, &[(settings[0].0, &settings[0].1)]);
        let before = ends.iter().sum::<i64>().unsigned_abs();
        let records = if longer { before + 400 } else { (before / 3).max(1) };
        self.workload.restart();
        self.sender = sender(&self.clusters.source, self.scenario);
        self.produce(records, false, dice);
        self.ledger.incarnation += 1;
        self.absorb();
        // Each member that reads the topic refuses to go on; one that has no partitions may not notice.
        let begun = Instant::now();
        while self.members.iter_mut().all(Running::is_running) {
            assert!(begun.elapsed() < STANDSTILL, "no member has noticed that the topic is another one");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_secs(2));
        let mut refused = 0;
        while let Some(mut member) = self.members.pop() {
            if member.is_running() {
                member.signal("TERM");
            }
            let finished = member.wait();
            if ended_at_its_start(&finished) {
                continue;
            }
            self.balance(&finished);
            assert!(matches!(finished.code(), Some(0 | 5)), "{:?}:\n{}", finished.code(), finished.stderr);
            refused += u64::from(finished.code() == Some(5));
            if finished.code() == Some(5) {
                assert!(finished.stderr.contains(&self.topic) && finished.stderr.contains("hint: "), "{}", finished.stderr);
            }
        }
        assert!(refused > 0, "no member refused");
        if self.scenario.command == Command::Replicate {
            // Records that a member wrote before it noticed are written again.
            self.repeats.unknown += 1;
            self.killed = true;
            self.catch_up("--from-beginning");
        } else {
            // The documents of the old topic have the ids of the new one.
            let finished = self.sdl(None, "--until-caught-up --from-beginning").run();
            assert_eq!(finished.code(), Some(5), "other records under the same ids are refused:\n{}", finished.stderr);
            let old: Vec<Place> = self.ledger.records.keys().filter(|place| place.1 == 0).copied().collect();
            self.ledger.records.retain(|place, _| old.contains(place));
        }
    }

    #[track_caller]
    fn judge(mut self) -> Figures {
        self.say("judge");
        if !matches!(self.scenario.ending, Ending::Recreated { .. }) {
            self.absorb();
        }
        let records = self.ledger.records.len() as u64;
        let (mut findings, delivered) = if self.scenario.command == Command::Replicate {
            let seen = read_with_kcat(&self.clusters.target, &self.topic);
            (compare(&self.ledger, &seen), seen.len() as u64)
        } else {
            let documents = self.target.documents(&self.topic);
            (compare_documents(&self.ledger, &self.topic, &documents), documents.len() as u64)
        };
        let dead = self.dead_letters(&mut findings);
        self.missing(&mut findings, &dead);
        self.repeated(&mut findings);
        // A record that is on its way from a member that loses its partition may be written, and counts as released.
        let exact = !self.killed && self.repeats.unknown == 0;
        let miscounted = self.reported > delivered || (exact && self.reported != delivered);
        if self.scenario.command == Command::Replicate && miscounted {
            findings
                .wrong
                .push(format!("the summaries count {} delivered records, and the target has {delivered}", self.reported));
        }
        findings.wrong.truncate(20);
        assert!(findings.wrong.is_empty(), "{:#?}", findings.wrong);
        self.target.clean(&self.topic);
        Figures { records, delivered, repeated: findings.repeated, faults: self.faults }
    }

    /// Returns the places of the dead letters. Only records that the target does not take may be among them.
    fn dead_letters(&self, findings: &mut Findings) -> Vec<Place> {
        let Some(limit) = self.scenario.target_max_message_bytes else { return Vec::new() };
        let mut dead = Vec::new();
        for letter in read_with_kcat(&self.clusters.target, &format!("{}-dead", self.topic)) {
            let header = |name: &str| {
                let found = letter.content.headers.iter().find(|(found, _)| *found == format!("__connect.errors.{name}"));
                let text = String::from_utf8(found.and_then(|(_, value)| value.clone()).expect("a header of a letter"));
                text.expect("text").parse::<i64>().expect("a number")
            };
            let place = |incarnation| (i32::try_from(header("partition")).expect("small"), incarnation, header("offset"));
            let known = (0..=self.ledger.incarnation)
                .map(place)
                .find(|place| self.ledger.records.get(place).is_some_and(|known| known.timestamp == letter.content.timestamp));
            match known {
                Some(place) if batch_bytes(&self.ledger.records[&place]) > limit => dead.push(place),
                other => findings.wrong.push(format!("a dead letter of {other:?} that fits, or of another record")),
            }
        }
        dead
    }

    /// Adds the records that are missing for no good reason, and those that are there and should have been filtered.
    fn missing(&self, findings: &mut Findings, dead: &[Place]) {
        let filtered = |content: &Content| {
            self.scenario.filtered_below.is_some_and(|below| {
                let value: serde_json::Value =
                    serde_json::from_slice(content.value.as_deref().unwrap_or_default()).expect("the records are JSON");
                value["n"].as_u64().expect("a number") < below
            })
        };
        let last = if self.scenario.compacted { Some(read_with_kcat(&self.clusters.source, &self.topic)) } else { None };
        let compacted = |place: &Place| {
            last.as_ref().is_some_and(|last| !last.iter().any(|seen| (seen.partition, seen.offset) == (place.0, place.2)))
        };
        let excused = |place: &Place| {
            let old = place.1 < self.ledger.incarnation && self.scenario.compacted;
            let below = self.deleted[usize::try_from(place.0).expect("an index")];
            old || place.2 < below || dead.contains(place) || compacted(place) || filtered(&self.ledger.records[place])
        };
        let missing: Vec<_> = findings.missing.iter().filter(|place| !excused(place)).collect();
        if !missing.is_empty() {
            let wrong = format!("{} are lost, {:?} ... {:?}", missing.len(), missing.first(), missing.last());
            findings.wrong.push(wrong);
        }
        let there = self.ledger.records.iter().filter(|(place, content)| filtered(content) && !findings.missing.contains(place));
        if let Some((place, _)) = there.into_iter().next() {
            findings.wrong.push(format!("{place:?} is there and does not meet the condition"));
        }
    }

    /// Adds unexplained repetitions.
    fn repeated(&self, findings: &mut Findings) {
        let mut wrong = Vec::new();
        for (before, again) in &findings.rewinds {
            let partition = usize::try_from(again.0).expect("an index");
            // The stretch begins with the first record that is there behind a committed position.
            let begins = |committed: &Vec<i64>| {
                let position = committed.get(partition).copied().unwrap_or(0);
                let behind = (again.0, again.1, position)..*again;
                position <= again.2 && !self.ledger.records.range(behind).any(|(place, _)| !findings.missing.contains(place))
            };
            if self.repeats.unknown == 0 && !self.repeats.from.iter().any(begins) {
                wrong.push(format!("{again:?} stands behind {before:?}, and no run began there: {:?}", self.repeats.from));
            }
        }
        let times = usize::try_from(self.repeats.unknown).expect("few") * 2 + self.repeats.from.len();
        for partition in 0..self.partitions {
            let rewinds = findings.rewinds.iter().filter(|(_, again)| again.0 == partition).count();
            if rewinds > times {
                wrong.push(format!("partition {partition} goes back {rewinds} times, for {times} reasons"));
            }
        }
        findings.wrong.extend(wrong);
    }
}
