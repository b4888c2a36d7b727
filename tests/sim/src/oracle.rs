//! Who knows what is true: every sample that an outbox made durable, and what the durable watermark passed, against what
//! is in the database and in quarantine. It reads the edge's own books and the stores; never the gateway's.

use crate::{database::Database, edge::Wire, fleet::Crew, sink::Refused};
use hunhe_edge::{run::agent::Agent, samples::Samples};
use hunhe_edge_core::outbox::{Range, State};
use hunhe_proto::{
    class::Class,
    id::Id,
    reading::{ABSENT, Drop, DropCause},
};
use std::collections::{BTreeMap, BTreeSet};

/// Sequence numbers by device and boot.
pub type Marks = BTreeMap<(Id, u32), u64>;

/// A sample's identity: the device's name, the outbox, the sequence number.
type Key = (String, u32, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    time_ms: i64,
    values: Box<[i64]>,
}

impl Sample {
    fn of(row: &[i64]) -> Self {
        Self { time_ms: row[0], values: row[1..].into() }
    }
}

/// One outbox of one device.
#[derive(Debug, Default)]
struct Book {
    /// By sequence number: those that the outbox called durable.
    samples: Vec<Sample>,
    /// Taken behind those; a crash may take them away, and then the next ones bear their numbers.
    uncommitted: Vec<Sample>,
    /// Passed by the watermark: below it all is acknowledged.
    through: u64,
    /// Declared lost, durably.
    dropped: BTreeSet<u64>,
    /// The outbox's list when `dropped` was last brought up to date.
    drops: Vec<Drop>,
    /// Declared lost; a crash may take that back where nobody was told.
    undeclared: BTreeSet<u64>,
}

/// The books of all outboxes, by device and boot.
#[derive(Debug, Default)]
pub struct Oracle {
    books: BTreeMap<(Id, u32), Book>,
    /// The outbox that each device has.
    boots: BTreeMap<Id, u32>,
    /// Devices that were not configured once.
    removed: BTreeSet<Id>,
    /// What was found wrong on the way.
    faults: Vec<String>,
    /// Journal records that were acknowledged: number → checksum.
    pub journaled: BTreeMap<u64, u32>,
}

/// What a history came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples taken.
    pub taken: u64,
    /// Acknowledged and nowhere.
    pub lost: u64,
    /// In two places.
    pub doubled: u64,
    /// Never taken, or not so.
    pub invented: u64,
    /// In the database.
    pub stored: u64,
    /// In quarantine.
    pub quarantined: u64,
    /// Declared lost by the edge.
    pub dropped: u64,
    /// Two samples of a device that bear one time: the database keeps one of them.
    pub displaced: u64,
}

impl Oracle {
    /// An agent is about to make durable what it took.
    pub fn appended(&mut self, crew: &Crew, agent: &Agent<Wire>) {
        for (index, (device, state)) in outboxes(crew, agent).enumerate() {
            let samples = agent.samples(index);
            let book = self.books.entry((device, state.boot)).or_default();
            let fresh = Range { start: book.samples.len() as u64, end: samples.next_seq() };
            book.uncommitted.clear();
            book.uncommitted.extend(samples.rows(fresh).map(Sample::of));
            book.undeclared.extend(state.drops.iter().flat_map(|drop| drop.seq..drop.seq + drop.count));
        }
    }

    /// An agent has made its outbox durable: what it took, and where `declared` what it gave up.
    pub fn committed(&mut self, crew: &Crew, agent: &Agent<Wire>, declared: bool) {
        for (index, (device, state)) in outboxes(crew, agent).enumerate() {
            let samples = agent.samples(index);
            let book = self.books.entry((device, state.boot)).or_default();
            book.samples.append(&mut book.uncommitted);
            if book.samples.len() as u64 != samples.next_seq() {
                let words = format!(
                    "{device}: {} samples, of which it shows {}",
                    samples.next_seq(),
                    book.samples.len()
                );
                self.faults.push(words);
            }
            if declared {
                book.note_drops(state);
            }
        }
    }

    /// An agent has started from its disk: everything it had made durable is there as it was, or passed; nothing is there
    /// that it never took. Of its devices so many are configured: what the others owed may be declared lost, and where they owed
    /// nothing another outbox may follow. One follows where nothing was ever taken, too.
    pub fn recovered(&mut self, crew: &Crew, configured: usize, agent: &Agent<Wire>) {
        self.removed.extend(crew.devices.iter().skip(configured).map(|(device, _)| *device));
        for (index, (device, state)) in outboxes(crew, agent).enumerate() {
            let samples = agent.samples(index);
            let before = self.boots.insert(device, state.boot).filter(|before| {
                let book = self.books.get(&(device, *before));
                let over = book.is_none_or(Book::owes_nothing) && self.removed.contains(&device);
                let unused = book.is_none_or(|book| book.samples.is_empty());
                *before == state.boot || !(over || unused)
            });
            let is_known = self.books.contains_key(&(device, state.boot));
            let book = self.books.entry((device, state.boot)).or_default();
            let words = if before.is_some_and(|before| before != state.boot) {
                Some(format!("boot {before:08x?} is gone"))
            } else if before.is_none() && is_known {
                Some("its boot was used before".to_owned())
            } else {
                book.recover(state, samples, index < configured)
            };
            self.faults.extend(words.map(|words| format!("{device} boot {:08x}: {words}", state.boot)));
        }
    }

