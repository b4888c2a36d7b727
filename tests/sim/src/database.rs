//! A time-series database as a sink sees it: points by (series, time), the newest write of a point standing, and all the ways
//! of not answering. It is apart from the code under test, and parses what it is sent by itself.

use std::collections::BTreeMap;

/// How it is, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// It stores and says so.
    #[default]
    Well,
    /// Nobody is there.
    Away,
    /// It stores, and the answer is lost.
    Mute,
    /// 500 without a word.
    Broken,
    /// 429 with `Retry-After`.
    Busy,
    /// 413 beyond so many lines.
    Narrow(usize),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// An HTTP status.
    Status(u16, Option<u64>),
    /// Nothing, in time.
    Nothing,
}

/// A point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `name=value`, as sent.
    pub fields: String,
    /// How often it was written with these very fields or others.
    pub writes: u32,
    /// It was once something else.
    pub changed: bool,
}

/// The database.
#[derive(Debug, Default)]
pub struct Database {
    /// By series and time.
    pub points: BTreeMap<(String, i64), Point>,
    /// How it is.
    pub mood: Mood,
    /// Lines that it could not read: always a defect.
    pub unreadable: u64,
}

impl Database {
    /// Takes a request.
    pub fn write(&mut self, body: &[u8], lines: usize) -> Answered {
        match self.mood {
            Mood::Away => Answered::Nothing,
            Mood::Broken => Answered::Status(500, None),
            Mood::Busy => Answered::Status(429, Some(1)),
            Mood::Narrow(most) if lines > most => Answered::Status(413, None),
            Mood::Mute => {
                self.store(body);
                Answered::Nothing
            }
            Mood::Well | Mood::Narrow(_) => {
                self.store(body);
                Answered::Status(204, None)
            }
        }
    }

    fn store(&mut self, body: &[u8]) {
        let Ok(text) = std::str::from_utf8(body) else {
            self.unreadable += 1;
            return;
        };
        for line in text.lines() {
            let mut parts = line.split(' ');
            let parsed = (parts.next(), parts.next(), parts.next().map(str::parse::<i64>), parts.next());
            let (Some(series), Some(fields), Some(Ok(time_ms)), None) = parsed else {
                self.unreadable += 1;
                continue;
            };
            let point = self.points.entry((series.to_owned(), time_ms)).or_insert_with(|| Point {
                fields: fields.to_owned(),
                writes: 0,
                changed: false,
            });
            point.writes += 1;
            if point.fields != fields {
                point.changed = true;
                fields.clone_into(&mut point.fields);
            }
        }
    }
}
