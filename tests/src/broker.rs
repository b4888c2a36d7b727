//! The real Mosquitto, with the settings of `deploy/mosquitto.conf`, apart from who may connect.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::process::{Process, eventually, free_port};

const READY: Duration = Duration::from_secs(10);

/// When the broker writes what it holds; each time it writes all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// Every minute and at its end, as in `deploy/mosquitto.conf`.
    EveryMinute,
    /// Every hundred changes: where it is to be killed.
    OnChanges,
    /// Every second: where it is to be killed under a load that would have it write all the time.
    EverySecond,
    /// Never: what it held is gone with it, sessions and all.
    Never,
}

/// A broker.
#[derive(Debug)]
pub struct Mosquitto {
    /// Its port on loopback.
    pub port: u16,
    /// The process.
    pub process: Process,
    dir: PathBuf,
}

impl Mosquitto {
    /// Starts one with its data below `dir`.
    #[must_use]
    pub fn start(dir: &Path, saving: Saving) -> Self {
        let dir = dir.join("mosquitto");
        fs::create_dir_all(&dir).expect("folder");
        let port = free_port();
        let saved = saving;
        let saving = match saved {
            Saving::EveryMinute => "autosave_interval 60",
            Saving::OnChanges => "autosave_on_changes true\nautosave_interval 100",
            Saving::EverySecond | Saving::Never => "autosave_interval 1",
        };
        let persistence = saved != Saving::Never;
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_queued_bytes 1073741824\n\
             max_inflight_messages 4096\nset_tcp_nodelay true\nmax_packet_size 131072\npersistence {persistence}\n\
             persistence_location {}/\n{saving}\n\
             persistent_client_expiration 14d\nlog_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\n",
            dir.display()
        );
        fs::write(dir.join("mosquitto.conf"), text).expect("configuration");
        let process = spawn(&dir);
        let broker = Self { port, process, dir };
        broker.await_ready();
        broker
    }

    /// SIGKILL, and started again on the same port and data.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir);
        self.await_ready();
    }

    fn await_ready(&self) {
        eventually(READY, "Mosquitto listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }
}

fn spawn(dir: &Path) -> Process {
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    Process::spawn("mosquitto", command, &dir.join("mosquitto.log"), None)
}
