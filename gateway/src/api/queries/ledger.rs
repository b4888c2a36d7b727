//! The ledger, whole or by what devices share.

use super::{
    Answers,
    directory::through,
    view::{Part, View},
};
use crate::{
    api::{
        ApiError,
        backend::LedgerQuery,
        types::{Ledger, LedgerBy, LedgerRow, LedgerTotals},
    },
    decide::published::{DeviceLedger, Overview},
};
use std::{collections::BTreeMap, sync::Arc};

impl Answers {
    pub(super) async fn ledger_of(&self, query: LedgerQuery) -> Result<Ledger, ApiError> {
        let whole = self.ledger_now();
        let Some(by) = query.by else { return Ok(whole) };
        let view = Arc::clone(&self.view);
        let mut rows = match by {
            LedgerBy::Device => self.queries.run(move || by_device(&view, &query)).await?,
            LedgerBy::Agent => self.queries.run(move || by_agent(&view, &query)).await?,
            shared => {
                let parts = self.parts.get(self.queries.figures(), move || view.parts()).await?;
                let directory = &self.view.directory;
                let (names, parts) = match shared {
                    LedgerBy::Operator => (&directory.operators, &parts.operators),
                    LedgerBy::Zone => (&directory.zones, &parts.zones),
                    LedgerBy::District => (&directory.districts, &parts.districts),
                    _ => (&directory.classes, &parts.classes),
                };
                let parts = names.iter().zip(parts).filter_map(|(key, part)| Some((key, (*part)?)));
                let behind = parts.filter(|(key, _)| query.after.as_ref().is_none_or(|after| *key > after));
                Rows {
                    rows: behind.take(query.limit + 1).map(|(key, part)| row(key.clone(), &part)).collect(),
                    limit: query.limit,
                }
            }
        };
        let next = rows.end();
        Ok(Ledger { totals: whole.totals, retired: whole.retired, by: Some(by), rows: rows.rows, next })
    }
}

/// Rows of a page, and one more where there is a next page.
struct Rows {
    rows: Vec<LedgerRow>,
    limit: usize,
}

impl Rows {
    /// Takes away what is of the next page; answers the last key before it.
    fn end(&mut self) -> Option<String> {
        let more = self.rows.len() > self.limit;
        self.rows.truncate(self.limit);
        self.rows.last().filter(|_| more).map(|row| row.key.clone())
    }
}

fn by_device(view: &View, query: &LedgerQuery) -> Rows {
    let devices = view.directory.devices();
    let behind = devices[through(&view.registry, devices, query.after.as_deref())..].iter();
    let rows = behind.filter_map(|&device| {
        let mut part = Part::default();
        part.add(&view.published.ledger(device)?);
        Some(row(view.registry.device(device).pseudonym.to_string(), &part))
    });
    Rows { rows: rows.take(query.limit + 1).collect(), limit: query.limit }
}

fn by_agent(view: &View, query: &LedgerQuery) -> Rows {
    let agents = view.directory.agents(query.after.as_deref());
    let alike = agents.chunk_by(|left, right| left.name == right.name);
    let rows = alike.filter_map(|shown| {
        let name = shown.first()?.name.to_string();
        let devices = shown.iter().flat_map(|shown| shown.devices(&view.registry));
        let mut part: Option<Part> = None;
        for ledger in devices.filter_map(|device| view.published.ledger(device)) {
            part.get_or_insert_default().add(&ledger);
        }
        Some(row(name, &part?))
    });
    Rows { rows: rows.take(query.limit + 1).collect(), limit: query.limit }
}

fn row(key: String, part: &Part) -> LedgerRow {
    LedgerRow { key, totals: plain_totals(&part.ledger, part.closed) }
}

pub(super) fn totals_of(overview: &Overview) -> LedgerTotals {
    let Overview { ledger, closed, counters, .. } = overview;
    let ledger = DeviceLedger { totals: *ledger, readings: counters.readings };
    LedgerTotals {
        messages_refused: counters.messages_refused.clone().into_iter().collect(),
        ..plain_totals(&ledger, *closed)
    }
}

pub(super) fn plain_totals(ledger: &DeviceLedger, closed: bool) -> LedgerTotals {
    let sum = &ledger.totals;
    LedgerTotals {
        sampled: sum.sampled,
        stored: sum.stored,
        quarantined: sum.quarantined,
        declared_lost: sum.declared_lost,
        written_off: sum.written_off,
        outstanding: sum.outstanding,
        // A sample in two classes shows as not closed.
        unexplained: u64::try_from(sum.unexplained()).unwrap_or(0),
        duplicates: sum.duplicates,
        readings: ledger.readings,
        closed,
        messages_refused: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::queries::directory::Directory,
        decide::published::{
            Publisher,
            tests::{city, report},
        },
    };
    use std::time::Instant;

    #[test]
    fn each_row_of_the_ledger_has_the_values_of_its_devices() {
        let (registry, mut lane) = city();
        (0..3).for_each(|seq| report(&mut lane, &registry, seq));
        let publisher = Publisher::new(&mut lane, &registry, Instant::now());
        let view = View::new(Arc::clone(&registry), Directory::of(&registry), publisher.published());
        let query = LedgerQuery { by: None, after: None, limit: 10 };
        let seen = |rows: Rows| -> Vec<(String, u64, u64)> {
            rows.rows.into_iter().map(|row| (row.key, row.totals.sampled, row.totals.readings)).collect()
        };
        // The second device has not reported.
        let expected = [("shown-1".to_owned(), 3, 3)];
        assert_eq!(seen(by_device(&view, &query)), expected);
        assert_eq!(seen(by_agent(&view, &query)), expected);
        let parts = view.parts();
        for parts in [&parts.classes, &parts.districts, &parts.zones, &parts.operators] {
            let readings: Vec<_> = parts.iter().flatten().map(|part| part.ledger.readings).collect();
            assert_eq!(readings, [3]);
        }
        assert_eq!(totals_of(&view.published.overview()).readings, 3);
    }
}
