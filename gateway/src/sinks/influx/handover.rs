//! Handing over what is durable: dead letters, confirmations, cursor, in this order, and mark after mark.
//!
//! A suspect mark is read back first: its records are read from the decided log once more, made lines of once more, and
//! compared with what the database holds, batch by batch. The lines that it does not hold become dead letters, and the
//! mark's letters and confirmations are replaced by what this found.

use std::collections::HashMap;

use super::{
    DeadLetter, Report,
    batch::{Batch, Sealed},
    deliver::NoExport,
    durability::Mark,
    readback::Search,
    run::{REOPEN_EVERY, Sink},
};
use crate::{
    decided::{
        Confirmation, Decided,
        feed::{Feed, Step},
    },
    retry::RefusedLine,
    sinks::status::State,
};
use hunhe_log::ReadError;
use hunhe_log::cursor::Cursor;

const NOT_THERE: &str = "the database took this line and does not hold it: \
                         is its time outside of the database's retention, or one of its limits reached?";

/// A suspect cannot be judged now.
enum Unjudged {
    /// Later.
    NotNow,
    /// Never: the database does not let itself be read.
    Refused,
    /// The decided log cannot be read.
    Log(ReadError),
}

impl Sink {
    /// Hands over marks; those that cannot be judged yet go back, with all behind them.
    pub(super) async fn hand_over(&mut self, marks: Vec<Mark>) {
        let mut from = self.durable;
        let mut marks = marks.into_iter();
        while let Some(mut mark) = marks.next() {
            if self.given_up {
                return;
            }
            let through = mark.through;
            if mark.suspect {
                match self.judge(from, &mark).await {
                    Ok((letters, confirmations)) => {
                        mark.letters = letters;
                        mark.confirmations = confirmations;
                    }
                    Err(Unjudged::Refused) => {}
                    Err(unjudged) => {
                        if let Unjudged::Log(error) = unjudged {
                            tracing::warn!(sink = self.status.name(), %error, "cannot read back what was written");
                        }
                        self.durability.put_back(std::iter::once(mark).chain(marks).collect());
                        return;
                    }
                }
            }
            self.give(mark).await;
            from = through;
        }
    }

    /// Letters, confirmations, cursor of one mark.
    async fn give(&mut self, mark: Mark) {
        let Mark { through, letters, confirmations, .. } = mark;
        if !letters.is_empty() && !self.keep(letters).await {
            // What was not kept comes again after a restart.
            self.given_up = true;
            return;
        }
        if !confirmations.is_empty() {
            // Only dead letters can fail to be kept.
            let _ = (self.reports)(Report::Confirmed(confirmations));
        }
        self.advance(through);
    }

    /// Waits until dead letters are kept; false: stopped before that.
    async fn keep(&mut self, letters: Vec<DeadLetter>) -> bool {
        let rows = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        let mut held = false;
        loop {
            let Err(error) = (self.reports)(Report::DeadLetters(letters.clone())) else {
                self.status.dead_lettered(rows);
                if held {
                    self.status.enter(State::Running, "");
                }
                return true;
            };
            tracing::error!(sink = self.status.name(), %error, "nothing is confirmed until they are");
            self.status.enter(State::Held, &error.to_string());
            held = true;
            tokio::select! {
                () = tokio::time::sleep(REOPEN_EVERY) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return false,
            }
        }
    }

    fn advance(&mut self, through: Cursor) {
        // A batch without a readable record has no source record of its own.
        self.durable = Cursor {
            source_lsn: through.source_lsn.max(self.durable.source_lsn),
            decided_lsn: through.decided_lsn,
        };
        if let Err(error) = self.cursor.save(self.durable) {
            tracing::warn!(sink = self.status.name(), %error, "a restart will repeat what was written since");
            self.status.warn(error.to_string());
        }
        self.status.moved(self.durable);
    }

    /// Reads back what lies between a cursor and the end of a mark.
    async fn judge(
        &mut self,
        from: Cursor,
        mark: &Mark,
    ) -> Result<(Vec<DeadLetter>, Vec<Confirmation>), Unjudged> {
        let mut feed = Feed::reread(self.tail.clone(), from).map_err(Unjudged::Log)?;
        let (mut letters, mut confirmations) = (Vec::new(), Vec::new());
        let mut batch = Batch::default();
        let mut ended = false;
        while !ended {
            if feed.last() >= mark.through.decided_lsn {
                ended = true;
            } else {
                match feed.step().map_err(Unjudged::Log)? {
                    Step::CaughtUp => ended = true,
                    // Counted when they were read the first time.
                    Step::Lost { .. } => continue,
                    Step::Record(lsn, _) if lsn > mark.through.decided_lsn => ended = true,
                    Step::Record(_, decided) if decided.source_lsn() <= from.source_lsn => {}
                    Step::Record(_, Decided::Samples(sets)) => batch.add_samples(&mut self.encoder, &sets),
                    Step::Record(_, Decided::Windows(windows)) => {
                        batch.add_windows(&self.encoder, self.options.rollups, &windows)
                    }
                    Step::Record(_, Decided::Refused(_) | Decided::Judged { .. }) => {}
                }
            }
            if ended || batch.rows() >= self.rows_max {
                let mut sealed = std::mem::take(&mut batch).seal();
                let missing = self.missing(&sealed, &mark.letters).await?;
                let (more_letters, more_confirmations) = sealed.settle(&missing);
                letters.extend(more_letters);
                confirmations.extend(more_confirmations);
            }
        }
        self.keep_owed(&mut confirmations);
        Ok((letters, confirmations))
    }

    /// The lines of a batch that the database does not hold. Those it had refused keep its words.
    async fn missing(
        &mut self,
        batch: &Sealed,
        refused: &[DeadLetter],
    ) -> Result<Vec<RefusedLine>, Unjudged> {
        if batch.rows() == 0 {
            return Ok(Vec::new());
        }
        let body = batch.body(&(0..batch.rows()));
        let text = String::from_utf8_lossy(&body);
        let mut search = Search::new(text.lines());
        for question in search.questions() {
            match self.database.export(&question, |point| search.note(point)).await {
                Ok(()) => {}
                Err(NoExport::Lost) => return Err(Unjudged::NotNow),
                Err(NoExport::Refused(words)) => {
                    tracing::error!(
                        sink = self.status.name(),
                        words,
                        "rows that the database skipped count as stored, since it cannot be read back"
                    );
                    self.status.warn(format!(
                        "the database skipped rows and does not let itself be read back ({words}): \
                         they count as stored"
                    ));
                    return Err(Unjudged::Refused);
                }
            }
        }
        let known: HashMap<&str, &str> =
            refused.iter().map(|letter| (letter.line.as_str(), letter.words.as_str())).collect();
        let lines: Vec<&str> = text.lines().collect();
        let missing = search.missing().into_iter().map(|line| RefusedLine {
            line,
            words: known.get(lines[line]).copied().unwrap_or(NOT_THERE).to_owned(),
        });
        Ok(missing.collect())
    }
}
