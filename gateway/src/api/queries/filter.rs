//! Which devices a query wants. Its filters are integers: the shortest list that a filter names is looked through, and
//! the other filters are compared device by device. Only a text is looked for in every device's name.

use super::{
    directory::{Lists, Names, Place},
    view::View,
};
use crate::api::backend::DeviceQuery;
use hunhe_gateway_core::registry::DeviceIx;

/// Which devices.
pub(super) struct Wanted<'a> {
    /// Those that are wanted and maybe others, by pseudonym.
    pub(super) devices: &'a [DeviceIx],
    /// What they must have beside; `None`: all are wanted.
    pub(super) filter: Option<Filter>,
}

/// What a device must have.
pub(super) struct Filter {
    class: Option<u32>,
    district: Option<u32>,
    zone: Option<u32>,
    text: Option<Text>,
}

/// Part of a name: where it was found.
struct Text {
    devices: Vec<bool>,
    zones: Vec<bool>,
    agents: Vec<bool>,
}

impl<'a> Wanted<'a> {
    pub(super) fn by(view: &'a View, query: &DeviceQuery) -> Self {
        let directory = &view.directory;
        let find = |names: &Names, name: &Option<String>| match name {
            None => Some(None),
            Some(name) => names.find(name).map(Some),
        };
        let class = find(&directory.classes, &query.class);
        let district = find(&directory.districts, &query.district);
        let zone = find(&directory.zones, &query.zone);
        let (Some(class), Some(district), Some(zone)) = (class, district, zone) else {
            // It names what no device has.
            return Self { devices: &[], filter: None };
        };
        let list = |lists: &'a Lists, at: Option<u32>| Some(&*lists[at? as usize]);
        let lists = [
            list(&directory.by_class, class),
            list(&directory.by_district, district),
            list(&directory.by_zone, zone),
        ];
        let named = lists.iter().flatten().count();
        let shortest = lists.into_iter().flatten().min_by_key(|devices| devices.len());
        let text = query.text.as_deref().map(|text| Text::of(view, text));
        let is_enough = named <= 1 && text.is_none();
        Self {
            devices: shortest.unwrap_or_else(|| directory.devices()),
            filter: (!is_enough).then_some(Filter { class, district, zone, text }),
        }
    }
}

impl Filter {
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
    fn of(view: &View, text: &str) -> Self {
        // As ids are written.
        let text = text.to_lowercase();
        let registry = &view.registry;
        Self {
            devices: registry
                .devices()
                .iter()
                .map(|device| device.pseudonym.as_str().contains(&text))
                .collect(),
            zones: view.directory.zones.iter().map(|zone| zone.contains(&text)).collect(),
            agents: registry.agents().iter().map(|agent| agent.id.as_str().contains(&text)).collect(),
        }
    }

    fn matches(&self, view: &View, device: DeviceIx, zone: u32) -> bool {
        let found = |names: &[bool], at: usize| names.get(at).is_some_and(|&found| found);
        if found(&self.devices, device.at()) || found(&self.zones, zone as usize) {
            return true;
        }
        let known = view.registry.device(device);
        // What is not shown is not found: else a guess would lead from a device's id to its pseudonym.
        let is_its_own = view.registry.agent(known.agent).id == known.id;
        !is_its_own && found(&self.agents, known.agent.at())
    }
}
