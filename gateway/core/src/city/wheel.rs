//! A timing wheel: the devices whose deadline has come, found without a look at the others.
//!
//! Promise: [`Wheel::advance`] gives each device whose deadline is not after the new time, once, and no other device.
//! Time is a count of milliseconds that never goes back.
//!
//! Invariants: a device has at most one deadline. It stands at the level of the highest base-64 digit in which its
//! deadline differs from the present, in the slot of that digit; so all slots of a lower level come before those of a
//! higher one.
//! Cost: an earlier deadline is set in constant time. A step of time costs the slots and devices that it meets; until
//! its deadline comes, a device is moved at most once a level.
//! Bounds: 16 bytes a device and 3 KB.
//!
//! Deliberately absent: postponing and cancelling. A deadline that moved later is found out when the earlier one comes.

use crate::registry::DeviceIx;
use alloc::{boxed::Box, vec::Vec};

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Enough for every `u64`.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// In place of a device.
const NONE: u32 = u32::MAX;
/// In place of a deadline.
const NEVER: u64 = u64::MAX;

/// A device's deadline, and its neighbours in the slot.
#[derive(Debug, Clone, Copy)]
struct Entry {
    due_ms: u64,
    before: u32,
    after: u32,
}

/// Deadlines of devices.
#[derive(Debug)]
pub(crate) struct Wheel {
    now_ms: u64,
    entries: Vec<Entry>,
    /// The first device of each slot, by level.
    first: Box<[[u32; SLOTS]; LEVELS]>,
    /// A bit for each slot that holds a device, by level.
    taken: [u64; LEVELS],
}

impl Wheel {
    /// A wheel for so many devices, none of which has a deadline.
    pub(crate) fn new(devices: usize) -> Self {
        Self {
            now_ms: 0,
            entries: alloc::vec![Entry { due_ms: NEVER, before: NONE, after: NONE }; devices],
            first: Box::new([[NONE; SLOTS]; LEVELS]),
            taken: [0; LEVELS],
        }
    }

    /// The device's deadline is no later than this. One that has passed comes with the next step of time.
    pub(crate) fn no_later_than(&mut self, device: DeviceIx, due_ms: u64) {
        let Some(entry) = self.entries.get(device.at()) else { return };
        if entry.due_ms <= due_ms {
            return;
        }
        if entry.due_ms != NEVER {
            self.unlink(device.0);
        }
        self.link(device.0, due_ms.max(self.now_ms));
    }

    /// Time has come to `to_ms`: gives the devices that are due, in no particular order. They have no deadline then.
    pub(crate) fn advance(&mut self, to_ms: u64, mut due: impl FnMut(DeviceIx)) {
        while let Some((level, slot, from_ms)) = self.next_slot()
            && from_ms <= to_ms
        {
            self.now_ms = from_ms;
            self.taken[level] &= !(1 << slot);
            let mut device = core::mem::replace(&mut self.first[level][slot], NONE);
            while let Some(entry) = self.entries.get_mut(device as usize) {
                let Entry { due_ms, after, .. } = *entry;
                if level == 0 {
                    entry.due_ms = NEVER;
                    due(DeviceIx(device));
                } else {
                    self.link(device, due_ms);
                }
                device = after;
            }
        }
        self.now_ms = self.now_ms.max(to_ms);
    }

    /// The level and number of the next slot that holds a device, and when it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, taken) = (0..).zip(self.taken).find(|&(_, taken)| taken != 0)?;
        let slot = taken.trailing_zeros();
        let shift = level * DIGIT_BITS;
        let above = u64::MAX.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        Some((level as usize, slot as usize, self.now_ms & above | u64::from(slot) << shift))
    }

    /// The level and number of the slot of a deadline that is not before the present.
    fn slot_of(&self, due_ms: u64) -> (usize, usize) {
        let level = ((self.now_ms ^ due_ms) | 1).ilog2() / DIGIT_BITS;
        let slot = due_ms >> (level * DIGIT_BITS) & (SLOTS as u64 - 1);
        (level as usize, usize::try_from(slot).unwrap_or_default())
    }

    fn link(&mut self, device: u32, due_ms: u64) {
        let (level, slot) = self.slot_of(due_ms);
        let after = core::mem::replace(&mut self.first[level][slot], device);
        self.taken[level] |= 1 << slot;
        self.entries[device as usize] = Entry { due_ms, before: NONE, after };
        if let Some(next) = self.entries.get_mut(after as usize) {
            next.before = device;
        }
    }

    fn unlink(&mut self, device: u32) {
        let Entry { due_ms, before, after } = self.entries[device as usize];
        if let Some(next) = self.entries.get_mut(after as usize) {
            next.before = before;
        }
        if let Some(previous) = self.entries.get_mut(before as usize) {
            previous.after = after;
            return;
        }
        let (level, slot) = self.slot_of(due_ms);
        self.first[level][slot] = after;
        if after == NONE {
            self.taken[level] &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICES: u32 = 12;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u32, u64),
        Pass(u64),
    }

    /// Times of every magnitude.
    fn far() -> impl Strategy<Value = u64> {
        (0..64_u32, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..DEVICES, far()).prop_map(|(device, ms)| Step::Set(device, ms)),
            1 => (0..DEVICES, 0..9_u64).prop_map(|(device, ms)| Step::Set(device, ms)),
            2 => (0..40_u32, any::<u64>()).prop_map(|(shift, bits)| Step::Pass(bits >> (63 - shift))),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn devices_are_due_as_a_list_of_all_deadlines_says(steps in steps()) {
            let mut wheel = Wheel::new(DEVICES as usize);
            let mut deadlines = [NEVER; DEVICES as usize];
            let mut now_ms = 0_u64;
            for step in steps {
                match step {
                    Step::Set(device, in_ms) => {
                        // Half of them have passed already.
                        let at_ms = if in_ms % 2 == 0 { now_ms.saturating_add(in_ms) } else { now_ms.saturating_sub(in_ms) };
                        let known = &mut deadlines[device as usize];
                        *known = at_ms.min(*known);
                        wheel.no_later_than(DeviceIx(device), at_ms);
                    }
                    Step::Pass(by_ms) => {
                        now_ms = now_ms.saturating_add(by_ms).min(NEVER - 1);
                        let mut due = Vec::new();
                        wheel.advance(now_ms, |device| due.push(device.0));
                        due.sort_unstable();
                        let expected: Vec<u32> = (0..DEVICES)
                            .filter(|&device| deadlines[device as usize] <= now_ms)
                            .collect();
                        for &device in &expected {
                            deadlines[device as usize] = NEVER;
                        }
                        prop_assert_eq!(due, expected);
                    }
                }
            }
        }
    }
}
