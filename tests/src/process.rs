//! Processes that cannot outlive their test, free ports, and waiting by condition.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 40;
const POLL: Duration = Duration::from_millis(10);

/// A running program. Dropped, it is killed; if its test is failing, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard error, and standard output unless `stdout` names a file for it, go to the end of `log`.
    #[must_use]
    pub fn spawn(name: &str, mut command: Command, log: &Path, stdout: Option<&Path>) -> Self {
        let errors = File::options().create(true).append(true).open(log).expect("log opens");
        let output = match stdout {
            Some(path) => File::create(path).expect("output opens"),
            None => errors.try_clone().expect("log opens twice"),
        };
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.into(), child, log: log.into() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        // One that has ended by itself is gone as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and wait for the end.
    ///
    /// # Panics
    /// It did not end in time.
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        let signalled = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status();
        assert!(signalled.expect("kill runs").success(), "{} was gone before", self.name);
        self.wait(within)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It did not end in time.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(within, &format!("{name} ends"), || self.ended())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            println!("--- {} ({})\n{}", self.name, self.log.display(), tail.join("\n"));
        }
    }
}

/// A TCP port on loopback that was free just now.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

/// Polls `condition` until it answers.
///
/// # Panics
/// It did not within the deadline.
pub fn eventually<T>(within: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(POLL);
    }
}
