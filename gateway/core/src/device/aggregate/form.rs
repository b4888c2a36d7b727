//! Windows as a snapshot holds them: a list of windows, each with its statistics. Memory has them closer together, and no
//! copy is made to write them.

use super::{Stat, Sum, Window, Windows};
use alloc::vec::Vec;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::Error,
    ser::{SerializeSeq, SerializeStruct},
};

#[derive(Serialize)]
struct Written<'a> {
    length_ms: i64,
    start_ms: i64,
    shown: u32,
    changed: bool,
    stats: &'a [Stat],
}

#[derive(Deserialize)]
struct Read {
    length_ms: i64,
    start_ms: i64,
    shown: u32,
    changed: bool,
    stats: Vec<Stat>,
}

#[derive(Serialize, Deserialize)]
struct StatForm {
    sum: i128,
    count: u32,
    min: i64,
    max: i64,
    last: i64,
    last_key: (i64, u64, u32),
}

impl Serialize for Stat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { sum, count, min, max, last, last_ms, last_seq, last_boot } = self;
        let last_key = (last_ms, last_seq, last_boot);
        StatForm { sum: sum.0, count, min, max, last, last_key }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StatForm { sum, count, min, max, last, last_key } = StatForm::deserialize(deserializer)?;
        let (last_ms, last_seq, last_boot) = last_key;
        Ok(Self { sum: Sum(sum), count, min, max, last, last_ms, last_seq, last_boot })
    }
}

/// The list of a [`Windows`].
struct List<'a>(&'a Windows);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Windows { list, stats } = self.0;
        let channels = stats.len().checked_div(list.len()).unwrap_or(0);
        let mut out = serializer.serialize_seq(Some(list.len()))?;
        for (at, &Window { start_ms, length_ms, shown, changed }) in list.iter().enumerate() {
            let stats = &stats[at * channels..(at + 1) * channels];
            out.serialize_element(&Written { length_ms: length_ms.into(), start_ms, shown, changed, stats })?;
        }
        out.end()
    }
}

impl Serialize for Windows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Windows", 1)?;
        out.serialize_field("list", &List(self))?;
        out.end()
    }
}

impl<'de> Deserialize<'de> for Windows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            list: Vec<Read>,
        }
        let read = Whole::deserialize(deserializer)?.list;
        let channels = read.first().map_or(0, |window| window.stats.len());
        if read.iter().any(|window| window.stats.len() != channels) {
            return Err(D::Error::custom("windows of one device differ in channels"));
        }
        let mut windows =
            Self { list: Vec::with_capacity(read.len()), stats: Vec::with_capacity(read.len() * channels) };
        for Read { length_ms, start_ms, shown, changed, stats } in read {
            let length_ms = u32::try_from(length_ms).map_err(D::Error::custom)?;
            windows.list.push(Window { start_ms, length_ms, shown, changed });
            windows.stats.extend(stats);
        }
        Ok(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a snapshot holds, spelled out: the form that checkpoints hold.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Spelled {
        list: Vec<(i64, i64, u32, bool, Vec<SpelledStat>)>,
    }
    type SpelledStat = (i128, u32, i64, i64, i64, (i64, u64, u32));

    fn spelled(channels: usize) -> Spelled {
        let stat = |n: i64| (i128::from(n) << 70, 24, -n, n, n - 1, (n * 1000, 1 << 50, 7));
        let stats = |from: i64| (from..).take(channels).map(stat).collect();
        let list = [(86_400_000, 0, 0, true), (86_400_000, 86_400_000, 3, false), (3_600_000, 5, 1, false)];
        let windows = list.into_iter().zip([10, 20, 30]);
        Spelled {
            list: windows
                .map(|((length, start, shown, changed), n)| (length, start, shown, changed, stats(n)))
                .collect(),
        }
    }

    #[test]
    fn the_form_in_a_snapshot_is_a_list_of_windows_each_with_its_statistics() {
        for spelled in [spelled(0), spelled(1), spelled(3), Spelled { list: Vec::new() }] {
            let bytes = postcard::to_allocvec(&spelled).unwrap();
            let read: Windows = postcard::from_bytes(&bytes).unwrap();
            assert_eq!((read.list.len(), read.list.capacity()), (spelled.list.len(), spelled.list.len()));
            assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
        }
        let mut uneven = spelled(2);
        uneven.list[1].4.pop();
        let bytes = postcard::to_allocvec(&uneven).unwrap();
        postcard::from_bytes::<Windows>(&bytes).unwrap_err();
    }

    #[test]
    fn a_windows_statistics_take_64_bytes_a_channel_and_its_rest_24() {
        assert_eq!((size_of::<Stat>(), size_of::<Window>()), (64, 24));
    }
}
