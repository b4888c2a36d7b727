//! Feeds mutated inputs to a decoder and holds it to its promises: no panic, no hang, bounded allocation, and whatever else
//! its *target* checks. No nightly compiler, no instrumentation: mutation of a corpus, in process, repeatable by its seed.
//!
//! - The corpus of a target is `seeds/corpus/<target>` and what the target makes itself; all of it is tried first, unmutated.
//! - `TESTS_FUZZ_INPUTS` is the number of inputs over all targets, by [`SHARES`]; without it a few seconds' worth.
//! - `TESTS_FUZZ_SEED` starts another run. A run prints its inputs, how many were accepted, and its seed.
//! - An input that fails is printed in hexadecimal. Kept as a file in the corpus, it is tried first for ever.
//!
//! Allocation is counted over the whole judgement of an input, what was freed again included: a bound on that is one on the
//! memory held at any time, too. A hang is an input that takes longer than [`HANG`]: far more than any takes on a busy
//! machine, since the watchdog ends the process.
//!
//! What it deliberately is not: guided by coverage. What gets far is kept as a starting point, judged by its being accepted.

mod chance;

pub use chance::Chance;

use std::{
    env, fs,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How many of each thousand inputs a target gets, by what is at stake and what an input costs.
pub const SHARES: [(&str, u64); 11] = [
    ("report", 180),
    ("line_protocol", 150),
    ("decided", 160),
    ("journal", 120),
    ("checkpoint", 90),
    ("registry", 80),
    ("outbox", 70),
    ("topic", 60),
    ("cursor", 60),
    ("gateway_config", 20),
    ("edge_config", 10),
];

/// An input that takes longer hangs.
pub const HANG: Duration = Duration::from_secs(30);

const INPUTS_BY_DEFAULT: u64 = 20_000;
const SEED_BY_DEFAULT: u64 = 0x9e37_79b9_7f4a_7c15;
const CORPUS_MAX: usize = 512;
/// Inputs do not grow for ever by being kept.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// One decoder and what it is held to.
pub struct Target<'a> {
    /// As in [`SHARES`], and the folder of its corpus.
    pub name: &'static str,
    /// Inputs that it makes itself.
    pub made: Vec<Vec<u8>>,
    /// Pieces that the format knows: a mutation may insert one.
    pub words: &'static [&'static [u8]],
    /// Makes a mutated input valid again where a checksum would hide the mutation; asked for every second one.
    pub mend: &'a dyn Fn(&mut [u8]),
    /// Bytes that an input may make it allocate.
    pub allocated_max: usize,
    /// All bytes allocated so far by this process.
    pub allocated: &'a dyn Fn() -> usize,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Inputs tried.
    pub inputs: u64,
    /// Inputs that were what the decoder reads.
    pub accepted: u64,
    /// The most that one made it allocate.
    pub allocated: usize,
}

/// Runs a target; `judge` panics where a promise is broken, and says whether the input was what the decoder reads.
///
/// # Panics
/// Where `judge` does, or an input makes it allocate more than the target allows.
pub fn run(target: &Target<'_>, mut judge: impl FnMut(&[u8]) -> bool) -> Outcome {
    let total = number("TESTS_FUZZ_INPUTS").unwrap_or(INPUTS_BY_DEFAULT);
    let seed = number("TESTS_FUZZ_SEED").unwrap_or(SEED_BY_DEFAULT);
    let wanted = inputs_of(target.name, total);
    let begun = Instant::now();
    let watchdog = Watchdog::start(target.name);
    let mut corpus = corpus_of(target.name);
    corpus.extend(target.made.iter().cloned());
    assert!(!corpus.is_empty(), "{} has nothing to begin with", target.name);
    let mut chance = Chance::new(seed);
    let mut outcome = Outcome { inputs: 0, accepted: 0, allocated: 0 };
    let first = corpus.len();
    for at in 0..first.max(usize::try_from(wanted).unwrap_or(usize::MAX)) {
        let mutated = at >= first;
        let mut input = if mutated { chance.mutated(&corpus, target.words) } else { corpus[at].clone() };
        if mutated && chance.below(2) == 0 {
            (target.mend)(&mut input);
        }
        let accepted = watchdog.watch(&input, || try_one(target, &input, &mut judge, &mut outcome));
        outcome.inputs += 1;
        outcome.accepted += u64::from(accepted);
        // What is still accepted leads further from where it came than what is not.
        if mutated && accepted && input.len() <= KEPT_BYTES_MAX && chance.below(50) == 0 {
            if corpus.len() < first + CORPUS_MAX {
                corpus.push(input);
            } else {
                let place = first + chance.below(CORPUS_MAX);
                corpus[place] = input;
            }
        }
    }
    let Outcome { inputs, accepted, allocated } = outcome;
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!(
        "{:<15} {inputs:>9} inputs, {accepted:>9} accepted, {allocated:>9} bytes at most, {seconds:>6.1} s, seed {seed:#x}",
        target.name
    ));
    outcome
}

