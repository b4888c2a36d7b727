//! A staged state as a stream of frames. Holds one frame in memory, and reads each file once.

use super::{
    BackupError, Manifest, Totals,
    contents::{count, push_entry},
    frame::{self, Kind, PAYLOAD_BYTES},
    stage::{Source, Stage, Staged, stage},
};
use bytes::Bytes;
use hunhe_store::Store;
use std::{fs::File, io, io::Read};

/// Where the stream goes. An error means that nobody takes it any more.
pub type Giving<'a> = dyn FnMut(Bytes) -> io::Result<()> + 'a;

struct Stream<'a> {
    out: &'a mut Giving<'a>,
    frames: u64,
    totals: Totals,
}

/// Takes a backup and gives it to `out`. Where something fails, the last frame says what, in words.
///
/// # Errors
/// [`BackupError`].
pub fn give<'a>(
    source: &Source,
    store: &Store,
    created_ms: i64,
    out: &'a mut Giving<'a>,
) -> Result<(Manifest, Totals), BackupError> {
    let mut stream = Stream { out, frames: 0, totals: Totals::default() };
    let given = stream.all(source, store, created_ms);
    match &given {
        Ok(_) | Err(BackupError::Left(_)) => {}
        Err(error) => {
            let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
            let words: Vec<String> = chain.map(ToString::to_string).collect();
            stream.frame(Kind::Failed, words.join(": ").as_bytes())?;
        }
    }
    given
}

impl Stream<'_> {
    fn all(
        &mut self,
        source: &Source,
        store: &Store,
        created_ms: i64,
    ) -> Result<(Manifest, Totals), BackupError> {
        self.put(Bytes::copy_from_slice(&frame::header()))?;
        let stage: Stage = stage(source, store, created_ms)?;
        self.json(Kind::Begin, &stage.manifest)?;
        for file in &stage.files {
            self.file(file)?;
        }
        for space in stage.store.spaces() {
            self.frame(Kind::Space, space.as_bytes())?;
            let mut payload = Vec::new();
            stage.store.each(space, |key, value| {
                count(&mut self.totals, space, value)?;
                push_entry(&mut payload, key, value);
                if payload.len() < PAYLOAD_BYTES {
                    return Ok(());
                }
                let full = std::mem::take(&mut payload);
                self.frame(Kind::Entries, &full)
            })?;
            if !payload.is_empty() {
                self.frame(Kind::Entries, &payload)?;
            }
        }
        let totals = self.totals;
        self.json(Kind::End, &totals)?;
        Ok((stage.manifest.clone(), totals))
    }

    /// As long as it was when it was staged.
    fn file(&mut self, staged: &Staged) -> Result<(), BackupError> {
        let Staged { name, path, bytes } = staged;
        let mut payload = bytes.to_le_bytes().to_vec();
        payload.extend_from_slice(name.as_bytes());
        self.frame(Kind::File, &payload)?;
        let mut file = File::open(path).map_err(BackupError::io("open", path))?;
        let mut left = *bytes;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PAYLOAD_BYTES).min(PAYLOAD_BYTES);
            payload.resize(wanted, 0);
            file.read_exact(&mut payload).map_err(BackupError::io("read", path))?;
            self.frame(Kind::Bytes, &payload)?;
            left -= wanted as u64;
        }
        self.totals.files += 1;
        self.totals.file_bytes += bytes;
        Ok(())
    }

    fn json(&mut self, kind: Kind, value: &impl serde::Serialize) -> Result<(), BackupError> {
        // Numbers and texts always serialise.
        self.frame(kind, &serde_json::to_vec(value).unwrap_or_default())
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), BackupError> {
        let bytes = frame::encode(self.frames, kind, payload);
        self.frames += 1;
        self.put(bytes.into())
    }

    fn put(&mut self, bytes: Bytes) -> Result<(), BackupError> {
        (self.out)(bytes).map_err(BackupError::Left)
    }
}
