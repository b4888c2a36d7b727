//! What may stand in a backup, and in which order. Pure: bytes in, items out; every byte is checked before it is given out.
//!
//! Begin, then files (each a name with a length, then its bytes), then the store (each part a name, then its entries), then End
//! with the same totals as were counted on the way, then nothing. Names are few and known: no backup can make a restore write
//! anywhere else.

use super::{
    BackupError, Manifest, Totals,
    frame::{Decoder, Kind},
};

use bytes::Buf;
use std::path::PathBuf;

/// Where a file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the data folder.
    Data(PathBuf),
    /// Below the folder for the registry's files.
    Registry(PathBuf),
}

/// One thing in a backup.
#[derive(Debug)]
pub enum Item<'a> {
    /// What it is.
    Begin(&'a Manifest),
    /// A file begins; the one before is complete.
    File(Place, u64),
    /// The file's next bytes.
    Bytes(&'a [u8]),
    /// A part of the store begins.
    Space(&'a str),
    /// An entry of it.
    Entry(&'a [u8], &'a [u8]),
    /// All was given.
    End(Totals),
}

/// Reads a backup.
#[derive(Debug, Default)]
pub struct Contents {
    decoder: Decoder,
    manifest: Option<Manifest>,
    /// Of the current file.
    bytes_left: u64,
    part: &'static str,
    space: Option<String>,
    totals: Totals,
    ended: bool,
}

const LOGS: [&str; 3] = ["journal", "decided", "alerts"];

impl Contents {
    /// What is being read, for people.
    #[must_use]
    pub fn part(&self) -> &'static str {
        self.part
    }

    /// What it began with.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Takes the next bytes, of any number, and gives out what they complete.
    ///
    /// # Errors
    /// What is wrong with the backup; what `take` says.
    pub fn push<E: From<BackupError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.decoder.push(bytes);
        let Self { decoder, manifest, bytes_left, part, space, totals, ended } = self;
        loop {
            let at = decoder.at();
            let Some((kind, payload)) = decoder.next()? else { return Ok(()) };
            let malformed = |what: &str| E::from(malformed(what));
            check_order(kind, manifest.is_none(), *bytes_left, *ended)?;
            match kind {
                Kind::Begin => {
                    let read: Manifest =
                        serde_json::from_slice(payload).map_err(|_| malformed("a beginning that is none"))?;
                    read.formats.check()?;
                    take(Item::Begin(manifest.insert(read)))?;
                }
                Kind::File => {
                    let (length, name) =
                        payload.split_first_chunk::<8>().ok_or_else(|| malformed("a file without a name"))?;
                    let name = std::str::from_utf8(name).map_err(|_| malformed("a name that is no text"))?;
                    let place = place_of(name).ok_or_else(|| malformed(&format!("the name {name:?}")))?;
                    if space.is_some() {
                        return Err(malformed("a file behind the store"));
                    }
                    *part = part_of(name);
                    *bytes_left = u64::from_le_bytes(*length);
                    totals.files += 1;
                    take(Item::File(place, *bytes_left))?;
                }
                Kind::Bytes => {
                    *bytes_left = bytes_left
                        .checked_sub(payload.len() as u64)
                        .ok_or_else(|| malformed("a file that is too long"))?;
                    totals.file_bytes += payload.len() as u64;
                    take(Item::Bytes(payload))?;
                }
                Kind::Space => {
                    let name = std::str::from_utf8(payload).ok().filter(|name| hunhe_store::is_space(name));
                    let name = name.ok_or_else(|| malformed("an unknown part of the store"))?;
                    *part = "store";
                    take(Item::Space(space.insert(name.into())))?;
                }
                Kind::Entries => {
                    let space = space.as_deref().ok_or_else(|| malformed("entries of nothing"))?;
                    take_entries(payload, space, totals, &mut take)?;
                }
                Kind::End => {
                    let said: Totals =
                        serde_json::from_slice(payload).map_err(|_| malformed("an end that is none"))?;
                    if said != *totals {
                        return Err(BackupError::Damaged { at }.into());
                    }
                    *ended = true;
                    take(Item::End(said))?;
                }
                Kind::Failed => {
                    let words = String::from_utf8_lossy(payload);
                    let words = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                    return Err(BackupError::Failed { words }.into());
                }
            }
        }
    }

    /// There is no more: was it all?
    ///
    /// # Errors
    /// [`BackupError::Truncated`], [`BackupError::Malformed`].
    pub fn finish(self) -> Result<(Manifest, Totals), BackupError> {
        match self.manifest {
            Some(manifest) if self.ended && !self.decoder.has_rest() => Ok((manifest, self.totals)),
            _ if self.ended => Err(BackupError::Malformed { what: "something behind its end".into() }),
            _ => Err(BackupError::Truncated { at: self.decoder.at() }),
        }
    }
}

