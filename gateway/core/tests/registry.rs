//! A device is found by its id, and by the place that it had in another run's registry where that is the same.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use hunhe_fixtures::{enrolment, id, seed_class};
use hunhe_gateway_core::registry::{DeviceIx, Place, Registry};

fn registry(names: &[&str]) -> Registry {
    let devices = names.iter().map(|name| enrolment(name, "gas_meter", "z"));
    hunhe_fixtures::registry(vec![seed_class("gas_meter")], Vec::new(), devices)
}

#[test]
fn a_place_is_believed_under_the_same_order_of_devices_alone() {
    let (ours, same, others) = (registry(&["a", "b"]), registry(&["a", "b"]), registry(&["b", "a"]));
    let b = id("b");
    let place = ours.place(ours.find(b).unwrap());
    assert_eq!((ours.find_at(place, b), same.find_at(place, b)), (Some(DeviceIx(1)), Some(DeviceIx(1))));
    assert_eq!(others.find_at(place, b), Some(DeviceIx(0)));
    assert_eq!(registry(&["a"]).find_at(place, b), None);
    let beyond = Place { device: DeviceIx(7), ..place };
    assert_eq!(ours.find_at(beyond, b), Some(DeviceIx(1)), "there is no such index");
}
