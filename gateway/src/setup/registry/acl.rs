//! The access list of the broker's listener for agents, in Mosquitto's words: who may publish what, from the registry.
//!
//! An agent publishes for its own devices and reads what the gateway says to it; everything that no line allows is
//! refused. Lines are in the order of agents and devices by id, so that the same registry gives the same bytes. Ids
//! hold no `+`, `#` or `/`, and so no line allows more than it names.

use std::io::{self, Write};

use hunhe_gateway_core::registry::{Device, Registry};
use hunhe_proto::topic;

use crate::setup::config::{Broker, Fault, Place};

/// What the gateway publishes to an agent, and what the agent publishes of itself.
const READ: [&str; 3] = ["durable", "config", "cmd"];
const WRITTEN: [&str; 2] = ["state", "reply"];
/// Sessions of the gateway, as the ends of their client ids.
const SESSIONS: [&str; 5] = ["up", "alarm", "out", "alerts", "clean"];
/// The gateway's user where the configuration names none.
const USER: &str = "gateway";

/// Writes the list.
///
/// # Errors
/// Of `out` alone.
pub fn write_acl(registry: &Registry, out: &mut dyn Write) -> io::Result<()> {
    let mut devices: Vec<&Device> = registry.devices().iter().collect();
    devices.sort_unstable_by_key(|device| (registry.agent(device.agent).id, device.id));
    writeln!(
        out,
        "# Who may do what on the broker's listener for agents: {} devices behind {} agents.\n\
         # Written by `hunhe-gateway registry acl`; write it again when the registry has changed.\n\
         # Everything that no line allows is refused.",
        devices.len(),
        registry.agents().len()
    )?;
    let mut user = None;
    for device in devices {
        let agent = registry.agent(device.agent).id;
        if user.replace(agent) != Some(agent) {
            writeln!(out, "\nuser {agent}")?;
            for kind in READ {
                writeln!(out, "topic read hunhe/v1/agents/{agent}/{kind}")?;
            }
            for kind in WRITTEN {
                writeln!(out, "topic write hunhe/v1/agents/{agent}/{kind}")?;
            }
        }
        writeln!(out, "topic write {}\ntopic write {}", topic::up(device.id), topic::alarm(device.id))?;
    }
    Ok(())
}

/// Agents that bear a name of the gateway's own. An agent logs in with its id as user name, and its user name is its client
/// id: with the gateway's it would take the gateway's session.
pub(super) fn faults_of_names(registry: &Registry, broker: &Broker) -> Vec<Fault> {
    let user = broker.username.as_deref().unwrap_or(USER);
    let is_ours = |name: &str| {
        let session = name.strip_prefix(broker.client_id.as_str()).and_then(|rest| rest.strip_prefix('-'));
        name == user || session.is_some_and(|session| SESSIONS.contains(&session))
    };
    let ours = registry.agents().iter().filter(|agent| is_ours(agent.id.as_str()));
    ours.map(|agent| {
        let what = format!("the agent {} bears a name of the gateway's own at the broker", agent.id);
        Fault::new(Place::Default, "registry", what, "give the agent another id, or set broker.client_id")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::config::Layers;
    use crate::setup::registry::{Pseudonyms, RegistryBuilder, read_class};

    fn registry(list: &[(&str, &str)]) -> Registry {
        let class = include_str!("../../../../seeds/classes/gas_station_detector.toml");
        let mut builder =
            RegistryBuilder::new(vec![read_class("detector.toml", class).unwrap()], Pseudonyms::default());
        let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
        for (device, agent) in list {
            text += &format!("{device},gas_station_detector,gas,210102,s,{agent},123.4,41.8\n");
        }
        builder.devices("list.csv", &text);
        builder.finish().unwrap().registry
    }

    fn written(list: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        write_acl(&registry(list), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_agent_writes_for_its_own_devices_alone_whatever_the_order_of_the_list() {
        let text = written(&[("det-2", "c-1"), ("det-9", "det-9"), ("det-1", "c-1")]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let shard = |device: &str| topic::up(hunhe_proto::id::Id::new(device).unwrap())[9..11].to_owned();
        let expected = format!(
            "\nuser c-1\n\
             topic read hunhe/v1/agents/c-1/durable\ntopic read hunhe/v1/agents/c-1/config\n\
             topic read hunhe/v1/agents/c-1/cmd\n\
             topic write hunhe/v1/agents/c-1/state\ntopic write hunhe/v1/agents/c-1/reply\n\
             topic write hunhe/v1/{0}/det-1/up\ntopic write hunhe/v1/{0}/det-1/alarm\n\
             topic write hunhe/v1/{1}/det-2/up\ntopic write hunhe/v1/{1}/det-2/alarm\n\
             \nuser det-9\n\
             topic read hunhe/v1/agents/det-9/durable\ntopic read hunhe/v1/agents/det-9/config\n\
             topic read hunhe/v1/agents/det-9/cmd\n\
             topic write hunhe/v1/agents/det-9/state\ntopic write hunhe/v1/agents/det-9/reply\n\
             topic write hunhe/v1/{2}/det-9/up\ntopic write hunhe/v1/{2}/det-9/alarm",
            shard("det-1"),
            shard("det-2"),
            shard("det-9")
        );
        assert_eq!(lines.join("\n"), expected);
        assert_eq!(text, written(&[("det-1", "c-1"), ("det-2", "c-1"), ("det-9", "det-9")]));
    }

    #[test]
    fn an_agent_that_bears_a_name_of_the_gateways_own_is_a_fault() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../seeds");
        let flags = vec![("seeds_dir".to_owned(), seeds.to_owned())];
        let config = Layers { flags, ..Layers::default() }.load().unwrap().config;
        let faults = |agent: &str| faults_of_names(&registry(&[("det-1", agent)]), &config.broker);
        for agent in ["gateway", "hunhe-gateway-up", "hunhe-gateway-alarm", "hunhe-gateway-out"] {
            let faults = faults(agent);
            assert!(faults.len() == 1 && faults[0].what.contains(agent), "{faults:?}");
        }
        for agent in ["c-1", "hunhe-gateway", "hunhe-gateway-7"] {
            assert_eq!(faults(agent), []);
        }
    }
}
