//! What a device reports ahead of time: a change by as much as its class names since its last report.

use hunhe_proto::{class::Class, reading::ABSENT};

/// The channels of one device whose change is news.
#[derive(Debug)]
pub(super) struct Watch(Box<[Watched]>);

#[derive(Debug)]
struct Watched {
    /// By index in the class.
    channel: usize,
    /// In wire integers, at least 1.
    change: u64,
    /// As last reported; absent before the first.
    reported: i64,
}

impl Watch {
    pub(super) fn of(class: &Class) -> Self {
        let watched = class.channels.iter().enumerate().filter_map(|(channel, spec)| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a change times scale lies far below 2^53, and the cast saturates"
            )]
            let change = (spec.report_on_change? * spec.scale()).round() as u64;
            Some(Watched { channel, change: change.max(1), reported: ABSENT })
        });
        Self(watched.collect())
    }

    /// Does the sample differ from what was reported? Then its report goes at once, and the next is compared with it.
    pub(super) fn is_news(&mut self, row: &[i64]) -> bool {
        let mut news = false;
        for watched in &mut self.0 {
            let Some(&value) = row.get(watched.channel).filter(|&&value| value != ABSENT) else { continue };
            if watched.reported == ABSENT {
                watched.reported = value;
            } else if value.abs_diff(watched.reported) >= watched.change {
                (watched.reported, news) = (value, true);
            }
        }
        news
    }

    /// Notes the newest sample of a report that went.
    pub(super) fn note_reported(&mut self, row: &[i64]) {
        for watched in &mut self.0 {
            if let Some(&value) = row.get(watched.channel).filter(|&&value| value != ABSENT) {
                watched.reported = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_leap_is_news_and_a_slow_change_that_was_reported_is_not() {
        let mut class = testing::class(testing::DMA_FLOW).as_ref().clone();
        class.channels[0].report_on_change = Some(5.0);
        let mut watch = Watch::of(&class);
        let mut news = |value: i64| watch.is_news(&[value]);
        let said = [200_000, 240_000, 260_000, 255_000, ABSENT, 210_000].map(&mut news);
        assert_eq!(said, [false, false, true, false, false, true], "four decimals; 5 L/s are 50,000");
        watch.note_reported(&[240_000]);
        assert!(!watch.is_news(&[270_000]), "compared with what an ordinary report said");
        assert!(!Watch::of(&testing::gas_meter()).is_news(&[0]));
    }
}
