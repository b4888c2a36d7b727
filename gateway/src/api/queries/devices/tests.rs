//! Devices, as a query filters and pages them.

use super::*;
use crate::{
    alerts::describe::tests::own_agents, api::queries::directory::Directory, decide::published::Publisher,
};
use hunhe_gateway_core::{
    lane::{Lane, Policy},
    registry::Registry,
};

fn view(registry: Registry) -> View {
    let registry = Arc::new(registry);
    let mut lane = Lane::new(Arc::clone(&registry), Policy::default());
    let publisher = Publisher::new(&mut lane, &registry, std::time::Instant::now());
    let directory = Directory::of(&registry);
    View::new(registry, directory, publisher.published())
}

fn found(view: &View, query: DeviceQuery) -> (Vec<String>, Option<String>, u64) {
    let page = page(view, &query, 0);
    (page.items.into_iter().map(|device| device.id).collect(), page.next, page.total)
}

fn of(text: &str) -> DeviceQuery {
    DeviceQuery { text: Some(text.into()), limit: 10, ..DeviceQuery::default() }
}

#[test]
fn a_household_that_is_its_own_agent_is_found_by_its_pseudonym_alone() {
    let view = view(own_agents());
    let count = |text: &str| found(&view, of(text)).2;
    assert_eq!((count("secret"), count("shown-1"), count("c-1"), count("SHOWN")), (0, 1, 1, 2));
}

#[test]
fn a_page_goes_on_behind_the_last_and_counts_all_that_match() {
    let view = view(own_agents());
    let plain = |after: Option<&str>| DeviceQuery {
        after: after.map(Into::into),
        limit: 1,
        ..DeviceQuery::default()
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    for query in [plain(None), DeviceQuery { limit: 1, ..of("shown") }] {
        let first = found(&view, query.clone());
        assert_eq!(first, (names(&["shown-1"]), Some("shown-1".into()), 2));
        let second = found(&view, DeviceQuery { after: first.1, ..query });
        assert_eq!(second, (names(&["shown-2"]), None, 2));
    }
}

#[test]
fn each_filter_holds_and_one_that_names_nothing_known_finds_nothing() {
    let view = view(own_agents());
    let all = DeviceQuery { limit: 10, ..DeviceQuery::default() };
    let total = |query: DeviceQuery| found(&view, query).2;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(total(DeviceQuery { class: some("gas_meter"), ..all.clone() }), 2);
    assert_eq!(total(DeviceQuery { district: some("210102"), zone: some("zone-1"), ..all.clone() }), 2);
    assert_eq!(total(DeviceQuery { district: some("210102"), text: some("c-1"), ..all.clone() }), 1);
    for query in [
        DeviceQuery { class: some("water_meter"), ..all.clone() },
        DeviceQuery { district: some("0210102"), ..all.clone() },
        DeviceQuery { zone: some("gas"), class: some("gas_meter"), ..all },
    ] {
        assert_eq!(total(query), 0);
    }
}
