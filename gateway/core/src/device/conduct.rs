//! How a device reports, in the place of what it measures: new outboxes, outboxes that gave way, refused messages.
//!
//! Each deed raises the alert of the rules that watch it at once. The alert is over when the gateway has listened for the
//! rule's `clear_hold_s` without another deed. A refused message reaches people this way, whoever sent it.
//!
//! Bound: one open episode a device and rule.

use crate::{
    device::{
        alert::{Alerts, Change, Context, Episode, Phase},
        dedup::Admitted,
    },
    rule::{Rule, RuleIx, RuleKey, When},
};
use alloc::{string::String, vec::Vec};

/// A rule on how devices report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conduct {
    rule: RuleIx,
    key: RuleKey,
    deed: Deed,
    calm_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    NewOutboxes(u32),
    FoldedMissing(u64),
    Refused(String),
}

/// What a device did with one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) admitted: Admitted,
    /// Outboxes that are new, within an hour.
    pub(crate) new_lately: u32,
    /// Why the message was refused whole.
    pub(crate) refused: Option<&'static str>,
}

impl Conduct {
    /// The rule, where it is about how devices report.
    pub(crate) fn of(rule: &Rule, ix: RuleIx) -> Option<Self> {
        let deed = match &rule.when {
            When::NewOutboxes { new_outboxes_per_h } => Deed::NewOutboxes(*new_outboxes_per_h),
            When::FoldedMissing { folded_missing } => Deed::FoldedMissing(*folded_missing),
            When::Refused { refused } => Deed::Refused(refused.clone()),
            _ => return None,
        };
        Some(Self { rule: ix, key: rule.key(), deed, calm_ms: u64::from(rule.clear_hold_s) * 1000 })
    }

    pub(crate) const fn key(&self) -> RuleKey {
        self.key
    }

    /// When an alert of it is over, by the city's clock of silence.
    const fn over_ms(&self, open: &Episode) -> u64 {
        open.clear_ms.cast_unsigned().saturating_add(self.calm_ms)
    }

    /// The alert's value, where the device did what the rule watches.
    fn value(&self, seen: &Seen) -> Option<i64> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match &self.deed {
            Deed::NewOutboxes(most) if seen.admitted.new && seen.new_lately >= *most => {
                Some(seen.new_lately.into())
            }
            Deed::FoldedMissing(least) if seen.admitted.folded_missing >= *least => {
                Some(count(seen.admitted.folded_missing))
            }
            Deed::Refused(reason) if seen.refused == Some(reason.as_str()) => Some(1),
            _ => None,
        }
    }
}

/// Raises what the rules say of one message.
pub(crate) fn judge(
    conducts: &[Conduct],
    alerts: &mut Alerts,
    context: &Context<'_>,
    seen: &Seen,
    out: &mut Vec<Change>,
) {
    let now_ms = context.arrival_ms;
    let listened_ms = context.listened_ms.cast_signed();
    for (conduct, value) in conducts.iter().filter_map(|conduct| Some((conduct, conduct.value(seen)?))) {
        if let Some(open) = alerts.episodes.iter_mut().find(|open| open.key == conduct.key) {
            open.clear_ms = listened_ms;
            continue;
        }
        let episode = Episode { clear_ms: listened_ms, ..Episode::raised(conduct.key, now_ms) };
        out.push(context.change(conduct.rule, &episode, Phase::Firing, now_ms, value, false));
        alerts.episodes.push(episode);
    }
}

/// Time passed: ends the alerts of deeds that nothing repeated for long enough.
pub(crate) fn tick(conducts: &[Conduct], alerts: &mut Alerts, context: &Context<'_>, out: &mut Vec<Change>) {
    let now_ms = context.arrival_ms;
    alerts.episodes.retain(|episode| {
        let Some(conduct) = conducts.iter().find(|conduct| conduct.key == episode.key) else { return true };
        let over = conduct.over_ms(episode) <= context.listened_ms;
        if over {
            out.push(context.change(conduct.rule, episode, Phase::Resolved, now_ms, 0, false));
        }
        !over
    });
}

/// When [`tick`] ends an alert that no deed renews, by the city's clock of silence.
pub(crate) fn over_ms(conducts: &[Conduct], alerts: &Alerts) -> Option<u64> {
    let of = |open: &Episode| conducts.iter().find(|conduct| conduct.key == open.key);
    alerts.episodes.iter().filter_map(|open| Some(of(open)?.over_ms(open))).min()
}