    /// The watermark may have passed more.
    pub fn heard(&mut self, crew: &Crew, agent: &Agent<Wire>) {
        for (device, state) in outboxes(crew, agent) {
            let book = self.books.entry((device, state.boot)).or_default();
            book.through = book.through.max(state.through);
        }
    }

    /// How much each outbox has taken by now.
    #[must_use]
    pub fn taken(&self) -> Marks {
        self.books.iter().map(|(key, book)| (*key, book.samples.len() as u64)).collect()
    }

    /// Has the watermark passed all that?
    #[must_use]
    pub fn is_heard(&self, marks: &Marks) -> bool {
        marks.iter().all(|(key, mark)| self.books.get(key).is_none_or(|book| book.through >= *mark))
    }

    /// What of that the watermark has not passed, in words.
    #[must_use]
    pub fn missing(&self, marks: &Marks) -> Vec<String> {
        let behind = |((name, boot), book): (&(Id, u32), &Book)| {
            let mark = *marks.get(&(*name, *boot))?;
            (book.through < mark)
                .then(|| format!("{name}: boot {boot:08x} is acknowledged to {} of {mark}", book.through))
        };
        self.books.iter().filter_map(behind).collect()
    }

    /// The gateway was started: no journal record that was acknowledged may be missing or otherwise.
    pub fn journal(&mut self, oldest: u64, content: &BTreeMap<u64, u32>) {
        for (lsn, checksum) in self.journaled.range(oldest..) {
            if content.get(lsn) != Some(checksum) {
                self.faults.push(format!("journal record {lsn} was acknowledged and is not there"));
            }
        }
    }

    /// Something is wrong that was seen elsewhere.
    pub fn fault(&mut self, words: String) {
        self.faults.push(words);
    }

    /// What was found wrong so far.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// All faults have stopped, everything has drained: what is where?
    pub fn judge(&mut self, crews: &[Crew], database: &Database, refused: &Refused, marks: &Marks) -> Tally {
        let taken = self.books.values().map(|book| book.samples.len() as u64).sum();
        let mut tally = Tally { taken, ..Tally::default() };
        let mut stored: BTreeMap<Key, Vec<i64>> = BTreeMap::new();
        let classes: BTreeMap<&str, &Class> = crews
            .iter()
            .flat_map(|crew| crew.devices.iter().map(|(device, class)| (device.as_str(), &**class)))
            .collect();
        let mut by_time: BTreeSet<(String, i64)> = BTreeSet::new();
        for ((series, time_ms), point) in &database.points {
            let Some(name) = device_of(series) else { continue };
            if is_window(series) {
                continue;
            }
            by_time.insert((name.to_owned(), *time_ms));
            let Some((boot, seq, values)) = read(&point.fields, classes.get(name).copied()) else {
                tally.invented += 1;
                self.faults.push(format!("{series} {time_ms}: {} cannot be read", point.fields));
                continue;
            };
            let key = (name.to_owned(), boot, seq);
            if !self.sample(&key).is_some_and(|sample| sample.time_ms == *time_ms && sample.reads(&values)) {
                tally.invented += 1;
                let was = format!("{:?}", self.sample(&key));
                self.faults.push(format!("{key:?} at {time_ms} is {values:?}; it was {was}"));
            }
            stored.entry(key).or_default().push(*time_ms);
        }
        tally.stored = stored.len() as u64;
        tally.quarantined = refused.len() as u64;
        for (key, times) in &stored {
            if times.len() > 1 || refused.contains_key(key) {
                tally.doubled += 1;
                self.faults.push(format!("{key:?} is stored at {times:?}, refused: {:?}", refused.get(key)));
            }
        }
        for key in refused.keys() {
            if self.sample(key).is_none() {
                tally.invented += 1;
                self.faults.push(format!("{key:?} is in quarantine and was never taken"));
            }
        }
        for ((name, boot), book) in &self.books {
            for (seq, sample) in (0..).zip(&book.samples) {
                let key = (name.as_str().to_owned(), *boot, seq);
                if stored.contains_key(&key) || refused.contains_key(&key) {
                    continue;
                }
                if book.dropped.contains(&seq) {
                    tally.dropped += 1;
                } else if by_time.contains(&(key.0.clone(), sample.time_ms)) {
                    tally.displaced += 1;
                } else if seq < book.through || seq < marks.get(&(*name, *boot)).copied().unwrap_or(0) {
                    tally.lost += 1;
                    let through = book.through;
                    self.faults.push(format!("{key:?} is nowhere; the watermark passed {through}"));
                }
            }
        }
        tally
    }

