//! Which devices a query wants: its filters as integers, so that a look at every device of a city takes about a millisecond.

use super::{
    directory::{Names, Place},
    view::View,
};
use crate::api::backend::DeviceQuery;
use hunhe_gateway_core::registry::DeviceIx;

/// Which devices.
pub(super) enum Filter {
    /// Every one.
    All,
    /// Not one: something is named that no device has.
    None,
    /// Those that match.
    Some(Matching),
}

/// What a device must have.
pub(super) struct Matching {
    class: Option<u32>,
    district: Option<u32>,
    zone: Option<u32>,
    text: Option<Text>,
}

/// Part of a name. What many devices share is compared once.
struct Text {
    text: String,
    zones: Vec<bool>,
    agents: Vec<bool>,
}

impl Filter {
    pub(super) fn of(view: &View, query: &DeviceQuery) -> Self {
        let directory = &view.directory;
        let find = |names: &Names, name: &Option<String>| match name {
            None => Some(None),
            Some(name) => names.find(name).map(Some),
        };
        let class = find(&directory.classes, &query.class);
        let district = find(&directory.districts, &query.district);
        let zone = find(&directory.zones, &query.zone);
        let (Some(class), Some(district), Some(zone)) = (class, district, zone) else { return Self::None };
        let text = query.text.as_ref().map(|text| {
            // As ids are written.
            let text = text.to_lowercase();
            let has = |name: &str| name.contains(&text);
            let zones = directory.zones.iter().map(|zone| has(zone)).collect();
            let agents = view.registry.agents().iter().map(|agent| has(agent.id.as_str())).collect();
            Text { text, zones, agents }
        });
        if class.is_none() && district.is_none() && zone.is_none() && text.is_none() {
            return Self::All;
        }
        Self::Some(Matching { class, district, zone, text })
    }
}

impl Matching {
    pub(super) fn matches(&self, view: &View, device: DeviceIx) -> bool {
        let Some(Place { class, district, zone, .. }) = view.directory.place(device) else { return false };
        let is = |wanted: Option<u32>, has| wanted.is_none_or(|wanted| wanted == has);
        is(self.class, class)
            && is(self.district, district)
            && is(self.zone, zone)
            && self.text.as_ref().is_none_or(|text| text.matches(view, device, zone))
    }
}

impl Text {
    fn matches(&self, view: &View, device: DeviceIx, zone: u32) -> bool {
        let known = view.registry.device(device);
        // What is not shown is not found: else a guess would lead from a device's id to its pseudonym.
        let is_its_own = view.registry.agent(known.agent).id == known.id;
        self.zones.get(zone as usize).is_some_and(|&found| found)
            || !is_its_own && self.agents.get(known.agent.at()).is_some_and(|&found| found)
            || known.pseudonym.as_str().contains(&self.text)
    }
}
