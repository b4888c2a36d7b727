//! How to behave towards a database over HTTP: what an answer means, how long to wait, and how to find the line that it
//! refuses. Pure: answers and random numbers in, decisions out; the shell sends and sleeps.
//!
//! | answer | meaning | then |
//! |---|---|---|
//! | 204 | taken | next |
//! | none, 408, 429, 5xx but as below | not now | the same again, after a growing random wait or as long as `Retry-After` says |
//! | 400, 422, or 500 that speaks of a partial write | some line is bad | halves, down to the one line: dead letter |
//! | 413 | too much at once | halves; a single line: dead letter |
//! | anything else (401, 403, 404, redirects, a 200) | not the database that was meant | keep everything, try each minute |
//!
//! A database that refuses [`REFUSED_IN_A_ROW_MAX`] lines one after another and takes none is not refusing lines, but
//! this gateway: then everything is kept and tried each minute, too, instead of emptying the log into quarantine. Points
//! beyond the database's retention are the exception, since a long backlog can consist of them.
//!
//! Retries repeat identical bytes, which the database takes as once. There is no last retry: the data waits in the log.

mod backoff;
pub(crate) mod http;
mod repeats;

pub use backoff::{Backoff, HELD_MS, MQTT_WAITS, WAIT_MS_MAX, Waits};
pub use repeats::Repeats;

use std::ops::Range;

/// Single lines refused in a row, with none taken, before the database counts as misconfigured.
pub const REFUSED_IN_A_ROW_MAX: u32 = 64;

const WORDS_BYTES_MAX: usize = 300;

/// What came back from a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// An HTTP answer.
    Status {
        /// Its code.
        code: u16,
        /// Its `Retry-After`, in seconds; a date there counts as none.
        retry_after_s: Option<u64>,
        /// The beginning of its body.
        body: &'a str,
    },
    /// No answer: not connected, cut off, or too late. With the reason.
    None(&'a str),
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All lines are stored.
    Taken,
    /// The same again later.
    Later,
    /// Only a person can mend this.
    Misconfigured,
    /// Fewer lines at once.
    TooLarge,
    /// Some line is bad.
    BadLine,
}

impl Answer<'_> {
    /// What it means.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Self::Status { code, body, .. } = *self else { return Verdict::Later };
        match code {
            204 => Verdict::Taken,
            400 | 422 => Verdict::BadLine,
            // Older InfluxDB 2 answers so to points beyond its retention; repeating them would never end.
            500 if body.contains("partial write") || speaks_of_retention(body) => Verdict::BadLine,
            413 => Verdict::TooLarge,
            408 | 429 | 500 | 502..=504 => Verdict::Later,
            _ => Verdict::Misconfigured,
        }
    }

    /// In words for people, bounded, on one line.
    #[must_use]
    pub fn words(&self) -> String {
        let (code, text) = match *self {
            Self::Status { code, body, .. } => (Some(code), body),
            Self::None(reason) => (None, reason),
        };
        let mut words = code.map_or_else(String::new, |code| code.to_string());
        for part in text.split(|c: char| c.is_control() || c == ' ').filter(|part| !part.is_empty()) {
            if words.len() + part.len() >= WORDS_BYTES_MAX {
                words.push('…');
                break;
            }
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(part);
        }
        words
    }
}

fn speaks_of_retention(body: &str) -> bool {
    body.contains("retention")
}

/// A line that the database refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// Counted from 0 in its batch.
    pub line: usize,
    /// The database's.
    pub words: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send [`Delivery::lines`].
    Send,
    /// Wait, then send them.
    Wait {
        /// How long, in milliseconds.
        wait_ms: u64,
        /// Because of a configuration, not of the moment?
        held: bool,
    },
    /// Every line is stored or refused.
    Done,
}

/// One batch on its way, from its first attempt until every line is stored or refused.
#[derive(Debug)]
pub struct Delivery {
    total: usize,
    /// Ranges of lines still to be sent, the next one last. At most two a halving.
    open: Vec<Range<usize>>,
    backoff: Backoff,
    refused: Vec<RefusedLine>,
    refused_in_a_row: u32,
    too_large: bool,
}

impl Delivery {
    /// A batch of that many lines, after so many lines refused in a row.
    #[must_use]
    pub fn new(lines: usize, refused_in_a_row: u32) -> Self {
        Self {
            total: lines,
            open: whole(lines),
            backoff: Backoff::default(),
            refused: Vec::new(),
            refused_in_a_row,
            too_large: false,
        }
    }

    /// The lines to send now; `None`: done.
    #[must_use]
    pub fn lines(&self) -> Option<Range<usize>> {
        self.open.last().cloned()
    }

    /// Takes the answer to [`Self::lines`].
    pub fn answered(&mut self, answer: &Answer<'_>, random: u64) -> Step {
        let Some(lines) = self.lines() else { return Step::Done };
        match answer.verdict() {
            Verdict::Taken => {
                self.open.pop();
                self.backoff = Backoff::default();
                self.refused_in_a_row = 0;
            }
            Verdict::Later => {
                let retry_after_s = match answer {
                    Answer::Status { retry_after_s, .. } => *retry_after_s,
                    Answer::None(_) => None,
                };
                return Step::Wait { wait_ms: self.backoff.next_ms(retry_after_s, random), held: false };
            }
            Verdict::Misconfigured => return Step::Wait { wait_ms: HELD_MS, held: true },
            Verdict::TooLarge => {
                self.too_large = true;
                self.halve(lines, answer);
            }
            Verdict::BadLine => {
                self.halve(lines, answer);
                if self.refused_in_a_row >= REFUSED_IN_A_ROW_MAX {
                    return self.start_over();
                }
            }
        }
        if self.open.is_empty() { Step::Done } else { Step::Send }
    }

    /// Lines refused, in order.
    #[must_use]
    pub fn into_refused(mut self) -> Vec<RefusedLine> {
        self.refused.sort_by_key(|refused| refused.line);
        self.refused
    }

    /// Single lines refused since the database last took something.
    #[must_use]
    pub fn refused_in_a_row(&self) -> u32 {
        self.refused_in_a_row
    }

    /// Was the batch more than the database takes at once?
    #[must_use]
    pub fn was_too_large(&self) -> bool {
        self.too_large
    }

    fn halve(&mut self, lines: Range<usize>, answer: &Answer<'_>) {
        self.open.pop();
        if lines.len() > 1 {
            let middle = lines.start + lines.len() / 2;
            self.open.push(middle..lines.end);
            self.open.push(lines.start..middle);
            return;
        }
        let exempt = matches!(answer, Answer::Status { body, .. } if speaks_of_retention(body));
        if !exempt {
            self.refused_in_a_row += 1;
        }
        self.refused.push(RefusedLine { line: lines.start, words: answer.words() });
    }

    fn start_over(&mut self) -> Step {
        self.open = whole(self.total);
        self.refused.clear();
        Step::Wait { wait_ms: HELD_MS, held: true }
    }
}

fn whole(lines: usize) -> Vec<Range<usize>> {
    if lines == 0 { Vec::new() } else { std::iter::once(0..lines).collect() }
}

#[cfg(test)]
mod tests;