    fn sample(&self, (name, boot, seq): &Key) -> Option<&Sample> {
        self.books.get(&(Id::new(name).ok()?, *boot))?.samples.get(usize::try_from(*seq).ok()?)
    }
}

impl Sample {
    /// A value that the gateway refused is absent in the database.
    fn reads(&self, values: &[i64]) -> bool {
        self.values.iter().zip(values).all(|(own, read)| own == read || *read == ABSENT)
    }
}

/// The outboxes of an agent's devices. One that is not configured is the last, or has none any more.
fn outboxes<'a>(crew: &'a Crew, agent: &'a Agent<Wire>) -> impl Iterator<Item = (Id, &'a State)> {
    crew.devices.iter().zip(agent.devices()).map(|((device, _), own)| (*device, own.outbox().state()))
}

impl Book {
    fn owes_nothing(&self) -> bool {
        (self.through..self.samples.len() as u64).all(|seq| self.dropped.contains(&seq))
    }

    fn note_drops(&mut self, state: &State) {
        if state.drops.as_slice() != self.drops.as_slice() {
            self.drops = state.drops.to_vec();
            self.dropped.extend(state.drops.iter().flat_map(|drop| drop.seq..drop.seq + drop.count));
        }
        self.undeclared.clear();
    }

    /// Compares with what a start found; says what is wrong.
    fn recover(&mut self, state: &State, samples: &Samples, configured: bool) -> Option<String> {
        let durable = self.samples.len() as u64;
        let taken = durable + self.uncommitted.len() as u64;
        if state.next_seq < durable || state.next_seq > taken {
            return Some(format!(
                "{} samples, of {durable} that were durable and {taken} taken",
                state.next_seq
            ));
        }
        if state.through > self.through {
            return Some(format!("passed to {}, heard {}", state.through, self.through));
        }
        let survived = usize::try_from(state.next_seq - durable).unwrap_or(usize::MAX);
        self.samples.extend(self.uncommitted.drain(..survived));
        self.uncommitted.clear();
        for (seq, sample) in
            (0..).zip(&self.samples).skip(usize::try_from(state.through).unwrap_or(usize::MAX))
        {
            let drop = state.drops.iter().find(|drop| (drop.seq..drop.seq + drop.count).contains(&seq));
            let (known, perhaps) = (self.dropped.contains(&seq), self.undeclared.contains(&seq));
            match drop {
                Some(drop) => {
                    let torn = seq >= durable && drop.cause == DropCause::Damaged;
                    // Where that makes too many drops, some are joined with others.
                    let removed = !configured && matches!(drop.cause, DropCause::Operator | DropCause::Full);
                    if !known && !perhaps && !torn && !removed {
                        return Some(format!("{seq} is declared lost ({:?}) and was durable", drop.cause));
                    }
                }
                None if known => return Some(format!("{seq} was declared lost, and is no longer")),
                None => {
                    let row = samples.rows(Range { start: seq, end: seq + 1 }).next().map(Sample::of);
                    if row.as_ref() != Some(sample) {
                        return Some(format!("{seq} is {row:?}; it was {sample:?}"));
                    }
                }
            }
        }
        self.note_drops(state);
        None
    }
}

fn device_of(series: &str) -> Option<&str> {
    series.split(',').find_map(|tag| tag.strip_prefix("device="))
}

fn is_window(series: &str) -> bool {
    let measurement = series.split(',').next().unwrap_or_default();
    ["_1m", "_15m", "_1h", "_1d"].iter().any(|suffix| measurement.ends_with(suffix))
}

/// Boot, sequence number and the values in the class's order.
fn read(fields: &str, class: Option<&Class>) -> Option<(u32, u64, Vec<i64>)> {
    let class = class?;
    let mut values = vec![ABSENT; class.channels.len()];
    let (mut boot, mut seq) = (None, None);
    for field in fields.split(',') {
        let (name, text) = field.split_once('=')?;
        match name {
            "boot" => boot = text.trim_end_matches(['i', 'u']).parse().ok(),
            "seq" => seq = text.trim_end_matches(['i', 'u']).parse().ok(),
            "quality" => {}
            _ => {
                let index = class.channels.iter().position(|channel| channel.name == name)?;
                values[index] = wire(text, class.channels[index].decimals)?;
            }
        }
    }
    Some((boot?, seq?, values))
}

/// A decimal as an integer of so many decimals.
fn wire(text: &str, decimals: u8) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
    let value: i64 = padded.parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_the_integers_they_were() {
        assert_eq!(wire("12.5", 3), Some(12_500));
        assert_eq!(wire("-0.05", 2), Some(-5));
        assert_eq!(wire("7", 2), Some(700));
    }
}
