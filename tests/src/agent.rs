//! The edge agent as its operator starts it, replaying the recording.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    command_under,
    mqtt::password_of,
    process::Process,
    recording::{self, Recording},
    seeds,
};

/// The id of the agent that replays.
pub const ID: &str = "recorder";

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// The process; it ends by itself when all is durable.
    pub process: Process,
    dir: PathBuf,
}

impl Agent {
    /// Starts one that replays `recording` as fast as it can to the broker at `port`, holding at most `samples_max`
    /// samples a device in its outbox on disk: the fewer, the more often it waits for the gateway's watermark.
    #[must_use]
    pub fn start(dir: &Path, port: u16, recording: &Recording, samples_max: u32) -> Self {
        Self::start_at(dir, port, recording, samples_max, 1e9)
    }

    /// The same at a speed: so many seconds of the recording each second.
    #[must_use]
    pub fn start_at(dir: &Path, port: u16, recording: &Recording, samples_max: u32, speed: f64) -> Self {
        Self::start_under(dir, port, recording, samples_max, speed, &[])
    }

    /// The same by a program that ends up as the agent itself.
    #[must_use]
    pub fn start_under(
        dir: &Path,
        port: u16,
        recording: &Recording,
        samples_max: u32,
        speed: f64,
        wrapper: &[String],
    ) -> Self {
        let dir = dir.join("agent");
        fs::create_dir_all(&dir).expect("folder");
        let mut text = format!(
            "agent = \"{ID}\"\nclasses = {:?}\nstate_dir = {:?}\n[broker]\nport = {port}\nusername = \"{ID}\"\n\
             password_file = {:?}\n[link]\n\
             backoff_ms_max = 1000\n[outbox]\nsamples_max = {samples_max}\ndrain_s = 600\n[clock]\nspeed = {speed:e}\n",
            seeds("classes"),
            dir.join("outbox"),
            dir.join("password"),
        );
        for (device, class) in &recording.devices {
            text += &format!(
                "[[devices]]\nid = \"{device}\"\nclass = \"{class}\"\ndriver = \"replay\"\nrecording = {:?}\n",
                recording::folder()
            );
        }
        fs::write(dir.join("password"), password_of(ID)).expect("a password");
        fs::write(dir.join("edge.toml"), text).expect("configuration");
        let process = spawn(&dir, wrapper);
        Self { process, dir }
    }

    /// SIGKILL, and started again on the same outbox.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir, &[]);
    }
}

fn spawn(dir: &Path, wrapper: &[String]) -> Process {
    let mut command = command_under("hunhe-edge", wrapper);
    command.arg("run").arg("--json").arg("--config").arg(dir.join("edge.toml")).env("RUST_LOG", "info");
    Process::spawn("hunhe-edge", command, &dir.join("edge.log"), Some(&dir.join("edge.json")))
}
