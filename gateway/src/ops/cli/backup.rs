//! `backup` and `restore`: a backup from a running gateway, or of a folder that no gateway uses, to a file; and back.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::ask::{AskError, Gateway};
use super::{Asking, Configured, assignment};
use crate::backup::restore::{Progress, RestoreError, Restored, Wanted};
use crate::backup::{self, BackupError, Contents, Manifest, Source, Totals};
use crate::clock::Clock;
use crate::setup::config::Faults;
use hunhe_store::{Store, StoreError};

/// What is to be saved, and where.
#[derive(Debug, Clone, Args)]
pub struct BackupOptions {
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Which gateway.
    #[command(flatten)]
    pub asking: Asking,
    /// Save the folder of a gateway that does not run, by its configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub config: Option<PathBuf>,
}

/// What is to be restored, and where.
#[derive(Debug, Clone, Args)]
pub struct RestoreOptions {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The configuration whose data_dir is to be filled; that folder must be empty or missing.
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir")]
    pub config: Option<PathBuf>,
    /// Set a key over file and environment; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment, requires = "config")]
    pub set: Vec<(String, String)>,
    /// The folder itself.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data_dir: Option<PathBuf>,
    /// Where the registry's files go, a folder that is empty or missing; without it they are left out.
    #[arg(long, value_name = "DIR")]
    pub registry_to: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The configuration is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The file is there.
    #[error("{} is there already: name another file", .0.display())]
    Exists(PathBuf),
    /// Nothing to save.
    #[error("{} is no data folder: name the configuration of a gateway that has run", .0.display())]
    NoData(PathBuf),
    /// A gateway runs.
    #[error("{} is in use: ask the gateway that runs there, without --config", .0.display())]
    InUse(PathBuf),
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The connection ended, or nothing came for a long time.
    #[error("the gateway stopped sending: see its log, and try again")]
    Cut(#[source] Option<reqwest::Error>),
    /// What came is no backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A newer version's folder.
    #[error(transparent)]
    Format(#[from] crate::decide::formats::FolderError),
    /// The store cannot be read.
    #[error("the embedded store cannot be read")]
    Store(#[source] StoreError),
    /// The disk says no.
    #[error("cannot {action} {path}")]
    Io {
        /// What.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The report cannot be passed on.
    #[error("cannot write the report")]
    Write(#[from] io::Error),
}

impl SaveError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Is it the asker's mistake?
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Faults(_) | Self::Exists(_) | Self::NoData(_))
    }
}

/// Saves; writes what the backup holds to `out`.
///
/// # Errors
/// [`SaveError`]. What was written of it lies in a file that ends in `.part`.
pub async fn backup(options: &BackupOptions, out: &mut dyn Write) -> Result<(), SaveError> {
    if options.to.exists() {
        return Err(SaveError::Exists(options.to.clone()));
    }
    let config = options.config.clone().map(|config| Configured { config, set: Vec::new() }.load());
    let mut saving = Saving::begin(&options.to);
    match config.transpose()? {
        Some(loaded) => {
            let store = offline_store(&loaded.config)?;
            let source = Source::of(&loaded.config);
            // An error here is one of writing, which has said more than the stream can.
            let mut failed = None;
            let given = backup::give(&source, &store, Clock::system().now_ms(), &mut |bytes| {
                saving.take(&bytes).map_err(|error| {
                    let words = error.to_string();
                    failed = Some(error);
                    io::Error::other(words)
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            given?;
        }
        None => stream(&options.asking, &mut saving).await?,
    }
    let (bytes, manifest, totals) = saving.finish()?;
    report(options, bytes, &manifest, &totals, out)
}

/// Opens the store of a gateway that does not run; opening it is what shows that none does.
fn offline_store(config: &crate::setup::config::Config) -> Result<Store, SaveError> {
    let dir = &config.data_dir;
    if !dir.join("journal").is_dir() {
        return Err(SaveError::NoData(dir.clone()));
    }
    // Opening the store writes already.
    crate::decide::formats::refuse_newer(&*hunhe_disk::real(), dir)?;
    match Store::open(hunhe_store::Options::new(dir.join("store"))) {
        Ok(store) => Ok(store),
        Err(error) if error.is_locked() => Err(SaveError::InUse(dir.clone())),
        Err(error) => Err(SaveError::Store(error)),
    }
}

async fn stream(asking: &Asking, saving: &mut Saving) -> Result<(), SaveError> {
    let mut answer = Gateway::at(asking).stream("/api/v1/backup").await?;
    loop {
        // The gateway itself is as patient with us.
        match tokio::time::timeout(backup::PATIENCE, answer.chunk()).await {
            Err(_) => return Err(SaveError::Cut(None)),
            Ok(Err(error)) => return Err(SaveError::Cut(Some(error))),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(bytes))) => saving.take(&bytes)?,
        }
    }
}

/// A file that gets its name when it is complete and on disk.
struct Saving {
    to: PathBuf,
    part: PathBuf,
    file: Option<File>,
    contents: Contents,
    bytes: u64,
    bar: Bar,
}

impl Saving {
    fn begin(to: &Path) -> Self {
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        Self {
            to: to.to_owned(),
            part: part.into(),
            file: None,
            contents: Contents::default(),
            bytes: 0,
            bar: Bar::new("backup"),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), SaveError> {
        self.contents.push::<BackupError>(bytes, |_| Ok(()))?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                // Whoever reads it knows who is behind a pseudonym.
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                none.insert(options.open(&self.part).map_err(SaveError::io("create", &self.part))?)
            }
        };
        file.write_all(bytes).map_err(SaveError::io("write", &self.part))?;
        self.bytes += bytes.len() as u64;
        let about = self.contents.manifest().map_or(0, |manifest| manifest.about_bytes);
        self.bar.show(self.contents.part(), self.bytes, about);
        Ok(())
    }

    fn finish(self) -> Result<(u64, Manifest, Totals), SaveError> {
        let Self { to, part, file, contents, bytes, bar } = self;
        let (manifest, totals) = contents.finish()?;
        bar.end();
        if let Some(file) = file {
            file.sync_all().map_err(SaveError::io("sync", &part))?;
        }
        // Unlike a rename, this never writes over another one.
        fs::hard_link(&part, &to).map_err(SaveError::io("give its name to", &to))?;
        fs::remove_file(&part).map_err(SaveError::io("remove", &part))?;
        let above = std::path::absolute(&to).ok().and_then(|to| to.parent().map(Path::to_owned));
        if let Some(above) = above {
            File::open(&above).and_then(|above| above.sync_all()).map_err(SaveError::io("sync", &above))?;
        }
        Ok((bytes, manifest, totals))
    }
}

fn report(
    options: &BackupOptions,
    bytes: u64,
    manifest: &Manifest,
    totals: &Totals,
    out: &mut dyn Write,
) -> Result<(), SaveError> {
    if options.asking.json {
        let held = json!({ "file": options.to, "bytes": bytes, "backup": manifest, "totals": totals });
        return Ok(writeln!(out, "{held:#}")?);
    }
    writeln!(out, "{}: {}", options.to.display(), size(bytes))?;
    Ok(write_held(manifest, totals, out)?)
}

fn write_held(manifest: &Manifest, totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    let taken = jiff::Timestamp::from_millisecond(manifest.created_ms).unwrap_or_default();
    writeln!(out, "taken        {taken:.0}, by version {}", manifest.version)?;
    let journal = manifest.journal;
    writeln!(out, "journal      records {} to {}", journal.first, journal.last)?;
    writeln!(out, "devices      {}", totals.devices)?;
    writeln!(out, "samples      {} in the store, and what the journal adds", totals.samples)?;
    writeln!(out, "quarantine   {} records", totals.quarantined)
}

/// Restores; writes what was restored to `out`.
///
/// # Errors
/// [`Faults`], [`RestoreError`], of `out`.
pub fn restore(options: &RestoreOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let data_dir = match (&options.data_dir, &options.config) {
        (Some(dir), _) => dir.clone(),
        (None, config) => {
            let config = config.clone().unwrap_or_default();
            Configured { config, set: options.set.clone() }.load()?.config.data_dir
        }
    };
    let wanted = Wanted {
        from: options.from.clone(),
        data_dir: data_dir.clone(),
        registry_to: options.registry_to.clone(),
        now_ms: Clock::system().now_ms(),
    };
    let (mut checking, mut restoring) = (Bar::new("check"), Bar::new("restore"));
    let restored = backup::restore(&wanted, &mut |Progress { checking: first, part, bytes, of }| {
        let bar = if first { &mut checking } else { &mut restoring };
        bar.show(part, bytes, of);
    });
    checking.end();
    restoring.end();
    let Restored { manifest, totals, registry_left_out } = restored?;
    if options.json {
        let left_out = json!({ "data_dir": data_dir, "backup": manifest, "totals": totals,
            "registry_files_left_out": registry_left_out });
        return Ok(writeln!(out, "{left_out:#}")?);
    }
    writeln!(out, "{}: restored", data_dir.display())?;
    write_held(&manifest, &totals, out)?;
    if registry_left_out > 0 {
        writeln!(
            out,
            "registry     {registry_left_out} files left out: name a folder with --registry-to to get them"
        )?;
    }
    writeln!(
        out,
        "Start the gateway as usual. Samples that it took after the backup, and that agents no longer hold, show as unexplained."
    )?;
    Ok(())
}

/// Whether a restore failed by its asker's mistake.
#[must_use]
pub fn is_restore_usage(error: &RestoreError) -> bool {
    matches!(error, RestoreError::NotEmpty { .. })
}

/// A line on the terminal that is written over; nothing where there is none.
struct Bar {
    doing: &'static str,
    is_terminal: bool,
    shown: Option<Instant>,
}

impl Bar {
    const EVERY: Duration = Duration::from_millis(100);

    fn new(doing: &'static str) -> Self {
        Self { doing, is_terminal: io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, part: &str, bytes: u64, of: u64) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < Self::EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        // Progress is no part of the outcome.
        let _ = write!(io::stderr(), "\r\u{1b}[K{}", line(self.doing, part, bytes, of));
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn line(doing: &str, part: &str, bytes: u64, of: u64) -> String {
    const WIDTH: usize = 24;
    // What is said before is about; it must not come out as more than all.
    let of = of.max(bytes).max(1);
    let filled = usize::try_from(u128::from(bytes) * WIDTH as u128 / u128::from(of)).unwrap_or(WIDTH);
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    format!("{doing} [{full}{empty}] {} of {}  {part}", size(bytes), size(of))
}

fn size(bytes: u64) -> String {
    let (unit_bytes, unit) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => (1_024, "KiB"),
        _ => (1_048_576, "MiB"),
    };
    format!("{}.{} {unit}", bytes / unit_bytes, bytes % unit_bytes * 10 / unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_and_never_fuller() {
        assert_eq!(
            line("backup", "journal", 512, 2_048),
            "backup [######..................] 512 B of 2.0 KiB  journal"
        );
        let over = line("backup", "store", 3 << 20, 1 << 20);
        assert!(over.contains("[########################] 3.0 MiB of 3.0 MiB"), "{over}");
        assert!(line("check", "", 0, 0).contains("[........................] 0 B"));
    }
}
