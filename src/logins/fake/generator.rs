//! Generates fake logins.

use std::ops::Range;

use bytes::Bytes;

use crate::logins::fake::plan::{Clock, FakePlan, Malformation, RecordKey, TimestampFormat};
use crate::logins::fake::random::{Random, scale};
use crate::logins::fake::render::LoginEvent;
use crate::logins::fake::user::{User, hex, public_address};
use crate::record::{Headers, Partition, Record};

/// One of this many logins comes from another address than the user's own.
const AWAY_ONE_IN: u64 = 5;
const HUGE_FIELD_BYTES: usize = 900_000;

/// Generates the logins of a plan.
///
/// Faults have a random stream of their own: a seed gives the same logins with and without faults.
#[derive(Clone, Debug)]
pub struct Generator {
    plan: FakePlan,
    partition: Partition,
    random: Random,
    faults: Random,
    /// Records generated; the offset of the next record.
    records: u64,
    /// Logins generated: records without duplicates.
    logins: u64,
    /// Key and value of a record whose duplicate is due.
    pending_duplicate: Option<(Option<Bytes>, Option<Bytes>)>,
}

/// The ranges of a key and a value in the buffer of the batch.
type Span = (Option<Range<usize>>, Option<Range<usize>>);

impl Generator {
    /// Returns the generator of `plan`; its records belong to `partition` and have no timestamp.
    #[must_use]
    pub fn new(plan: FakePlan, partition: Partition) -> Self {
        let (random, faults) = (Random::new(plan.seed, 0), Random::new(plan.seed, 1));
        Self { plan, partition, random, faults, records: 0, logins: 0, pending_duplicate: None }
    }

    /// Returns the next records, at most `most`; none after the plan's count.
    pub fn batch(&mut self, most: usize) -> Vec<Record> {
        let left = self.plan.count.map_or(u64::MAX, |count| count.saturating_sub(self.records));
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if most == 0 {
            return Vec::new();
        }
        let first = self.pending_duplicate.take();
        let mut buffer = Vec::with_capacity(most.min(10_000) * 256);
        let mut spans: Vec<Span> = Vec::with_capacity(most);
        let room = most - usize::from(first.is_some());
        let mut again = false;
        while spans.len() < room {
            let span = self.login(&mut buffer);
            spans.push(span.clone());
            if self.faults.chance(self.plan.duplicates) {
                again = spans.len() == room;
                if !again {
                    spans.push(span);
                }
            }
        }
        let buffer = Bytes::from(buffer);
        let cut = |range: Option<Range<usize>>| range.map(|range| buffer.slice(range));
        let cuts = spans.into_iter().map(|(key, value)| (cut(key), cut(value)));
        let records: Vec<_> = first.into_iter().chain(cuts).map(|(key, value)| self.record(key, value)).collect();
        if again {
            self.pending_duplicate = records.last().map(|record| (record.key.clone(), record.value.clone()));
        }
        records
    }

    fn record(&mut self, key: Option<Bytes>, value: Option<Bytes>) -> Record {
        let offset = i64::try_from(self.records).expect("fewer than 2^63 records");
        self.records += 1;
        Record { partition: self.partition, offset, timestamp: None, key, value, headers: Headers::new() }
    }

    /// Writes key and value of the next login.
    fn login(&mut self, out: &mut Vec<u8>) -> Span {
        // The square makes few users frequent and most of them rare.
        let draw = self.random.bits();
        let person = User::new(self.plan.seed, scale(scale(draw, draw), self.plan.users.max(1)));
        let away = self.random.below(AWAY_ONE_IN) == 0;
        let elsewhere = public_address(&mut self.random);
        let salt = self.random.bits();

        let start = out.len();
        match self.plan.key {
            RecordKey::UserId => out.extend_from_slice(&person.user_id),
            RecordKey::DeviceId => out.extend_from_slice(&person.device_id),
            RecordKey::Random => salt.to_be_bytes().into_iter().for_each(|byte| out.extend_from_slice(&hex(byte))),
            RecordKey::None => {}
        }
        let key = (self.plan.key != RecordKey::None).then_some(start..out.len());

        let start = out.len();
        let fault = self.next_fault();
        let missing = self.plan.missing.iter().fold(0, |all, one| all | u8::from(self.faults.chance(one.fraction)) << one.field);
        let event = LoginEvent {
            ip: if away { elsewhere } else { person.ip },
            user: person,
            time: self.time(),
            missing_fields: missing,
            time_as_text: self.plan.timestamps == TimestampFormat::String,
            has_wrong_types: fault == Some(Malformation::WrongType),
        };
        event.write(out);
        self.corrupt(fault, start, out);
        self.logins += 1;
        (key, (fault != Some(Malformation::Null)).then_some(start..out.len()))
    }

    fn time(&mut self) -> i64 {
        let now = match self.plan.clock {
            Clock::Live(now) => now(),
            Clock::Steps { start, step } => {
                let passed = step.as_nanos().saturating_mul(u128::from(self.logins)) / 1_000_000_000;
                start.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
            }
        };
        match self.plan.late {
            Some(late) if self.faults.chance(late.fraction) => now.saturating_sub(late.seconds),
            _ => now,
        }
    }

    fn next_fault(&mut self) -> Option<Malformation> {
        let malformed = self.plan.malformed.as_ref().filter(|malformed| self.faults.chance(malformed.fraction))?;
        let kinds = &malformed.kinds;
        kinds.get(usize::try_from(self.faults.below(kinds.len() as u64)).expect("few kinds")).copied()
    }

    /// Applies a fault to the value that begins at `start`.
    fn corrupt(&mut self, fault: Option<Malformation>, start: usize, out: &mut Vec<u8>) {
        let mut field = |name: &[u8], value: &[u8]| {
            out.pop();
            out.extend_from_slice(if out.len() == start + 1 { b"\"" } else { b", \"" });
            out.extend_from_slice(name);
            out.extend_from_slice(b"\": \"");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\"}");
        };
        match fault {
            None | Some(Malformation::WrongType) => {}
            Some(Malformation::NotUtf8) => field(b"note", b"\xc3\x28\xff"),
            Some(Malformation::Huge) => field(b"padding", &vec![b'x'; HUGE_FIELD_BYTES]),
            Some(Malformation::Array) => {
                out.insert(start, b'[');
                out.push(b']');
            }
            Some(Malformation::Truncated) => {
                let length = out.len() - start;
                let kept = 1 + usize::try_from(self.faults.below(length as u64 - 1)).expect("below the length");
                out.truncate(start + kept);
            }
            Some(Malformation::Null) => out.truncate(start),
        }
    }
}

#[cfg(test)]
#[path = "generator_tests.rs"]
mod tests;