fn malformed(what: &str) -> BackupError {
    BackupError::Malformed { what: what.into() }
}

/// May a frame of this kind come now?
fn check_order(kind: Kind, is_first: bool, bytes_left: u64, ended: bool) -> Result<(), BackupError> {
    if ended {
        return Err(malformed("something behind its end"));
    }
    if is_first != (kind == Kind::Begin) && kind != Kind::Failed {
        return Err(malformed("no beginning"));
    }
    if bytes_left > 0 && !matches!(kind, Kind::Bytes | Kind::Failed) {
        return Err(malformed("a file that is too short"));
    }
    Ok(())
}

fn take_entries<E: From<BackupError>>(
    payload: &[u8],
    space: &str,
    totals: &mut Totals,
    take: &mut impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = payload;
    while !rest.is_empty() {
        let (key, value) = split_entry(&mut rest).ok_or_else(|| malformed("half an entry"))?;
        if !hunhe_store::is_key(key) {
            return Err(malformed("an entry whose key no store takes").into());
        }
        count(totals, space, value).map_err(BackupError::from)?;
        take(Item::Entry(key, value))?;
    }
    Ok(())
}

/// Counts an entry of the store.
pub(super) fn count(totals: &mut Totals, space: &str, value: &[u8]) -> Result<(), hunhe_store::StoreError> {
    totals.entries += 1;
    match space {
        "catalog" => totals.devices += 1,
        "quarantine" => totals.quarantined += 1,
        _ => totals.samples += hunhe_store::samples_in(space, value)?,
    }
    Ok(())
}

/// Appends an entry to a frame's payload.
pub(super) fn push_entry(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        payload.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    payload.extend_from_slice(key);
    payload.extend_from_slice(value);
}

fn split_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut behind = *rest;
    let lengths = [behind.try_get_u32_le().ok()?, behind.try_get_u32_le().ok()?];
    let [key, value] = lengths.map(|length| usize::try_from(length).ok());
    let (key, behind) = behind.split_at_checked(key?)?;
    let (value, behind) = behind.split_at_checked(value?)?;
    *rest = behind;
    Some((key, value))
}

fn part_of(name: &str) -> &'static str {
    let folders = ["journal", "decided", "alerts", "checkpoint", "registry"];
    let folder = name.split('/').next().unwrap_or(name);
    folders.into_iter().find(|known| *known == folder).unwrap_or("cursors")
}

/// What a terminal would not show as it stands: control characters, marks that turn the direction of text, the backslash.
fn is_hidden(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || letter == '\\'
}