fn try_one(
    target: &Target<'_>,
    input: &[u8],
    judge: &mut impl FnMut(&[u8]) -> bool,
    outcome: &mut Outcome,
) -> bool {
    let before = (target.allocated)();
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let accepted = judge(input);
        let allocated = (target.allocated)() - before;
        outcome.allocated = outcome.allocated.max(allocated);
        assert!(
            allocated <= target.allocated_max,
            "allocates {allocated} bytes, of {} at most",
            target.allocated_max
        );
        accepted
    }));
    judged.unwrap_or_else(|panic| {
        say(&format!("{} fails on: {}", target.name, hex(input)));
        resume_unwind(panic)
    })
}

/// A target's part of all inputs, at least one.
#[must_use]
pub fn inputs_of(name: &str, total: u64) -> u64 {
    let all: u64 = SHARES.iter().map(|(_, share)| share).sum();
    let own = SHARES.iter().find(|(known, _)| *known == name).map_or(0, |(_, share)| *share);
    (total.saturating_mul(own) / all).max(1)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.replace('_', "").parse(),
    };
    Some(parsed.unwrap_or_else(|_| fail(&format!("{variable} is no number: {text}"))))
}

/// The files of a target's corpus, by name.
fn corpus_of(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds/corpus").join(name);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path| fs::read(&path).unwrap_or_else(|error| fail(&format!("{path:?}: {error}")));
    paths.into_iter().map(read).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn say(words: &str) {
    // Where nobody listens, there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{words}");
}

fn fail(words: &str) -> ! {
    say(words);
    process::exit(1)
}

/// Ends the process, with the input that it was at, where one takes too long.
struct Watchdog(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    input: Vec<u8>,
    since: Option<Instant>,
    over: bool,
}

impl Watchdog {
    fn start(name: &'static str) -> Self {
        let watched = Arc::new(Mutex::new(Watched::default()));
        let theirs = Arc::clone(&watched);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let watched = lock(&theirs);
                if watched.over {
                    return;
                }
                if watched.since.is_some_and(|since| since.elapsed() > HANG) {
                    fail(&format!("{name} hangs on: {}", hex(&watched.input)));
                }
            }
        });
        Self(watched)
    }

    fn watch<T>(&self, input: &[u8], judge: impl FnOnce() -> T) -> T {
        {
            let mut watched = lock(&self.0);
            watched.input.clear();
            watched.input.extend_from_slice(input);
            watched.since = Some(Instant::now());
        }
        let judged = judge();
        lock(&self.0).since = None;
        judged
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        lock(&self.0).over = true;
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn target<'a>(allocated: &'a dyn Fn() -> usize) -> Target<'a> {
        Target {
            name: "topic",
            made: vec![b"seed".to_vec()],
            words: &[],
            mend: &|_| {},
            allocated_max: 100,
            allocated,
        }
    }

    #[test]
    fn shares_make_up_all_inputs() {
        assert_eq!(SHARES.iter().map(|(_, share)| share).sum::<u64>(), 1_000);
        assert_eq!(SHARES.iter().map(|(name, _)| inputs_of(name, 1_000_000)).sum::<u64>(), 1_000_000);
    }

    #[test]
    fn a_run_is_repeated_by_its_seed_and_reaches_both_sides() {
        let inputs = || {
            let mut seen = Vec::new();
            let outcome = run(&target(&|| 0), |input| {
                seen.push(input.to_vec());
                input.len() > 4
            });
            (outcome, seen)
        };
        let (outcome, seen) = inputs();
        assert_eq!(inputs(), (outcome, seen.clone()));
        assert!(outcome.accepted > 0 && outcome.accepted < outcome.inputs);
        assert!(seen.contains(&b"seed".to_vec()), "what it makes itself is tried as it is");
    }

    #[test]
    #[should_panic(expected = "a broken promise")]
    fn a_panic_is_the_targets() {
        run(&target(&|| 0), |input| {
            assert!(input.len() < 6, "a broken promise");
            true
        });
    }

    #[test]
    #[should_panic(expected = "allocates 101 bytes, of 100 at most")]
    fn allocation_beyond_the_bound_is_seen() {
        let allocated = Cell::new(0);
        run(&target(&|| allocated.get()), |_| {
            allocated.set(allocated.get() + 101);
            true
        });
    }
}
