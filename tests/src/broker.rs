//! The real Mosquitto on the shipped files: `deploy/mosquitto.conf` with other ports and paths, `deploy/hunhe-gateway.acl` as it
//! stands, and for agents either `deploy/hunhe-agents.acl` or what `hunhe-gateway registry acl` writes.
//!
//! A line of the shipped file that is not where this looks for it fails every test that needs a broker. The tests' own
//! publishers stand for thousands of agents each, so they are users of their own behind the shipped list.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    agent, command_of,
    gateway::Gateway,
    mqtt,
    process::{Process, eventually, free_port},
    project_dir,
    publisher::Publisher,
    signals,
};

const READY: Duration = Duration::from_secs(20);
/// Whom the broker's process runs as where nothing is said: its files may then be anywhere.
const ROOT: &str = "root";
/// Whom the Debian package has it give up root for.
const OWN_USER: &str = "mosquitto";
/// The gateway's user at the broker.
pub const GATEWAY: &str = "gateway";
/// Publishers and listeners of the tests, who may write for every device and read what is said to agents and people.
const USERS: [&str; 22] = [
    "alarms",
    "backlog",
    "box",
    "detectors",
    "flood",
    "hostile",
    "judge",
    "listener",
    "load",
    "meters",
    "outbox-load",
    "speaker",
    "watcher",
    agent::ID,
    "load-0",
    "load-1",
    "load-2",
    "load-3",
    "load-4",
    "load-5",
    "load-6",
    "load-7",
];
const RIGHTS: [&str; 5] = [
    "topic write hunhe/v1/+/+/up",
    "topic write hunhe/v1/+/+/alarm",
    "topic read hunhe/v1/agents/+/durable",
    "topic read hunhe/v1/alerts/#",
    "topic read hunhe/v1/gateway/heartbeat",
];

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

/// Who may log in as an agent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agents<'a> {
    /// Their names.
    pub users: &'a [&'a str],
    /// The password of all; without it each has [`mqtt::password_of`].
    pub password: Option<&'a str>,
    /// Lines of the access list behind the shipped ones: which devices are behind a concentrator.
    pub own_lines: &'a str,
}

impl<'a> Agents<'a> {
    /// The shipped list with their lines, and their passwords.
    fn write(&self, dir: &Path) {
        let list = shipped("hunhe-agents.acl") + "\n" + self.own_lines;
        fs::write(dir.join("hunhe-agents.acl"), list).expect("an access list");
        write_users(&dir.join("hunhe-agents.passwd"), self.users, self.password);
    }

    /// Agents of a single device each, with passwords of their own.
    #[must_use]
    pub fn named(users: &'a [&'a str]) -> Self {
        Self { users, ..Self::default() }
    }
}

/// A broker.
#[derive(Debug)]
pub struct Mosquitto {
    /// The port on loopback of the listener for agents.
    pub port: u16,
    /// The same for the gateway.
    pub gateway_port: u16,
    /// The process.
    pub process: Process,
    dir: PathBuf,
    runs_as: &'static str,
    reloads: AtomicU64,
}

impl Mosquitto {
    /// Starts one with its data below `dir`, whose agents are the tests' publishers.
    #[must_use]
    pub fn start(dir: &Path, saving: Saving) -> Self {
        let lists = |dir: &Path| {
            let mut list = shipped("hunhe-agents.acl");
            for user in USERS {
                list += &format!("\nuser {user}\n{}\n", RIGHTS.join("\n"));
            }
            fs::write(dir.join("hunhe-agents.acl"), list).expect("an access list");
            write_users(&dir.join("hunhe-agents.passwd"), &USERS, None);
        };
        Self::start_with(dir, saving, ROOT, lists)
    }

    /// Starts one on the shipped files, with these users of the listener for agents.
    #[must_use]
    pub fn start_as_shipped(dir: &Path, saving: Saving, agents: &Agents<'_>) -> Self {
        Self::start_with(dir, saving, ROOT, |dir| agents.write(dir))
    }

    /// The same as a service manager starts it: it gives up root for its own user, who reads its files from then on.
    ///
    /// # Panics
    /// The tests do not run as root, or there is no such user.
    #[must_use]
    pub fn start_as_its_own_user(dir: &Path, saving: Saving, agents: &Agents<'_>) -> Self {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("its user must get in");
        Self::start_with(dir, saving, OWN_USER, |dir| agents.write(dir))
    }

    fn start_with(
        dir: &Path,
        saving: Saving,
        runs_as: &'static str,
        lists_of_agents: impl FnOnce(&Path),
    ) -> Self {
        let dir = dir.join("mosquitto");
        fs::create_dir_all(&dir).expect("folder");
        let (port, gateway_port) = (free_port(), free_port());
        let text = configuration(&dir, (port, gateway_port), saving) + &format!("user {runs_as}\n");
        fs::write(dir.join("mosquitto.conf"), text).expect("configuration");
        fs::write(dir.join("hunhe-gateway.acl"), shipped("hunhe-gateway.acl")).expect("an access list");
        write_users(&dir.join("hunhe-gateway.passwd"), &[GATEWAY], None);
        lists_of_agents(&dir);
        hand_over(&dir, runs_as);
        let process = spawn(&dir);
        let broker = Self { port, gateway_port, process, dir, runs_as, reloads: AtomicU64::new(0) };
        broker.await_ready();
        broker
    }