/// Where a file of this name belongs; `None`: no backup has it.
pub(super) fn place_of(name: &str) -> Option<Place> {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty() && !part.starts_with('.') && part.len() <= 255 && !part.contains(is_hidden)
    };
    if !parts.iter().all(plain) {
        return None;
    }
    let known = match parts.as_slice() {
        ["pseudonyms.csv"] => true,
        [file] => file.strip_suffix(".cursor").is_some_and(|sink| !sink.is_empty()),
        [log, file] if LOGS.contains(log) => {
            *file == "log.lock"
                || file
                    .strip_suffix(".seg")
                    .is_some_and(|first| first.len() == 20 && first.bytes().all(|b| b.is_ascii_digit()))
        }
        ["checkpoint", file] => crate::decide::checkpoint::NAMES.contains(file),
        ["registry", below @ ..] if !below.is_empty() => {
            return Some(Place::Registry(below.iter().collect()));
        }
        _ => false,
    };
    known.then(|| Place::Data(parts.iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Formats, Records, frame};

    fn begin(formats: Formats) -> (Kind, Vec<u8>) {
        let manifest = Manifest {
            version: "9".into(),
            created_ms: 0,
            formats,
            journal: Records::default(),
            checkpoint: Default::default(),
            alerts: Records::default(),
            about_bytes: 0,
        };
        (Kind::Begin, serde_json::to_vec(&manifest).unwrap())
    }

    fn end(totals: Totals) -> (Kind, Vec<u8>) {
        (Kind::End, serde_json::to_vec(&totals).unwrap())
    }

    fn file(name: &str, bytes: u64) -> (Kind, Vec<u8>) {
        (Kind::File, [&bytes.to_le_bytes(), name.as_bytes()].concat())
    }

    fn refusal(frames: &[(Kind, Vec<u8>)]) -> Option<String> {
        let mut contents = Contents::default();
        let mut bytes = frame::header().to_vec();
        for (number, (kind, payload)) in frames.iter().enumerate() {
            bytes.extend(frame::encode(number as u64, *kind, payload));
        }
        let pushed = contents.push::<BackupError>(&bytes, |_| Ok(()));
        pushed.and_then(|()| contents.finish().map(drop)).err().map(|error| error.to_string())
    }

    #[test]
    fn a_newer_format_of_anything_in_it_is_refused_by_name() {
        let known = Formats::known();
        assert_eq!(refusal(&[begin(known), end(Totals::default())]), None);
        for newer in [
            Formats { checkpoint: known.checkpoint + 1, ..known },
            Formats { log: known.log + 1, ..known },
            Formats { store: known.store + 1, ..known },
        ] {
            let words = refusal(&[begin(newer), end(Totals::default())]).unwrap();
            assert!(words.starts_with("written by a newer Hunhe: "), "{words}");
        }
    }

    #[test]
    fn frames_that_are_whole_and_in_no_order_are_refused() {
        let wrong = end(Totals { files: 1, ..Totals::default() });
        let (begin, end) = (begin(Formats::known()), end(Totals::default()));
        let (long, bytes) = (file("main.cursor", 3), (Kind::Bytes, b"four".to_vec()));
        let space = |name: &str| (Kind::Space, name.as_bytes().to_vec());
        let half = (Kind::Entries, 5_u32.to_le_bytes().to_vec());
        for frames in [
            vec![end.clone()],
            vec![begin.clone(), begin.clone(), end.clone()],
            vec![begin.clone(), file("../x.cursor", 0), end.clone()],
            vec![begin.clone(), long.clone(), end.clone()],
            vec![begin.clone(), long.clone(), bytes, end.clone()],
            vec![begin.clone(), space("passwords"), end.clone()],
            vec![begin.clone(), space("meta"), half.clone(), end.clone()],
            vec![begin.clone(), half, end.clone()],
            vec![begin.clone(), space("meta"), file("main.cursor", 0), end.clone()],
            vec![begin.clone(), end.clone(), end.clone()],
        ] {
            let words = refusal(&frames).unwrap();
            assert!(words.contains("what no backup holds"), "{frames:?}: {words}");
        }
        assert!(refusal(&[begin, wrong]).unwrap().contains("damaged"));
    }

    #[test]
    fn a_key_that_no_store_takes_is_refused_and_ends_no_program() {
        let entry = |key: &[u8]| {
            let mut payload = Vec::new();
            push_entry(&mut payload, key, b"value");
            (Kind::Entries, payload)
        };
        let meta = (Kind::Space, b"meta".to_vec());
        for (key, taken) in [(&[7; 1][..], true), (&[7; 65_535], true), (&[], false), (&[7; 65_536], false)] {
            let said = end(Totals { entries: 1, ..Totals::default() });
            let words = refusal(&[begin(Formats::known()), meta.clone(), entry(key), said]);
            assert_eq!(words.is_none(), taken, "{} bytes: {words:?}", key.len());
            assert!(words.is_none_or(|words| words.contains("whose key no store takes")));
        }
    }

    #[test]
    fn a_name_leads_nowhere_but_where_it_belongs() {
        for name in [
            "journal/00000000000000000001.seg",
            "alerts/log.lock",
            "checkpoint/checkpoint-1",
            "main.cursor",
            "pseudonyms.csv",
        ] {
            assert_eq!(place_of(name), Some(Place::Data(name.into())), "{name}");
        }
        assert_eq!(place_of("registry/rules/gas.toml"), Some(Place::Registry("rules/gas.toml".into())));
        for name in [
            "",
            "/etc/passwd",
            "../x.cursor",
            "registry/../../x",
            "registry",
            "registry//x",
            "journal/1.seg",
            "journal/../../00000000000000000001.seg",
            "store/x",
            ".cursor",
            "restored.json",
            "checkpoint/checkpoint-2",
            "journal/x/00000000000000000001.seg",
            "main\n.cursor",
            "main\u{1b}[2J.cursor",
            "registry/rules/gas\u{7f}.toml",
            "registry/rules/\u{202e}lmot.sag.toml",
        ] {
            assert_eq!(place_of(name), None, "{name}");
        }
    }
}
