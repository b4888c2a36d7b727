//! One message for each sample:
//!
//! ```json
//! {"t":1767225600000,"q":1,"v":{"ch4":0.4,"temperature":21.5}}
//! ```
//! `t` is the sample's time in milliseconds since 1970, `q` its quality code (1: valid), `v` its values by channel in the
//! class's units, as the exact decimals of what the device sent. A channel that has no value is left out; a sample without any
//! is not published.
//!
//! The topic is made of the registry's words alone. Pure: decided samples in, topics and bodies out.

use crate::decided::{Samples, StoredChannel, decimal};
use hunhe_gateway_core::registry::Registry;
use hunhe_proto::reading::ABSENT;
use std::sync::Arc;

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: Arc<str>,
    /// JSON.
    pub body: Vec<u8>,
}

/// Makes messages of samples.
#[derive(Debug)]
pub struct Encoder {
    registry: Arc<Registry>,
    /// By class and channel, in their order: the name as a JSON key with its colon.
    keys: Vec<Vec<Box<[u8]>>>,
}

impl Encoder {
    /// For that registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        let key = |name: &str| format!("{}:", serde_json::Value::from(name)).into_bytes().into_boxed_slice();
        let keys = registry
            .classes()
            .iter()
            .map(|rules| rules.class.channels.iter().map(|channel| key(&channel.name)).collect())
            .collect();
        Self { registry, keys }
    }

    /// Appends a message for each sample that has a value; answers how many samples were skipped, since their device is not
    /// registered any more.
    pub fn encode(&self, samples: &Samples<'_>, out: &mut Vec<Message>) -> u64 {
        let Some(index) = self.registry.find_at(samples.place, samples.device) else {
            return samples.rows as u64;
        };
        let device = self.registry.device(index);
        let rules = self.registry.class_of(index);
        let class = &rules.class.name;
        let topic: Arc<str> =
            format!("hunhe/v1/clean/{}/{class}/{}", device.operator, device.pseudonym).into();
        let keys = &self.keys[device.class.at()];
        let channels: Vec<(usize, &[u8], u8)> = samples
            .channels()
            .iter()
            .enumerate()
            .filter_map(|(column, &bits)| {
                let channel = StoredChannel::from_bits(bits);
                let key = keys.get(rules.position(channel.number())?)?;
                Some((column, &**key, channel.decimals()))
            })
            .collect();
        for row in 0..samples.rows {
            let mut body = b"{\"t\":".to_vec();
            decimal::put(&mut body, samples.times_ms()[row], 0);
            body.extend_from_slice(b",\"q\":");
            decimal::put(&mut body, samples.quality()[row].into(), 0);
            body.extend_from_slice(b",\"v\":{");
            let empty = body.len();
            for &(column, key, decimals) in &channels {
                let wire = samples.value(column, row);
                if wire != ABSENT {
                    body.extend_from_slice(key);
                    decimal::put(&mut body, wire, decimals);
                    body.push(b',');
                }
            }
            if body.len() > empty {
                body.pop();
                body.extend_from_slice(b"}}");
                out.push(Message { topic: Arc::clone(&topic), body });
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decided::{
        Decided, Encoder as Records, Message as Source,
        feed::{Feed, Step},
    };
    use hunhe_gateway_core::{
        event::{Decisions, SampleSet},
        registry::DeviceIx,
    };
    use hunhe_log::{Options, Writer, cursor::Cursor};

    /// Three samples of two channels: whole, without the second channel, without any.
    fn decisions() -> Decisions {
        let mut decisions = Decisions::default();
        let accepted = &mut decisions.accepted;
        accepted.sets.push(SampleSet {
            device: DeviceIx(0),
            boot: 1,
            rows: 0..3,
            channels: 0..2,
            values_from: 0,
        });
        accepted.channels = vec![0, 1];
        accepted.times_ms = vec![1_000, 2_000, 3_000];
        accepted.seqs = vec![0, 1, 2];
        accepted.quality = vec![1, 2, 1];
        accepted.values = vec![4, 5, ABSENT, -25, ABSENT, ABSENT];
        decisions
    }

    #[test]
    fn a_sample_is_a_topic_of_the_registrys_words_and_its_exact_values() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            disk: hunhe_disk::real(),
            dir: dir.path().to_path_buf(),
            segment_bytes: 1 << 20,
            limit_bytes: 1 << 22,
        };
        let (mut log, _) = Writer::open(options).unwrap();
        let registry = Arc::new(hunhe_fixtures::detector_registry());
        let mut records = Records::new(hunhe_gateway_core::event::Rollups::None);
        let source = Source { source_lsn: 1, arrival_ms: 5, topic: b"t", payload: b"p", redrive_of: None };
        records.encode(&registry, source, &decisions());
        records.append(&mut log).unwrap();
        log.flush().unwrap();
        let mut feed = Feed::open(log.subscribe(), Cursor::default()).unwrap();
        let Step::Record(_, Decided::Samples(sets)) = feed.step().unwrap() else { panic!("samples") };
        let encoder = Encoder::new(registry);
        let mut out = Vec::new();
        let skipped: u64 = sets.iter().map(|samples| encoder.encode(&samples, &mut out)).sum();
        assert_eq!(skipped, 0);
        let bodies: Vec<&str> =
            out.iter().map(|message| std::str::from_utf8(&message.body).unwrap()).collect();
        assert_eq!(
            bodies,
            [r#"{"t":1000,"q":1,"v":{"status":4,"ch4":-0.25}}"#, r#"{"t":2000,"q":2,"v":{"status":5}}"#,],
            "the third has no value"
        );
        assert!(out.iter().all(|message| &*message.topic == "hunhe/v1/clean/gas/detector/shown-7"));
        let other = Encoder::new(Arc::new(Registry::new(Vec::new())));
        let skipped: u64 = sets.iter().map(|samples| other.encode(&samples, &mut out)).sum();
        assert_eq!((skipped, out.len()), (3, 2), "a device that has left the registry has no topic");
    }
}
