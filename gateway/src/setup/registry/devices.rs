//! Devices from fleet descriptions and from lists.

use std::collections::BTreeMap;

use csv::StringRecord;
use hunhe_gateway_core::registry::Enrolment;
use hunhe_proto::fleet::{Fleet, Group, Member};
use hunhe_proto::id::Id;

use super::locate::Located;
use super::rows::rows;
use super::{FAULTS_PER_FILE_MAX, RegistryBuilder};
use crate::setup::config::{Fault, Place};

/// The columns of a device list, in order.
const COLUMNS: [&str; 9] =
    ["device", "class", "operator", "district", "zone", "agent", "lon", "lat", "pseudonym"];

const ID_REMEDY: &str = "write 1 to 32 lower-case letters, digits and hyphens";

/// A fault and its remedy.
type Wrong = (String, &'static str);

impl RegistryBuilder {
    /// Adds the devices of a fleet description.
    pub fn fleet(&mut self, file: &str, text: &str) {
        let read = Located::parse(file, text)
            .and_then(|located| Ok((located.read::<Fleet>().map_err(|fault| vec![fault])?, located)));
        match read {
            Ok((fleet, located)) => {
                for group in &fleet.groups {
                    self.group(fleet.seed, group, &located);
                }
            }
            Err(mut found) => self.faults.append(&mut found),
        }
    }

    /// Adds alike devices. A fault that many of them share is reported once, with their number.
    fn group(&mut self, seed: u64, group: &Group, located: &Located<'_>) {
        let key = |name: &str| format!("groups.{}.{name}", group.prefix);
        let place = |name: &str| located.place(&key(name), "prefix");
        if self.class(&group.class).is_some_and(|class| class.household) && !group.household {
            let what = "numbers the devices of households one by one";
            let remedy = "write `household = true`, so that their ids are tokens";
            self.faults.push(Fault::new(place("household"), key("household"), what, remedy));
        }
        // Groups do not touch one another, so each is expanded alone and all faulty ones are found.
        let fleet = Fleet { seed, groups: vec![group.clone()] };
        let members = match fleet.expand() {
            Ok(members) => members,
            Err(error) => {
                let what = "does not expand";
                self.faults.push(Fault::new(place("prefix"), key("prefix"), what, error.what));
                return;
            }
        };
        let mut found: BTreeMap<(&str, &str), (usize, String)> = BTreeMap::new();
        for member in &members {
            let (name, (what, remedy)) = match enrolment(member) {
                Ok(enrolment) => match self.add(enrolment, None) {
                    Ok(()) => continue,
                    Err(wrong) => ("class", wrong),
                },
                Err(wrong) => wrong,
            };
            found.entry((name, remedy)).or_insert((0, what)).0 += 1;
        }
        for ((name, remedy), (count, what)) in found {
            let what = if count > 1 { format!("{what} (and {} more so)", count - 1) } else { what };
            self.faults.push(Fault::new(place(name), key(name), what, remedy));
        }
    }

    /// Adds the devices of a list: CSV without quotes, with a header. The last column is optional.
    pub fn devices(&mut self, file: &str, text: &str) {
        let place = |line: usize| Place::File { file: file.into(), line: Some(line) };
        let mut rows = rows(text);
        let header = rows.next().filter(|(_, header)| *header == COLUMNS[..] || *header == COLUMNS[..8]);
        let Some((_, header)) = header else {
            let remedy = format!("the first line must be {}", COLUMNS.join(","));
            self.faults.push(Fault::new(place(1), "", "has other columns", remedy));
            return;
        };
        let before = self.faults.len();
        for (line, row) in rows {
            if let Err((key, (what, remedy))) = self.device(&row, header.len()) {
                self.faults.push(Fault::new(place(line), key, what, remedy));
            }
            if self.faults.len() - before >= FAULTS_PER_FILE_MAX {
                let what = format!("has {FAULTS_PER_FILE_MAX} faults up to here");
                self.faults.push(Fault::new(place(line), "", what, "correct these first"));
                return;
            }
        }
    }

    fn device(&mut self, row: &StringRecord, columns: usize) -> Result<(), (&'static str, Wrong)> {
        let mut fields = [""; COLUMNS.len()];
        let count = row.len();
        if count != columns || row.iter().any(|field| field.contains('"')) {
            let what = format!("has {count} fields where the header has {columns}, or quotes");
            return Err(("", (what, "write each field plainly, without commas and quotes")));
        }
        for (field, text) in fields.iter_mut().zip(row) {
            *field = text;
        }
        let [device, class, operator, district, zone, agent, lon, lat, pseudonym] = fields;
        let degrees = |name, text: &str, most: f64| match text.parse::<f64>() {
            Ok(value) if value.abs() <= most => Ok(value),
            _ => Err((name, (format!("{text:?} is no angle here"), "write WGS-84 degrees, as 123.43"))),
        };
        let device = id("device", device)?;
        let agent = if agent.is_empty() { device } else { id("agent", agent)? };
        let given = if pseudonym.is_empty() { None } else { Some(id("pseudonym", pseudonym)?) };
        let enrolment = Enrolment {
            id: device,
            pseudonym: device,
            class: class.into(),
            agent,
            operator: id("operator", operator)?,
            district: district
                .parse()
                .map_err(|_| ("district", (format!("{district:?} is no code"), "write digits, as 210102")))?,
            zone: id("zone", zone)?,
            position: (degrees("lon", lon, 180.0)?, degrees("lat", lat, 90.0)?),
        };
        self.add(enrolment, given).map_err(|wrong| ("device", wrong))
    }
}

fn id(name: &'static str, text: &str) -> Result<Id, (&'static str, Wrong)> {
    Id::new(text).map_err(|_| (name, (format!("{text:?} is no id"), ID_REMEDY)))
}

fn enrolment(member: &Member<'_>) -> Result<Enrolment, (&'static str, Wrong)> {
    let (group, place) = (member.group, member.place);
    if !(place.lon.abs() <= 180.0 && place.lat.abs() <= 90.0) {
        let what = format!("{}, {} is no position", place.lon, place.lat);
        return Err(("places", (what, "write WGS-84 degrees, as lon = 123.43, lat = 41.80")));
    }
    Ok(Enrolment {
        id: member.id,
        pseudonym: member.id,
        class: group.class.clone(),
        agent: member.agent,
        operator: id("operator", &group.operator)?,
        district: place.district,
        zone: id("places", &place.zone)?,
        position: (place.lon, place.lat),
    })
}
