//! A channel as decided records and the embedded store name it.

use hunhe_proto::class::Channel;

/// A wire number, with the decimals of the integers that stand under it.
///
/// A newer version of a class may add decimals. What was written before keeps its meaning because it says its own scale:
/// the version that was in force then need not be known, nor even be installed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredChannel(u16);

/// Where the decimals stand, above the wire number.
const DECIMALS_SHIFT: u32 = 8;
/// The most decimals that a class may have.
const DECIMALS_MAX: u16 = 9;

impl StoredChannel {
    /// Of a wire number, 0 to 255, and decimals, 0 to 9.
    #[must_use]
    pub fn new(number: u16, decimals: u8) -> Self {
        Self((number & 0xff) | u16::from(decimals).min(DECIMALS_MAX) << DECIMALS_SHIFT)
    }

    /// All that a channel of a class may be stored as: what an older version of the class wrote has fewer decimals.
    pub fn all_of(channel: &Channel) -> impl Iterator<Item = Self> + use<> {
        let number = channel.number;
        (0..=channel.decimals).rev().map(move |decimals| Self::new(number, decimals))
    }

    /// As a record has it: most channels in one byte of a varint.
    pub(super) fn compact(self) -> u64 {
        u64::from(self.number()) << 4 | u64::from(self.decimals())
    }

    /// From a record; `None` where no channel is written so.
    pub(super) fn from_compact(compact: u64) -> Option<Self> {
        let decimals = u16::try_from(compact & 0xf).ok().filter(|decimals| *decimals <= DECIMALS_MAX)?;
        let number = u16::try_from(compact >> 4).ok().filter(|number| *number <= 0xff)?;
        Some(Self(number | decimals << DECIMALS_SHIFT))
    }

    /// As it was written.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// As it is written.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The wire number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 & 0xff
    }

    /// The value is the integer divided by 10 to this power; no more than a class may have, whatever was written.
    #[must_use]
    pub fn decimals(self) -> u8 {
        u8::try_from((self.0 >> DECIMALS_SHIFT).min(DECIMALS_MAX)).unwrap_or(0)
    }

    /// What makes its integers those of a class with `decimals`, which never has fewer.
    #[must_use]
    pub fn factor_to(self, decimals: u8) -> i64 {
        10_i64.pow(decimals.min(9).saturating_sub(self.decimals()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_decimals_come_back_from_what_was_written() {
        for (number, decimals) in [(0, 0), (1, 3), (255, 9)] {
            let channel = StoredChannel::from_bits(StoredChannel::new(number, decimals).bits());
            assert_eq!((channel.number(), channel.decimals()), (number, decimals));
            assert_eq!(StoredChannel::from_compact(channel.compact()), Some(channel));
        }
        assert_eq!(StoredChannel::from_bits(u16::MAX).decimals(), 9);
        assert_eq!([2, 3, 1].map(|decimals| StoredChannel::new(1, 2).factor_to(decimals)), [1, 10, 1]);
    }
}