    /// Where its access list for agents is.
    #[must_use]
    pub fn agents_acl(&self) -> PathBuf {
        self.dir.join("hunhe-agents.acl")
    }

    /// Its access list for agents is from now on what `registry acl` writes for this gateway, with a user for each agent:
    /// with the password of [`mqtt::password_of`], or with this one. Lines of the test's own are put at its end.
    ///
    /// # Panics
    /// The command fails.
    pub fn admit_registry_of(&self, gateway: &Gateway, own_lines: &str, password: Option<&str>) {
        let own = self.dir.join("own.acl");
        fs::write(&own, own_lines).expect("lines");
        let mut command = command_of("hunhe-gateway");
        command.args(["registry", "acl", "--config"]).arg(gateway.configuration());
        command.arg("--out").arg(self.agents_acl()).arg("--with").arg(own);
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "{output:?}");
        self.reload(password);
    }

    /// Its users are from now on those that its access list for agents names, and it has read both again.
    fn reload(&self, password: Option<&str>) {
        let list = fs::read_to_string(self.agents_acl()).expect("an access list");
        let mut users: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("user ")).collect();
        // Known as soon as both files are read, and not before.
        let probe = format!("probe-{}", self.reloads.fetch_add(1, Ordering::Relaxed));
        users.push(&probe);
        // A test's own lines may name an agent again.
        users.sort_unstable();
        users.dedup();
        let file = self.dir.join("hunhe-agents.passwd");
        write_users(&file, &users, password);
        hand_over(&file, self.runs_as);
        signals::signal(self.process.id(), "-HUP");
        eventually(READY, "Mosquitto reads its lists again", || {
            Publisher::connect_with(self.port, &probe, password, 1).ok().map(drop)
        });
    }

    /// SIGKILL, and started again on the same port and data.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir);
        self.await_ready();
    }

    /// Stopped as its service manager does, and started again on the same port and data.
    ///
    /// # Panics
    /// It does not end.
    pub fn restart(&mut self) {
        assert!(self.process.terminate(READY).success(), "it ended with an error");
        self.process = spawn(&self.dir);
        self.await_ready();
    }

    fn await_ready(&self) {
        for port in [self.port, self.gateway_port] {
            eventually(READY, "Mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        }
    }
}

fn shipped(name: &str) -> String {
    let path = project_dir().join("deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The shipped file, with other ports and paths, and another rhythm of saving where a test kills the broker.
fn configuration(dir: &Path, (agents, gateway): (u16, u16), saving: Saving) -> String {
    let mut text = shipped("mosquitto.conf");
    let mut replace = |line: &str, by: &str| {
        let line = format!("\n{line}\n");
        assert_eq!(text.matches(&line).count(), 1, "deploy/mosquitto.conf has not once the line{line}");
        text = text.replace(&line, &format!("\n{by}\n"));
    };
    replace("listener 1883 127.0.0.1", &format!("listener {agents} 127.0.0.1"));
    replace("listener 1884 127.0.0.1", &format!("listener {gateway} 127.0.0.1"));
    for (key, name) in [
        ("password_file", "hunhe-agents.passwd"),
        ("acl_file", "hunhe-agents.acl"),
        ("password_file", "hunhe-gateway.passwd"),
        ("acl_file", "hunhe-gateway.acl"),
    ] {
        replace(&format!("{key} /etc/mosquitto/{name}"), &format!("{key} {}", dir.join(name).display()));
    }
    replace("persistence_location /var/lib/mosquitto/", &format!("persistence_location {}/", dir.display()));
    match saving {
        Saving::EveryMinute => {}
        Saving::OnChanges => {
            replace("autosave_interval 60", "autosave_on_changes true\nautosave_interval 100")
        }
        Saving::EverySecond => replace("autosave_interval 60", "autosave_interval 1"),
        Saving::Never => replace("persistence true", "persistence false"),
    }
    text
}

/// A file, or a folder with all in it, is this user's alone to change.
fn hand_over(path: &Path, user: &str) {
    if user == ROOT {
        return;
    }
    let changed = Command::new("chown").arg("-R").arg(format!("{user}:")).arg(path).status();
    assert!(changed.expect("chown runs").success(), "{} cannot be {user}'s", path.display());
}

/// Mosquitto's own program hashes the passwords.
fn write_users(path: &Path, users: &[&str], password: Option<&str>) {
    let password = |user: &str| password.map_or_else(|| mqtt::password_of(user), Into::into);
    let plain: String = users.iter().map(|user| format!("{user}:{}\n", password(user))).collect();
    let new = path.with_extension("new");
    fs::write(&new, plain).expect("a password file");
    if users.is_empty() {
        // The program refuses a file without users, the broker does not.
        fs::rename(&new, path).expect("a password file");
        return;
    }
    let hashed =
        Command::new("mosquitto_passwd").arg("-U").arg(&new).output().expect("mosquitto_passwd runs");
    assert!(hashed.status.success(), "{hashed:?}");
    fs::rename(&new, path).expect("a password file");
}

fn spawn(dir: &Path) -> Process {
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    Process::spawn("mosquitto", command, &dir.join("mosquitto.log"), None)
}
